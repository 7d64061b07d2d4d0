"""Where compiled kernels are kept, so that only the first run after an install compiles.

The place is ``$HYPERVISOR_CACHE``, else ``$XDG_CACHE_HOME/hypervisor``, else ``~/.cache/hypervisor``, else a directory
of this user under the temporary directory: the package directory itself may be read-only. Its last part is a digest of
everything that the machine code depends on, because numba looks at a kernel's own file only and would keep a stale copy
of a kernel that it calls.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
from functools import cache as remember
from importlib.metadata import version
from pathlib import Path

_NEVER_COMPILED = frozenset(
    ("__init__", "cache", "interpose", "native", "pcpu", "plain", "selftest", "state", "tables", "task_switch")
)
"""Modules of this room that no kernel depends on."""


@remember
def digest() -> str:
    """A name for this version of the kernels: sources, compiler and processor."""
    hasher = hashlib.sha256()
    here = Path(__file__).parent
    sources = sorted(source for source in here.glob("*.py") if source.stem not in _NEVER_COMPILED)
    for source in [*sources, *sorted(here.glob("kernels/*.py")), here.parent / "arch" / "exits.py"]:
        hasher.update(source.name.encode())
        hasher.update(source.read_bytes())
    for part in (version("numba"), version("llvmlite"), sys.version, platform.machine(), platform.processor()):
        hasher.update(part.encode())
    return hasher.hexdigest()[:16]


@remember
def directory() -> Path:
    """The directory for this version's kernels, made if it was not there."""
    for base in _bases():
        place = base / digest()
        try:
            for path in (base, place):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(place, os.W_OK) and _is_ours(base) and _is_ours(place):
                return place
        except OSError:
            continue
    return Path(tempfile.mkdtemp(prefix="hypervisor-"))


def _bases() -> list[Path]:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    bases = [os.environ.get("HYPERVISOR_CACHE", "")]
    bases += [os.path.join(os.environ.get("XDG_CACHE_HOME", ""), "hypervisor")]
    bases += [os.path.join(os.path.expanduser("~"), ".cache", "hypervisor")]
    bases += [os.path.join(tempfile.gettempdir(), f"hypervisor-{user}")]
    return [Path(base) for base in bases if os.path.isabs(base)]


def _is_ours(path: Path) -> bool:
    """Whether nobody else can put files there: what is in the cache is executed."""
    if not hasattr(os, "getuid"):
        return True
    facts = path.stat()
    return facts.st_uid == os.getuid() and not facts.st_mode & 0o022


def is_warm() -> bool:
    """Whether this version's kernels have been compiled already."""
    return (directory() / "complete").exists()


def mark_complete() -> None:
    """Remember that every kernel has been compiled into `directory`."""
    (directory() / "complete").touch()
