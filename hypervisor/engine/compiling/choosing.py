"""Which kernels run: those that were compiled here for this very processor, else those that came with the package."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hypervisor.engine.compiling import cache
from hypervisor.engine.compiling.host_processor import LEVEL, lacks
from hypervisor.engine.compiling.kernel_file import KernelFile, Unsound, unpack

SHIPPED = Path(__file__).parent / f"{LEVEL}.kernels"
"""Where the package brings them: a wheel does, a checkout does not (`shipping`)."""


class Chosen(NamedTuple):
    """Kernels that can run."""

    kernels: KernelFile
    path: Path

    @property
    def shipped(self) -> bool:
        """Whether they came with the package."""
        return self.path == SHIPPED


def choose() -> Chosen | str:
    """The kernels that run here, or else why there are none: a clause that may follow "as".

    A damaged file is never passed over for the other one: its kernels are compiled anew, and it is whole again. Raises
    `EngineError` for a file in the cache that somebody else may have written.
    """
    path = cache.found()
    try:
        if path is not None:
            return Chosen(_read(path, cache.read(path)), path)
        return Chosen(_shipped(), SHIPPED)
    except Unsound as reason:
        return str(reason)


def _shipped() -> KernelFile:
    """Raises `Unsound`, with a clause."""
    try:
        data = SHIPPED.read_bytes()
    except FileNotFoundError:
        raise Unsound("this installation came without any") from None
    except OSError as problem:
        raise Unsound(f"{SHIPPED} cannot be read ({problem.strerror})") from None
    if lacking := lacks():
        raise Unsound(f"this processor has no {', '.join(lacking)}, and those of the package are for {LEVEL}")
    return _read(SHIPPED, data)


def _read(path: Path, data: bytes) -> KernelFile:
    """Raises `Unsound`, with a clause."""
    try:
        kernels = unpack(data)
    except Unsound as problem:
        raise Unsound(f"{path} {problem}") from None
    if kernels.made_of != cache.made_of():
        raise Unsound(f"{path} was compiled from other sources")
    return kernels


__all__ = ["SHIPPED", "Chosen", "choose"]
