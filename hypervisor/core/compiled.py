"""Handlers that run inside the engine, at the speed of machine code.

A compiled handler is a function over 64-bit words, in the part of Python that numba compiles::

    @hv.compiled(words=1)
    def count(state, regs, port, size, value):
        state[0] += 1
        return 0

    vm.traps.port_out(0x80, count)

``state`` is an array of ``words`` words that the host reads as ``count.state``; ``regs`` are the sixteen general
registers in the order of their encoding (`hypervisor.engine.state.GPR`: rax, rcx, rdx, rbx, ...). What the other
arguments and the result mean depends on the kind:

=================================  =====================  ====================================================
kind                               arguments              result
=================================  =====================  ====================================================
``port_in``, ``mmio_read``         address, size, 0       the value that the guest reads
``port_out``, ``mmio_write``       address, size, value   ignored
``cpuid``                          leaf, subleaf, 0       1 handled (the answer is in ``regs``), 0 pass
``rdmsr``                          number, 0, 0           1 handled (EDX:EAX are in ``regs``), 0 pass
``hypercall``                      RAX, 0, 0              1 handled, 0 pass
=================================  =====================  ====================================================

It cannot inject or stop, sees no exit record, and handlers in Python for the same exits are asked only after it has
passed. A port or range has one compiled handler; it comes before devices.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from hypervisor.arch.exits import ExitKind as K
from hypervisor.errors import TrapError

KINDS = (K.PORT_IN, K.PORT_OUT, K.MMIO_READ, K.MMIO_WRITE, K.CPUID, K.RDMSR, K.HYPERCALL)
"""Kinds that can have compiled handlers."""

_FIRST = {K.CPUID: "leaf", K.RDMSR: "msr", K.HYPERCALL: "number"}


class Compiled:
    """A function marked with `compiled`."""

    def __init__(self, function: Callable[..., int], words: int) -> None:
        self.function = function
        self.words = words
        self._memory = (ctypes.c_int64 * max(words, 1))()
        self.state = memoryview(self._memory).cast("B").cast("q")
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def install(self, vm: Any, kind: K, key: dict[str, range]) -> None:
        """Compile the function for this kind and key, and give it to the VM's engine tables."""
        from hypervisor.engine.compiled import wrap

        if kind not in KINDS:
            raise TrapError(
                f"{self.__name__}: handlers of {kind.name.lower()} cannot be compiled; only those of "
                f"{', '.join(k.name.lower() for k in KINDS)} can."
            )
        if kind in _FIRST:
            keys = []
            if _FIRST[kind] in key:
                keys.append((0, key[_FIRST[kind]].start, key[_FIRST[kind]].stop))
            if "subleaf" in key:
                keys.append((1, key["subleaf"].start, key["subleaf"].stop))
            vm.tables.compiled_exit(kind, wrap(self.function, self.words, tuple(keys)), self._memory)
            return
        write = kind in (K.PORT_OUT, K.MMIO_WRITE)
        where = key.get("port" if kind in (K.PORT_IN, K.PORT_OUT) else "gpa")
        if where is None:
            raise TrapError(f"{self.__name__}: a compiled handler of {kind.name.lower()} needs an address or a range.")
        place = vm.tables.compiled_ports if kind in (K.PORT_IN, K.PORT_OUT) else vm.tables.compiled_window
        place(where, write, wrap(self.function, self.words, ()), self._memory)

    def __call__(self, *arguments: Any) -> int:
        """The function itself, uncompiled: what the compiled one must agree with."""
        return self.function(*arguments)


def compiled(function: Callable[..., int] | None = None, *, words: int = 1) -> Any:
    """Mark a trap handler to be compiled into the engine (see `hypervisor.core.compiled`).

    ``words`` is the size of its state in 64-bit words.
    """
    if function is None:
        return lambda real: Compiled(real, words)
    return Compiled(function, words)
