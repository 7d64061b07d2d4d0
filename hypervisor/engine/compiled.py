"""Turning a user's function over arrays into a kernel over addresses."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

COMPILED = os.environ.get("HYPERVISOR_KERNELS") != "plain"


def wrap(function: Callable[..., int], words: int, keys: tuple[tuple[int, int, int], ...]) -> Any:
    """A function of five 64-bit words that calls ``function(state, regs, first, second, value)``.

    ``state`` and ``regs`` become arrays of ``words`` and 16 words. ``keys`` are (which, start, stop): the call is
    passed on (result 0) unless argument number ``which`` (0 first, 1 second) lies in the half-open range.
    """
    if not COMPILED:
        return _wrap_plain(function, words, keys)
    from numba import carray, njit, types
    from numba.extending import intrinsic

    @intrinsic
    def pointer(typingctx, address):  # type: ignore[no-untyped-def]  # numba's protocol is untyped
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return builder.inttoptr(args[0], context.get_value_type(types.CPointer(types.int64)))

        return types.CPointer(types.int64)(types.int64), codegen

    inner = njit(function)
    first_start, first_stop = next(((a, z) for n, a, z in keys if n == 0), (-(1 << 63), (1 << 63) - 1))
    second_start, second_stop = next(((a, z) for n, a, z in keys if n == 1), (-(1 << 63), (1 << 63) - 1))

    def handler(state, cpu, first, second, value):  # type: ignore[no-untyped-def]
        if first < first_start or first >= first_stop or second < second_start or second >= second_stop:
            return 0
        return inner(carray(pointer(state), (words,)), carray(pointer(cpu), (16,)), first, second, value)

    return handler


def _wrap_plain(function: Callable[..., int], words: int, keys: tuple[tuple[int, int, int], ...]) -> Any:
    """The same, uncompiled."""

    def handler(state: int, cpu: int, first: int, second: int, value: int) -> int:
        if any(not start <= (first, second)[which] < stop for which, start, stop in keys):
            return 0
        arrays = [(ctypes.c_int64 * length).from_address(at) for length, at in ((words, state), (16, cpu))]
        return int(function(*arrays, first, second, value))

    return handler
