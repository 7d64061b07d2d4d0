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

_NEVER_COMPILED = ("__init__", "cache", "native", "pcpu", "plain", "selftest", "state", "tables", "task_switch")
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
    bases = [Path(os.environ["HYPERVISOR_CACHE"])] if os.environ.get("HYPERVISOR_CACHE") else []
    if os.environ.get("XDG_CACHE_HOME"):
        bases.append(Path(os.environ["XDG_CACHE_HOME"]) / "hypervisor")
    bases.append(Path(os.path.expanduser("~")) / ".cache" / "hypervisor")
    bases.append(Path(tempfile.gettempdir()) / f"hypervisor-{os.getuid() if hasattr(os, 'getuid') else 'user'}")
    for base in bases:
        place = base / digest()
        try:
            place.mkdir(parents=True, exist_ok=True)
            if os.access(place, os.W_OK):
                return place
        except OSError:
            continue
    return Path(tempfile.mkdtemp(prefix="hypervisor-"))


def is_warm() -> bool:
    """Whether this version's kernels have been compiled already."""
    return (directory() / "complete").exists()


def mark_complete() -> None:
    """Remember that every kernel has been compiled into `directory`."""
    (directory() / "complete").touch()
