"""A line on stderr when the process dies of a signal while a guest runs: the VM, its vCPU, RIP, the instruction.

Generated code and Unicorn's helpers execute what guests chose. Where all care has failed, the process gets SIGSEGV,
SIGBUS, SIGFPE or SIGILL, and whoever looks into it needs to know which guest did it. The handler (`last_words`)
says so and lets the signal take its course: the handler that was there before (`faulthandler`'s, a program's own) is
called, or the default kills the process, with the same exit status and core dump as without us. In threads that run no
guest it does nothing else, but where a swap file cannot be read (`lost_slots`), which costs VMs and not the process. It
stands from the first engine on; a handler that is set later takes its place.
"""

from __future__ import annotations

import ctypes
import signal

from hypervisor.engine import block as b
from hypervisor.errors import ConfigError

_SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_SA_SIGINFO, _SA_ONSTACK, _SA_NODEFER, _SA_RESTART = 4, 0x08000000, 0x40000000, 0x10000000
_LONGEST_NAME = 64
_LINE_SIZE = 512


class _Disposition(ctypes.Structure):  # struct sigaction of the C library
    _fields_ = (
        ("handler", ctypes.c_uint64),
        ("mask", ctypes.c_uint8 * 128),
        ("flags", ctypes.c_uint32),
        ("restorer", ctypes.c_uint64),
    )


def line(vm: str) -> ctypes.Array[ctypes.c_char]:
    """A VM's line, with places for what is known only when it is written. The name is shown on one line of ASCII."""
    name = ascii(str(vm)[:_LONGEST_NAME])
    text = (
        f"hypervisor: {b.LINE_SIGNAL} while VM {name} ran: vCPU {b.LINE_VCPU}, RIP 0x{b.LINE_RIP}, "
        f"instruction{b.LINE_BYTES}. Please report this.\n"
    )
    return ctypes.create_string_buffer(text.encode("ascii"))


class LastWords:
    """The handler's table. ``guard`` is the address of the table of running pCPUs."""

    def __init__(self, guard: int) -> None:
        process = ctypes.CDLL(None)
        self._set = process.sigaction
        self._table = (ctypes.c_uint64 * ((b.SIGNAL_ROWS + b.SIGNAL_ROW_SIZE * len(_SIGNALS) >> 3) + 1))()
        self._line = (ctypes.c_char * _LINE_SIZE)()
        self._later = ctypes.create_string_buffer(b" or later in its block")
        self._default = _Disposition()
        self._names = [ctypes.create_string_buffer(number.name.encode()) for number in _SIGNALS]
        self._previous = [_Disposition() for _ in _SIGNALS]
        self.address = ctypes.addressof(self._table)
        self._swaps = range(b.SIGNAL_SWAPS >> 3, (b.SIGNAL_SWAPS >> 3) + b.SIGNAL_MOST_SWAPS)
        for offset, value in (
            (b.SIGNAL_GUARD, guard),
            (b.SIGNAL_WRITE, ctypes.cast(process.write, ctypes.c_void_p).value),
            (b.SIGNAL_RAISE, ctypes.cast(getattr(process, "raise"), ctypes.c_void_p).value),
            (b.SIGNAL_ACTION, ctypes.cast(process.sigaction, ctypes.c_void_p).value),
            (b.SIGNAL_DEFAULT, ctypes.addressof(self._default)),
            (b.SIGNAL_LINE, ctypes.addressof(self._line)),
            (b.SIGNAL_LATER, ctypes.addressof(self._later)),
            (b.SIGNAL_MAP, ctypes.cast(process.mmap, ctypes.c_void_p).value),
        ):
            self._table[offset >> 3] = value or 0
        for n, number in enumerate(_SIGNALS):
            row = (b.SIGNAL_ROWS + b.SIGNAL_ROW_SIZE * n) >> 3
            self._table[row : row + 3] = [number, *map(ctypes.addressof, (self._names[n], self._previous[n]))]

    def add_swap(self, table: int) -> None:
        """The host whose frame table is at this address has a swap file. Raises `ConfigError`."""
        for at in self._swaps:
            if not self._table[at]:
                self._table[at] = table
                return
        raise ConfigError(f"A process has at most {b.SIGNAL_MOST_SWAPS} hosts with a swap file. Close one.")

    def remove_swap(self, table: int) -> None:
        """It is gone."""
        for at in self._swaps:
            if self._table[at] == table:
                self._table[at] = 0

    def install(self, handler: int) -> None:
        """Handle the signals by the code at this address, in the circumstances that the handlers before chose."""
        for number, previous in zip(_SIGNALS, self._previous, strict=True):
            self._set(number, None, ctypes.byref(previous))
            ours = _Disposition.from_buffer_copy(previous)
            ours.handler = handler
            ours.flags = previous.flags & (_SA_NODEFER | _SA_RESTART) | _SA_SIGINFO | _SA_ONSTACK
            self._set(number, ctypes.byref(ours), None)
