"""One event and one attempt to deliver it: what every mode's delivery shares."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .linear import GuestFaultError, Linear
from .state import MASK16, MASK32, MASK64, RF, Memory, State

FAULTS = frozenset({0, 5, 6, 7, 10, 11, 12, 13, 14, 16, 17, 19})
"""Exceptions that are faults for sure. #DB (1) is either; its RF is the caller's business."""


class Kind(enum.Enum):
    """Where an event comes from."""

    EXCEPTION = "exception"
    """Raised by the processor, INT1 (F1h) included."""
    SOFTWARE_INT = "software-int"
    """INT n (CDh): the gate's DPL is checked, and IOPL in virtual-8086 mode."""
    SOFTWARE_EXCEPTION = "software-exception"
    """INT3 (CCh) and INTO (CEh): the gate's DPL is checked, IOPL is not."""
    EXTERNAL = "external"
    """INTR and NMI."""


@dataclass(frozen=True)
class Event:
    """One thing to deliver; ``length`` is that of a software interrupt's instruction."""

    vector: int
    error: int | None
    kind: Kind
    length: int = 0

    @property
    def software(self) -> bool:
        """Caused by an instruction on purpose."""
        return self.kind in (Kind.SOFTWARE_INT, Kind.SOFTWARE_EXCEPTION)

    @property
    def ext(self) -> int:
        """The EXT bit of faults met while delivering this event."""
        return 0 if self.software else 1


class TaskGateError(Exception):
    """Raised inside one delivery: the gate is a task gate."""

    def __init__(self, selector: int) -> None:
        """``selector`` names the TSS."""
        super().__init__(f"task gate to {selector:#x}")
        self.selector = selector


class Attempt:
    """One event's delivery: what the mode-specific parts share."""

    def __init__(self, memory: Memory, state: State, event: Event, unsettled: set[str]) -> None:
        """``state`` is the state before the event; it is not changed."""
        self.state = state
        self.event = event
        self.linear = Linear(memory, state, event.ext)
        self.unsettled = unsettled

    def doubts(self) -> set[str]:
        """What the manuals leave open about this attempt and those before it."""
        return self.unsettled | ({"smap-inner-stack"} if self.linear.smap_and_ac else set())

    @property
    def error(self) -> int | None:
        """The error code to push, or None."""
        return self.event.error if self.event.kind is Kind.EXCEPTION else None

    def fault(self, vector: int, selector: int = 0) -> GuestFaultError:
        """An exception that names a selector (its RPL replaced by EXT)."""
        return GuestFaultError(vector, selector & 0xFFFC | self.event.ext)

    def idt_fault(self, vector: int) -> GuestFaultError:
        """An exception that names this event's IDT entry."""
        return GuestFaultError(vector, self.event.vector << 3 | 2 | self.event.ext)

    def return_rip(self) -> int:
        """The instruction to come back to: after a software interrupt, else ``state.rip``."""
        if not self.event.software:
            return self.state.rip
        code = self.state.segs["cs"]
        after = self.state.rip + self.event.length
        if self.state.long_mode and code.long:
            return after & MASK64
        return after & (MASK32 if code.big else MASK16)

    def pushed_flags(self) -> int:
        """RFLAGS as the handler sees them: faults push RF set, all else pushes RF as it is (SDM 3, 17.3.1.1)."""
        fault = self.event.kind is Kind.EXCEPTION and self.event.vector in FAULTS
        return self.state.rflags | (RF if fault else 0)
