"""Kernels that are called through a pointer: compiled once instead of into every caller, which keeps the first run
short.

Uncompiled, the pointer words hold nothing, and `hypervisor.engine.compiling.plain` registers the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypervisor.engine import block as b_
from hypervisor.engine.jit import COMPILED, call1, call2, call3, call4, call5, call6, kernel, ld64

_F_WALK, _F_TRANSLATE, _F_READ, _F_WRITE, _F_DELIVER, _F_DECODE = (
    b_.F_WALK, b_.F_TRANSLATE, b_.F_READ, b_.F_WRITE, b_.F_DELIVER, b_.F_DECODE,
)  # fmt: skip
_F_OWN, _F_COVERED, _F_REST_OF_FILL = b_.F_OWN, b_.F_COVERED, b_.F_REST_OF_FILL
_F_WALK_AND_KEEP, _F_RUN = b_.F_WALK_AND_KEEP, b_.F_RUN

if COMPILED:

    @kernel
    def walk(b, va, access, how):  # type: ignore[no-untyped-def]
        """See `page_walk.walk`."""
        return call4(ld64(b + _F_WALK), b, va, access, how)

    @kernel
    def translate(b, va, access, how):  # type: ignore[no-untyped-def]
        """See `guest_tlb.translate`."""
        return call4(ld64(b + _F_TRANSLATE), b, va, access, how)

    @kernel
    def walk_and_keep(b, va, access, how, way):  # type: ignore[no-untyped-def]
        """See `guest_tlb.walk_and_keep`."""
        return call5(ld64(b + _F_WALK_AND_KEEP), b, va, access, how, way)

    @kernel
    def read_bytes(b, va, size):  # type: ignore[no-untyped-def]
        """See `supervisor.read_bytes`."""
        return call3(ld64(b + _F_READ), b, va, size)

    @kernel
    def write_bytes(b, va, size, value, how):  # type: ignore[no-untyped-def]
        """See `supervisor.write_bytes`."""
        return call5(ld64(b + _F_WRITE), b, va, size, value, how)

    @kernel
    def deliver(b, vector, error, kind, rip, inside):  # type: ignore[no-untyped-def]
        """See `events.deliver`."""
        return call6(ld64(b + _F_DELIVER), b, vector, error, kind, rip, inside)

    @kernel
    def decode(b):  # type: ignore[no-untyped-def]
        """See `decode.decode`."""
        return call1(ld64(b + _F_DECODE), b)

    @kernel
    def run(b):  # type: ignore[no-untyped-def]
        """See `run_loop.run`."""
        return call1(ld64(b + _F_RUN), b)

    @kernel
    def own(b, page):  # type: ignore[no-untyped-def]
        """See `gate.own`."""
        return call2(ld64(b + _F_OWN), b, page)

    @kernel
    def covered(b, page):  # type: ignore[no-untyped-def]
        """See `access.covered`."""
        return call2(ld64(b + _F_COVERED), b, page)

    @kernel
    def rest_of_fill(b, address, access, index, gpa):  # type: ignore[no-untyped-def]
        """See `fill.rest_of_fill`."""
        return call5(ld64(b + _F_REST_OF_FILL), b, address, access, index, gpa)

else:
    _functions: dict[str, Callable[..., Any]] = {}

    def register(functions: dict[str, Callable[..., Any]]) -> None:
        """Say what `walk` and its neighbours are, uncompiled: nothing here may import what imports this."""
        _functions.update(functions)

    def walk(b: int, va: int, access: int, how: int) -> Any:
        """See `page_walk.walk`."""
        return _functions["walk"](b, va, access, how)

    def translate(b: int, va: int, access: int, how: int) -> Any:
        """See `guest_tlb.translate`."""
        return _functions["translate"](b, va, access, how)

    def walk_and_keep(b: int, va: int, access: int, how: int, way: int) -> Any:
        """See `guest_tlb.walk_and_keep`."""
        return _functions["walk_and_keep"](b, va, access, how, way)

    def read_bytes(b: int, va: int, size: int) -> Any:
        """See `supervisor.read_bytes`."""
        return _functions["read_bytes"](b, va, size)

    def write_bytes(b: int, va: int, size: int, value: int, how: int) -> Any:
        """See `supervisor.write_bytes`."""
        return _functions["write_bytes"](b, va, size, value, how)

    def deliver(b: int, vector: int, error: int, kind: int, rip: int, inside: int) -> Any:
        """See `events.deliver`."""
        return _functions["deliver"](b, vector, error, kind, rip, inside)

    def decode(b: int) -> Any:
        """See `decode.decode`."""
        return _functions["decode"](b)

    def run(b: int) -> Any:
        """See `run_loop.run`."""
        return _functions["run"](b)

    def own(b: int, page: int) -> Any:
        """See `gate.own`."""
        return _functions["own"](b, page)

    def covered(b: int, page: int) -> Any:
        """See `access.covered`."""
        return _functions["covered"](b, page)

    def rest_of_fill(b: int, address: int, access: int, index: int, gpa: int) -> Any:
        """See `fill.rest_of_fill`."""
        return _functions["rest_of_fill"](b, address, access, index, gpa)
