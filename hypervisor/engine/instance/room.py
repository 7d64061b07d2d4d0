"""Room for translated code: how much of it an engine has, and address space for it, asked for first, as Unicorn ends
the process where it cannot have it.

VMs that share a pCPU have code of their own each, and in room for one they would empty it for each other again and
again. So there is room for each VM that has been there, of `SHARING` at most; address space is reserved for those.
"""

from __future__ import annotations

import mmap

from hypervisor.errors import ConfigError
from hypervisor.units import MIB

CODE_CACHE, LEAST_CODE_CACHE, MOST_CODE_CACHE = 64 * MIB, MIB, 1024 * MIB
"""Bytes for translated code of one VM that a pCPU has if nothing else is said, that it can have at least, and that it
has of all VMs together at most.
"""
SHARING = 4
"""Of how many VMs a pCPU has room for the code, at most."""
REST = 64 * MIB
"""Bytes that an engine takes beside its translated code, with room to spare: tables of translations, lists, stacks."""


def room_for(vms: int, code_cache: int) -> int:
    """Bytes for translated code of so many VMs that have been on a pCPU, with ``code_cache`` for each."""
    return min(max(1, min(vms, SHARING)) * code_cache, MOST_CODE_CACHE)


def check_room(room: int) -> None:
    """Raise `ConfigError` if an engine with so many bytes for translated code cannot be had."""
    try:
        mmap.mmap(-1, room + REST).close()
    except (OSError, MemoryError) as error:
        raise ConfigError(
            f"A physical CPU needs {(room + REST) // MIB} MiB of address space, which cannot be had ({error}). "
            "Ask for less (code_cache=, memory, fewer physical CPUs), or raise the limit (ulimit -v)."
        ) from error
