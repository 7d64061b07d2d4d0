"""Assembling attacks."""

from __future__ import annotations

from functools import cache

from hypervisor.assembler import assemble
from tests.hostile.scenes import CODE

_WIDTH = {"real": 16, "v86": 16, "long": 64}


@cache
def asm(source: str, mode: str, origin: int | None = None) -> bytes:
    """Code for a machine in ``mode``, to stand at ``origin``."""
    width = _WIDTH.get(mode, 32)
    return assemble(source, origin=(0 if width == 16 else CODE) if origin is None else origin, mode=width).code
