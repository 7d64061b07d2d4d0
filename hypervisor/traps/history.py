"""The last exits and events of a VM, as the engine's ring remembers them: always on, and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hypervisor.arch.exits import ExitKind
from hypervisor.arch.msr import NAMES as MSR_NAMES
from hypervisor.arch.vectors import ERROR_CODE_VECTORS, NMI, PF, title
from hypervisor.engine.report import MAX_EVENTS, events

if TYPE_CHECKING:
    from hypervisor.symbols.symbol_table import SymbolTable

EXCEPTION, SOFTWARE, EXTERNAL, PRIVILEGED = range(4)
"""Where a delivered event comes from, by the engine's numbers: `Event.origin`. INT1 is `PRIVILEGED`: the DPL of its
gate is not checked.
"""

_ACCESSES = {
    ExitKind.PORT_IN: "in {info:#x} -> {value:#x}", ExitKind.PORT_OUT: "out {info:#x}, {value:#x}",
    ExitKind.MMIO_READ: "read {info:#x} -> {value:#x}", ExitKind.MMIO_WRITE: "write {info:#x}, {value:#x}",
}  # fmt: skip
_NUMBERED = {
    ExitKind.CR_READ: "mov from cr{info}", ExitKind.CR_WRITE: "mov to cr{info}, {value:#x}",
    ExitKind.DR_READ: "mov from dr{info}", ExitKind.DR_WRITE: "mov to dr{info}, {value:#x}",
    ExitKind.INT_N: "int {info:#x}", ExitKind.EXECUTE: "execute {info:#x}", ExitKind.INVLPG: "invlpg {value:#x}",
}  # fmt: skip


class Event(NamedTuple):
    """One exit, or one event that was delivered to the guest, at virtual time ``ns`` and with RIP at ``rip``.

    ``info`` is what the exit is about (port, register number, address, vector), ``value`` what was read or written
    where there is one; of a page fault, the address. ``origin`` is where an event came from, None for an exit.
    """

    ns: int
    kind: ExitKind
    rip: int
    info: int
    value: int
    size: int = 0
    vcpu: int = 0

    @property
    def vector(self) -> int | None:
        """The vector of a delivered event, None for an exit."""
        return self.info & 0xFF if self.kind is ExitKind.EXCEPTION else None

    @property
    def origin(self) -> int | None:
        """`EXCEPTION`, `SOFTWARE`, `EXTERNAL` or `PRIVILEGED` (INT1); None for an exit."""
        return self.info >> 24 & 3 if self.kind is ExitKind.EXCEPTION else None

    @property
    def error(self) -> int | None:
        """The error code of an exception that has one."""
        has = self.origin == EXCEPTION and self.vector in ERROR_CODE_VECTORS
        return self.info >> 8 & 0xFFFF if has else None

    def __str__(self) -> str:
        if self.kind is ExitKind.EXCEPTION:
            return _delivered(self)
        value = self.value & (1 << 8 * self.size) - 1 if self.size else self.value
        if self.kind in _ACCESSES:
            return _ACCESSES[self.kind].format(info=self.info, value=value) + f" ({self.size})"
        if self.kind in _NUMBERED:
            return _NUMBERED[self.kind].format(info=self.info, value=value)
        name = self.kind.name.lower()
        if self.kind in (ExitKind.RDMSR, ExitKind.WRMSR):
            written = f", {value:#x}" if self.kind is ExitKind.WRMSR else ""
            return f"{name} {MSR_NAMES.get(self.info, hex(self.info))}{written}"
        return name


def _delivered(event: Event) -> str:
    vector = event.info & 0xFF
    if event.origin == EXTERNAL:
        return "NMI" if vector == NMI else f"interrupt {vector:#x}"
    if event.origin == SOFTWARE and not event.info >> 26 & 1:
        return f"int {vector:#x}"
    text = title(vector) or f"exception {vector}"
    text += f", error {event.error:#x}" if event.error is not None else ""
    return text + (f", address {event.value:#x}" if vector == PF else "")


def last_events(kept: bytes, count: int = MAX_EVENTS) -> list[Event]:
    """The last exits and events of a ring, as a pCPU's report keeps it, oldest first.

    Ports and device memory that a compiled handler serves, and what the engine does by itself (CPUID without a
    listener, INVLPG, PAUSE, system calls) are not among them.
    """
    return [
        Event(now, ExitKind(head & 0xFF), rip, head >> 24, value, head >> 8 & 0xFF, head >> 16 & 0xFF)
        for head, rip, now, value in events(kept, count)
    ]


def line(event: Event, symbols: SymbolTable, cpus: int = 1) -> str:
    """An event as a line: virtual time in ns, the vCPU if there are several, what it was, RIP with its symbol."""
    symbol = symbols.describe(event.rip)
    cpu = f" cpu{event.vcpu}" if cpus > 1 else ""
    return f"{event.ns:>14} ns{cpu}  {event} at {event.rip:#x}{f' ({symbol})' if symbol else ''}"
