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

It cannot inject or stop, and sees no exit record; handlers in Python for the same exits are asked only after it has
passed, and devices not at all. Otherwise it is a handler as any other: it has a name, must not overlap another compiled
one unless it is narrower, and can be disabled, replaced and removed. One that raises (an index outside ``state``, say)
ends the run as a handler in Python does.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

from hypervisor.arch.exits import ExitKind as K
from hypervisor.errors import TrapError

if TYPE_CHECKING:
    from hypervisor.engine.inside import Inside

ADDRESSED = {K.PORT_IN: "port", K.PORT_OUT: "port", K.MMIO_READ: "gpa", K.MMIO_WRITE: "gpa"}
"""Kinds whose compiled handlers serve a range of addresses, and the key that names it."""
NUMBERED = {K.CPUID: ("leaf", "subleaf"), K.RDMSR: ("msr",), K.HYPERCALL: ("number",)}
"""Kinds whose compiled handlers may pass, and the keys that the first arguments must lie in."""


class Compiled:
    """A function marked with `compiled`."""

    def __init__(self, function: Callable[..., int], words: int) -> None:
        self.function = function
        self.words = words
        self.memory = (ctypes.c_int64 * (1 + max(words, 1)))()
        """Whether it has raised, then the state."""
        self.state = memoryview(self.memory).cast("B").cast("q")[1:]
        self._addresses: dict[tuple[range | None, ...], int] = {}
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def check(self, kind: K, key: dict[str, range], where: str) -> None:
        """Raise `TrapError` unless this can be the handler ``where`` of a kind with this key."""
        if kind not in ADDRESSED and kind not in NUMBERED:
            names = ", ".join(known.name.lower() for known in (*ADDRESSED, *NUMBERED))
            raise TrapError(f"{where} cannot be compiled; only those for {names} can.")
        if kind in ADDRESSED and ADDRESSED[kind] not in key:
            raise TrapError(f"{where} is compiled, and needs an address or a range of them.")
        signature = inspect.signature(self.function)
        try:
            signature.bind(*range(5))
        except TypeError:
            raise TrapError(
                f"{where}: a compiled handler takes (state, regs, first, second, value), this one takes {signature}."
            ) from None
        self.inside(kind, key)

    def inside(self, kind: K, key: dict[str, range]) -> Inside:
        """What the engine needs of it; compiles when it is first asked. Raises `TrapError` when numba cannot."""
        from hypervisor.engine.compiling.compiler import code
        from hypervisor.engine.inside import Inside, wrap

        keys = tuple(key.get(field) for field in NUMBERED.get(kind, ()))
        address = self._addresses.get(keys)
        if address is None:
            address = code().compile_handler(wrap(self.function, self.words, keys), self.__name__)
            self._addresses[keys] = address
        where = key[ADDRESSED[kind]] if kind in ADDRESSED else None
        return Inside(kind, where, address, ctypes.addressof(self.memory) + 8)

    def again(self, regs: list[int], first: int, second: int, value: int) -> None:
        """Make the call that has raised once more, in Python and on copies, for its traceback.

        Raises what the function raises, or `TrapError` if it does not this time.
        """
        self.memory[0] = 0
        copies = [(ctypes.c_int64 * len(words))(*words) for words in (list(self.state), regs)]
        self.function(*copies, first, second, value)
        raise TrapError(f"compiled handler {self.__name__!r} raised an exception, which it does not do uncompiled.")

    def __call__(self, *arguments: Any) -> int:
        """The function itself, uncompiled: what the compiled one must agree with."""
        return self.function(*arguments)


@overload
def compiled(function: Callable[..., int]) -> Compiled: ...
@overload
def compiled(*, words: int) -> Callable[[Callable[..., int]], Compiled]: ...
def compiled(
    function: Callable[..., int] | None = None, *, words: int = 1
) -> Compiled | Callable[[Callable[..., int]], Compiled]:
    """Mark a trap handler to be compiled into the engine (see `hypervisor.traps.compiled`).

    ``words`` is the size of its state in 64-bit words.
    """
    if function is None:
        return lambda real: Compiled(real, words)
    return Compiled(function, words)
