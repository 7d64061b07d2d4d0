"""Memory of this process from one place to another."""

from __future__ import annotations

from hypervisor.engine.jit import kernel, ld64, st64


@kernel
def copy(to, start, size):  # type: ignore[no-untyped-def]
    """Copy ``size`` bytes, a multiple of 8, from ``start`` to ``to``, which do not overlap."""
    for at in range(0, size, 8):
        st64(to + at, ld64(start + at))
    return 0


__all__ = ["copy"]
