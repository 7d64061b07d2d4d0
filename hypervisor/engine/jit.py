"""Machine words, host memory and calls, in two forms.

The kernels in `hypervisor.engine.kernels` are plain Python functions over 64-bit signed words. Compiled (the normal
form) their loads, stores and calls become machine instructions; uncompiled (``HYPERVISOR_KERNELS=plain``) they are
ctypes accesses with the same results, a thousand times slower. The uncompiled form is the specification: a test runs
both on the same inputs.

All words are *signed* 64-bit: mixing signed and unsigned integers makes floating point in numba. ``>>`` is therefore
arithmetic, and a right shift is followed by a mask. Where a sum can leave 64 bits it goes through `s64`.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from hypervisor.errors import ConfigError

_CHOICE = os.environ.get("HYPERVISOR_KERNELS", "compiled")
if _CHOICE not in ("compiled", "plain"):
    raise ConfigError(f"HYPERVISOR_KERNELS={_CHOICE!r}: choose 'compiled' or 'plain'.")

COMPILED = _CHOICE == "compiled"
"""Whether kernels run compiled in this process."""

_MASK64 = (1 << 64) - 1

if COMPILED:
    import numba
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    def _load(bits: int) -> Any:
        @intrinsic
        def load(typingctx, address):  # type: ignore[no-untyped-def]  # numba's protocol is untyped
            def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
                pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
                return _widen(builder, builder.load(pointer, align=1))

            return types.int64(types.int64), codegen

        return load

    def _widen(builder: Any, value: Any) -> Any:
        return value if value.type.width == 64 else builder.zext(value, ir.IntType(64))

    def _store(bits: int) -> Any:
        @intrinsic
        def store(typingctx, address, value):  # type: ignore[no-untyped-def]
            def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
                word = args[1] if bits == 64 else builder.trunc(args[1], ir.IntType(bits))
                builder.store(word, builder.inttoptr(args[0], ir.IntType(bits).as_pointer()), align=1)
                return context.get_dummy_value()

            return types.void(types.int64, types.int64), codegen

        return store

    def _exchange(operation: str) -> Any:
        @intrinsic
        def exchange(typingctx, address, value):  # type: ignore[no-untyped-def]
            def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
                pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
                return builder.atomic_rmw(operation, pointer, args[1], "seq_cst")

            return types.int64(types.int64, types.int64), codegen

        return exchange

    def _call(count: int) -> Any:
        word = ir.IntType(64)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            function = builder.inttoptr(args[0], ir.FunctionType(word, [word] * count).as_pointer())
            return builder.call(function, list(args[1:]))

        signature = types.int64(*[types.int64] * (count + 1))
        if count == 1:

            @intrinsic
            def call(typingctx, function, a):  # type: ignore[no-untyped-def]
                return signature, codegen
        elif count == 2:

            @intrinsic
            def call(typingctx, function, a, b):  # type: ignore[no-untyped-def]
                return signature, codegen
        elif count == 3:

            @intrinsic
            def call(typingctx, function, a, b, c):  # type: ignore[no-untyped-def]
                return signature, codegen
        elif count == 4:

            @intrinsic
            def call(typingctx, function, a, b, c, d):  # type: ignore[no-untyped-def]
                return signature, codegen
        elif count == 5:

            @intrinsic
            def call(typingctx, function, a, b, c, d, e):  # type: ignore[no-untyped-def]
                return signature, codegen
        else:

            @intrinsic
            def call(typingctx, function, a, b, c, d, e, f):  # type: ignore[no-untyped-def]
                return signature, codegen

        return call

    @intrinsic
    def compare64(typingctx, address, expected, value):  # type: ignore[no-untyped-def]
        """See the uncompiled form."""

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
            both = builder.cmpxchg(pointer, args[1], args[2], "seq_cst", "seq_cst")
            return builder.extract_value(both, 0)

        return types.int64(types.int64, types.int64, types.int64), codegen

    @intrinsic
    def cycles(typingctx):  # type: ignore[no-untyped-def]
        """See the uncompiled form."""

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            counter = builder.module.declare_intrinsic("llvm.readcyclecounter", (), ir.FunctionType(ir.IntType(64), []))
            return builder.call(counter, [])

        return types.int64(), codegen

    ld8, ld16, ld32, ld64 = _load(8), _load(16), _load(32), _load(64)
    st8, st16, st32, st64 = _store(8), _store(16), _store(32), _store(64)
    add64, swap64 = _exchange("add"), _exchange("xchg")
    call1, call2, call3, call4, call5, call6 = (_call(n) for n in (1, 2, 3, 4, 5, 6))

    @numba.njit(inline="always")
    def s64(value):  # type: ignore[no-untyped-def]
        """``value`` as a signed 64-bit word (machine arithmetic has already wrapped it)."""
        return value

    @intrinsic
    def seldom(typingctx):  # type: ignore[no-untyped-def]
        """See the uncompiled form."""

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            for attribute in ("noinline", "cold"):
                builder.function.attributes.add(attribute)
            return context.get_dummy_value()

        return types.void(), codegen

    def _compiled(function: Callable[..., Any], forceinline: bool) -> Any:
        """All words are int64; saying so keeps numba from compiling a copy for each literal argument."""
        arguments = [types.int64] * function.__code__.co_argcount
        return numba.njit(types.int64(*arguments), nogil=True, error_model="numpy", forceinline=forceinline)(function)

    def kernel(function: Callable[..., Any]) -> Any:
        """Mark a function as a kernel: compiled here, plain Python in the uncompiled form."""
        return _compiled(function, forceinline=False)

    def inlined(function: Callable[..., Any]) -> Any:
        """Mark a function as a kernel that becomes a part of each that calls it."""
        return _compiled(function, forceinline=True)

else:

    def ld8(address: int) -> int:
        """The byte at a host address."""
        return ctypes.c_uint8.from_address(address).value

    def ld16(address: int) -> int:
        """The 16-bit word at a host address."""
        return ctypes.c_uint16.from_address(address).value

    def ld32(address: int) -> int:
        """The 32-bit word at a host address, zero-extended."""
        return ctypes.c_uint32.from_address(address).value

    def ld64(address: int) -> int:
        """The signed 64-bit word at a host address."""
        return ctypes.c_int64.from_address(address).value

    def st8(address: int, value: int) -> None:
        """Store the low 8 bits."""
        ctypes.c_uint8.from_address(address).value = value & 0xFF

    def st16(address: int, value: int) -> None:
        """Store the low 16 bits."""
        ctypes.c_uint16.from_address(address).value = value & 0xFFFF

    def st32(address: int, value: int) -> None:
        """Store the low 32 bits."""
        ctypes.c_uint32.from_address(address).value = value & 0xFFFFFFFF

    def st64(address: int, value: int) -> None:
        """Store all 64 bits."""
        ctypes.c_uint64.from_address(address).value = value & _MASK64

    _atomic = threading.Lock()

    def add64(address: int, value: int) -> int:
        """Add to the aligned 64-bit word at a host address, at once for all threads; what was there before."""
        with _atomic:
            before: int = ld64(address)
            st64(address, before + value)
        return before

    def swap64(address: int, value: int) -> int:
        """Replace the aligned 64-bit word at a host address, at once for all threads; what was there before."""
        with _atomic:
            before: int = ld64(address)
            st64(address, value)
        return before

    def compare64(address: int, expected: int, value: int) -> int:
        """Replace the aligned 64-bit word at a host address if it is what was expected, at once for all threads; what
        was there before.
        """
        with _atomic:
            before: int = ld64(address)
            if before == expected:
                st64(address, value)
        return before

    def cycles() -> int:
        """The host's time in cycles of its counter: one to five of them are a nanosecond."""
        return time.perf_counter_ns()

    def s64(value: int) -> int:
        """``value`` wrapped to a signed 64-bit word, as the compiled form does by itself."""
        value &= _MASK64
        return value - (1 << 64) if value >> 63 else value

    def _call_plain(count: int) -> Callable[..., int]:
        prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * count)
        known: dict[int, Any] = {}

        def call(function: int, *args: int) -> int:
            target = known.get(function)
            if target is None:
                target = known[function] = prototype(function)
            return int(target(*args))

        return call

    call1, call2, call3, call4, call5, call6 = (_call_plain(n) for n in (1, 2, 3, 4, 5, 6))

    def seldom() -> None:
        """First in a kernel that is seldom called: it is compiled beside those that call it, out of their way."""

    def kernel(function: Callable[..., Any]) -> Any:
        """Mark a function as a kernel: compiled here, plain Python in the uncompiled form."""
        return function

    inlined = kernel
