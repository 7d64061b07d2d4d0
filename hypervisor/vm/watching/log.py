"""The log: a line for each event of the guest, as it happens, with virtual time, RIP and symbol, and the value.

A log is made of observers, so it shows what any handler would see, and costs nothing while there is none. It listens
only to what leaves the guest anyway (the engine reports or serves those without a handler, too), so the guest's time
and everything that it does are the same with and without one.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TextIO

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.msr import NAMES as MSR_NAMES
from hypervisor.arch.vectors import ERROR_CODE_VECTORS, PF, title
from hypervisor.errors import ConfigError

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine
    from hypervisor.vcpu.exit import Exit
    from hypervisor.vcpu.processor import Processor

CATEGORIES: dict[str, tuple[K, ...]] = {
    "int": (K.INTERRUPT, K.INT_N),
    "exits": (
        K.CPUID, K.RDMSR, K.WRMSR, K.CR_WRITE, K.DR_READ, K.DR_WRITE, K.HLT, K.INVLPG, K.RDTSC, K.RDTSCP,
    ),
    "faults": (K.EXCEPTION,),
    "io": (K.PORT_IN, K.PORT_OUT, K.MMIO_READ, K.MMIO_WRITE),
    "bios": (),
    "reset": (),
}  # fmt: skip
"""What can be logged, and the kinds of exits that belong to it. NMI is told under "int"; "bios" is every call of the
built-in BIOS with its result; "reset" is resets, INIT and start of processors, and how a run ends."""

Destination = str | os.PathLike[str] | Callable[[str], object] | None
"""Where lines go: a file, a function that takes a line without its newline, or stderr."""

_CR_NUMBERS = (0, 4, 8)  # CR3 is written natively, and MOV to it would take longer with an observer
_log = logging.getLogger("hypervisor.log")


def categories(what: Iterable[str]) -> tuple[str, ...]:
    """The categories named by ``what``, each an item or several with commas; all if none is named.

    Raises `ConfigError` for one that does not exist.
    """
    names = tuple(name.strip() for text in what for name in text.split(","))
    for name in names:
        if name not in CATEGORIES:
            raise ConfigError(f"log: there is no category {name!r}; there are: {', '.join(CATEGORIES)}.")
    return tuple(dict.fromkeys(names)) or tuple(CATEGORIES)


class Log:
    """A log of one VM, from `VM.log` until `close`."""

    def __init__(self, vm: Machine, what: Iterable[str], to: Destination) -> None:
        self.categories = categories(what)
        self._vm = vm
        self._file: TextIO | None = None
        self._write = self._opened(to)
        self._names: list[str] = []
        self._lost = False
        before = set(vm.traps.names())
        for kind in (kind for name in self.categories for kind in CATEGORIES[name]):
            _observe(vm, kind, self._exit)
        self._names = [name for name in vm.traps.names() if name not in before]
        vm.listeners.append(self._told)
        vm.on_close.append(self._close_file)

    def close(self) -> None:
        """End the log, between runs. Closing twice is harmless."""
        for name in self._names:
            self._vm.traps.remove(name)
        self._names = []
        if self._told in self._vm.listeners:
            self._vm.listeners.remove(self._told)
        self._close_file()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _opened(self, to: Destination) -> Callable[[str], object]:
        """Where lines go: a function that takes one without its newline."""
        if to is None:
            return lambda line: print(line, file=sys.stderr, flush=True)
        if isinstance(to, (str, os.PathLike)):
            try:
                self._file = file = open(to, "w", encoding="utf-8")
            except OSError as error:
                raise ConfigError(f"log: {os.fspath(to)} cannot be written: {error.strerror}.") from error
            return lambda line: file.write(line + "\n")
        if callable(to):
            return to
        raise ConfigError(f"log(to={to!r}): give a path, or a function that takes a line.")

    def _close_file(self) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        except OSError as error:
            self._ended(error)

    def _ended(self, error: Exception) -> None:
        """Lines cannot be written any more (a full disk): the guest goes on without its log."""
        if not self._lost:
            self._lost = True
            _log.warning("the log ends here, it cannot be written: %s", error)

    def _exit(self, vcpu: Processor, exit: Exit) -> None:
        self._line(vcpu, exit.rip, describe(exit))

    def _told(self, category: str, text: str, vcpu: Processor) -> None:
        if category in self.categories:
            self._line(vcpu, vcpu.rip, text)

    def _line(self, vcpu: Processor, rip: int, text: str) -> None:
        if self._lost:
            return
        vm = self._vm
        linear = rip if vcpu.mode == 64 else (vcpu.cs.base + rip) & 0xFFFF_FFFF
        symbol = vm.symbols.describe(linear)
        cpu = f" cpu{vcpu.number}" if vm.cpus > 1 else ""
        try:
            self._write(f"{vm.clock.now_ns:>14} ns{cpu}  {text} at {linear:#x}{f' ({symbol})' if symbol else ''}")
        except (OSError, ValueError) as error:  # ValueError: a file of the user's that was closed
            self._ended(error)


def _observe(vm: Machine, kind: K, function: Callable[[Processor, Exit], None]) -> None:
    """Register an observer that sees final values."""
    register = getattr(vm.traps, kind.name.lower())
    when = "before" if kind in (K.HLT, K.EXCEPTION) else "after"
    for number in _CR_NUMBERS if kind is K.CR_WRITE else (None,):
        key = {} if number is None else {"number": number}
        register(**key, mode="observe", when=when)(lambda vcpu, exit: function(vcpu, exit))


def _hex(value: object) -> str:
    return f"{value:#x}" if isinstance(value, int) else "?"


def _exception(exit: Exit) -> str:
    text = title(exit.vector) or f"exception {exit.vector}"
    text += f", error {exit.error_code:#x}" if exit.vector in ERROR_CODE_VECTORS else ""
    return text + (f", address {_hex(exit.address)}" if exit.vector == PF else "")


def _msr(exit: Exit) -> str:
    return MSR_NAMES.get(exit.msr, _hex(exit.msr))


_TEXTS: dict[K, Callable[[Exit], str]] = {
    K.CPUID: lambda e: (
        f"cpuid {_hex(e.leaf)}, {_hex(e.subleaf)} -> {_hex(e.eax)} {_hex(e.ebx)} {_hex(e.ecx)} {_hex(e.edx)}"
    ),
    K.RDMSR: lambda e: f"rdmsr {_msr(e)} -> {_hex(e.value)}",
    K.WRMSR: lambda e: f"wrmsr {_msr(e)}, {_hex(e.value)}",
    K.PORT_IN: lambda e: f"in {_hex(e.port)} -> {_hex(e.value)} ({e.size})",
    K.PORT_OUT: lambda e: f"out {_hex(e.port)}, {_hex(e.value)} ({e.size})",
    K.MMIO_READ: lambda e: f"read {_hex(e.gpa)} -> {_hex(e.value)} ({e.size})",
    K.MMIO_WRITE: lambda e: f"write {_hex(e.gpa)}, {_hex(e.value)} ({e.size})",
    K.CR_WRITE: lambda e: f"mov to cr{e.number}, {_hex(e.value)}",
    K.DR_READ: lambda e: f"mov from dr{e.number} -> {_hex(e.value)}",
    K.DR_WRITE: lambda e: f"mov to dr{e.number}, {_hex(e.value)}",
    K.INVLPG: lambda e: f"invlpg {_hex(e.address)}",
    K.RDTSC: lambda e: f"rdtsc -> {_hex(e.value)}",
    K.RDTSCP: lambda e: f"rdtscp -> {_hex(e.value)}",
    K.INT_N: lambda e: f"int {_hex(e.vector)}",
    K.INTERRUPT: lambda e: f"interrupt {_hex(e.vector)}",
    K.EXCEPTION: _exception,
}


def describe(exit: Exit) -> str:
    """An exit in a few words, with its value."""
    text = _TEXTS.get(exit.kind)
    return exit.kind.name.lower() if text is None else text(exit)
