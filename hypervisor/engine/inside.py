"""Turning a user's function over arrays into a kernel over addresses."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from hypervisor.arch.exits import ExitKind
from hypervisor.engine.block import signed

COMPILED = os.environ.get("HYPERVISOR_KERNELS") != "plain"

RAISED = -8
"""Where, from its state's address, a handler notes that it has raised an exception."""

_ANY = (-(1 << 63), (1 << 63) - 1)


class Inside(NamedTuple):
    """A compiled handler for the engine's tables: its kind, the addresses that it serves (None where it decides by
    itself), its machine code and its state.
    """

    kind: ExitKind
    where: range | None
    address: int
    state: int


def wrap(function: Callable[..., int], words: int, keys: tuple[range | None, ...]) -> Any:
    """A function of five 64-bit words that calls ``function(state, regs, first, second, value)``.

    ``state`` and ``regs`` become arrays of ``words`` and 16 words. The call is passed on (result 0) unless each of the
    first arguments lies in its key. An exception is noted at `RAISED`, with result 0.
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

    inner = njit(function, boundscheck=True)
    bounds = [_ANY if key is None else (signed(key.start), signed(key.stop - 1)) for key in keys] + [_ANY, _ANY]
    (first_start, first_last), (second_start, second_last) = bounds[:2]

    def handler(state, cpu, first, second, value):  # type: ignore[no-untyped-def]
        if first < first_start or first > first_last or second < second_start or second > second_last:
            return 0
        try:
            return inner(carray(pointer(state), (words,)), carray(pointer(cpu), (16,)), first, second, value)
        except Exception:
            carray(pointer(state + RAISED), (1,))[0] = 1
            return 0

    return handler


def _wrap_plain(function: Callable[..., int], words: int, keys: tuple[range | None, ...]) -> Any:
    """The same, uncompiled."""

    def handler(state: int, cpu: int, first: int, second: int, value: int) -> int:
        unsigned = (first & (1 << 64) - 1, second & (1 << 64) - 1)
        if any(key is not None and argument not in key for key, argument in zip(keys, unsigned, strict=False)):
            return 0
        arrays = [(ctypes.c_int64 * length).from_address(at) for length, at in ((words, state), (16, cpu))]
        try:
            return int(function(*arrays, first, second, value))
        except Exception:  # what it was is told when `hypervisor.traps.compiled` makes the call again
            ctypes.c_int64.from_address(state + RAISED).value = 1
            return 0

    return handler
