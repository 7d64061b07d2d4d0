"""What a crash report holds, as values; `hypervisor.debug` fills it, and ``str()`` of it is the report."""

from __future__ import annotations

from dataclasses import dataclass

from hypervisor.traps.history import Event


@dataclass(frozen=True)
class Link:
    """One event of the chain that ended in a crash.

    ``gate`` and ``stack`` say in words what the processor would have used to deliver it, ``why`` why that failed (empty
    where it did not, or where nobody knows), ``walk`` is a page fault's page walk.
    """

    vector: int
    error: int | None
    address: int | None
    name: str
    cause: str = ""
    walk: str = ""
    gate: str = ""
    stack: str = ""
    why: str = ""


@dataclass(frozen=True)
class StackFrame:
    """A return address with the symbol (``name+0x12``) and ``file:line`` where they are known, else empty.

    ``guessed`` says that it was found by looking through the stack, not by following frames. ``interrupted`` names the
    event that came in there, where the frame was not left by a CALL.
    """

    address: int
    symbol: str = ""
    line: str = ""
    guessed: bool = False
    interrupted: str = ""

    def __str__(self) -> str:
        """``0x100080 (main+0x4, kernel.c:12)``."""
        known = ", ".join(part for part in (self.symbol, self.line) if part)
        return f"{self.address:#x} ({known})" if known else f"{self.address:#x}"


@dataclass(frozen=True)
class Crash:
    """Why a guest died. ``str()`` is the report as it is printed.

    ``mistakes`` are sentences that name likely causes, best first; ``handling`` the exceptions and interrupts whose
    handlers were running, outermost first; ``chain`` the exceptions that followed, oldest first; ``stack`` the stack
    trace, innermost frame first; ``events`` the last exits and interrupts, oldest first. ``registers`` and ``code`` are
    text.
    """

    text: str
    message: str = ""
    mistakes: tuple[str, ...] = ()
    handling: tuple[Event, ...] = ()
    chain: tuple[Link, ...] = ()
    registers: str = ""
    code: str = ""
    stack: tuple[StackFrame, ...] = ()
    events: tuple[Event, ...] = ()

    @property
    def symbol(self) -> str:
        """Where the guest died: ``name+0x12``, or empty where no symbol is near."""
        return self.stack[0].symbol if self.stack else ""

    @property
    def line(self) -> str:
        """The same as ``file:line``, or empty where it is not known."""
        return self.stack[0].line if self.stack else ""

    def __str__(self) -> str:
        return self.text
