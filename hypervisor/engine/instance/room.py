"""Address space for an engine, asked for first: Unicorn ends the process where it cannot have it."""

from __future__ import annotations

import mmap

from hypervisor.errors import ConfigError
from hypervisor.units import MIB

CODE_CACHE, LEAST_CODE_CACHE, MOST_CODE_CACHE = 64 * MIB, MIB, 1024 * MIB
"""Bytes for translated code that a pCPU has if nothing else is said, and that it can have at least and at most."""
REST = 64 * MIB
"""Bytes that an engine takes beside its translated code, with room to spare: tables of translations, lists, stacks."""


def check_room(code_cache: int) -> None:
    """Raise `ConfigError` if an engine with ``code_cache`` bytes for translated code cannot be had."""
    try:
        mmap.mmap(-1, code_cache + REST).close()
    except (OSError, MemoryError) as error:
        raise ConfigError(
            f"A physical CPU needs {(code_cache + REST) // MIB} MiB of address space, which cannot be had ({error}). "
            "Ask for less (code_cache=, memory, fewer physical CPUs), or raise the limit (ulimit -v)."
        ) from error
