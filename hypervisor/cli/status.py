"""What a run means to the shell that started it: an exit status and a sentence.

=====  ==========================================================================================
0      the guest powered its machine off (or halted, with ``--halt-ok``; or left through the debug-exit port with one
       of the statuses of ``--success``)
n      the guest wrote to the debug-exit port: its status, ``(value << 1) | 1``, which is always odd
121    a handler or the user (Ctrl-A x) stopped the run
122    the guest asked for a reset, and ``--reboot`` was not given
123    the guest halted with interrupts off, or waits for what can never come
124    ``--timeout`` or ``--virtual-timeout`` ran out
125    our own error, or bad usage; or the run ended before its ``--script``
126    the guest crashed
128+n  this process received signal n
=====  ==========================================================================================

A guest's own status may equal one of ours; ``reason`` in the ``--stats`` file tells them apart.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum
from typing import Protocol


class ExitStatus(IntEnum):
    """Exit statuses of ``hypervisor run`` that are not the guest's own."""

    POWERED_OFF = 0
    STOPPED = 121
    RESET = 122
    HALTED = 123
    TIMEOUT = 124
    ERROR = 125
    CRASHED = 126


class Outcome(Protocol):
    """The part of a ``RunResult`` that decides how the process ends."""

    @property
    def reason(self) -> ReasonValue:
        """Why the run ended."""
        ...

    @property
    def message(self) -> str:
        """The same as a sentence, with what the reason alone does not say."""
        ...

    @property
    def status(self) -> int | None:
        """The guest's debug-exit status, if that is how the run ended."""
        ...

    @property
    def hint(self) -> str:
        """A likely mistake of a guest that only waits, or empty."""
        ...

    @property
    def crash(self) -> object | None:
        """The crash report as its ``str()``, if there is one."""
        ...


class ReasonValue(Protocol):
    """A member of the ``Reason`` enum."""

    @property
    def value(self) -> str:
        """Its documented name, for example ``"powered-off"``."""
        ...


BY_REASON = {
    "powered-off": ExitStatus.POWERED_OFF,
    "reset": ExitStatus.RESET,
    "halted": ExitStatus.HALTED,
    "idle": ExitStatus.HALTED,
    "stopped": ExitStatus.STOPPED,
    "until": ExitStatus.STOPPED,
    "timeout": ExitStatus.TIMEOUT,
    "virtual-timeout": ExitStatus.TIMEOUT,
    "crashed": ExitStatus.CRASHED,
    "host-error": ExitStatus.ERROR,
}
"""Exit status by reason; only ``debug-exit`` is missing, which brings its own."""


def exit_status(outcome: Outcome, *, halt_ok: bool = False, success: Collection[int] = ()) -> int:
    """The exit status, 0 to 255, for a run that ended with ``outcome``; 0 for the debug-exit statuses of ``success``.

    A debug-exit status is cut to the 8 bits that a process can return; it stays odd, so never looks like success.
    """
    reason = outcome.reason.value
    if reason == "debug-exit":
        return ExitStatus.POWERED_OFF if outcome.status in success else (outcome.status or 0) & 0xFF
    if halt_ok and reason in ("halted", "idle"):
        return ExitStatus.POWERED_OFF
    return BY_REASON.get(reason, ExitStatus.ERROR)


def sentence(outcome: Outcome, place: str) -> str | None:
    """What to tell the user on stderr, or None when the guest simply did what it wanted.

    ``place`` says where the guest stood, for example ``"RIP 0x7c3e (idle+0x2)"``.
    """
    match outcome.reason.value:
        case "powered-off" | "debug-exit":
            return None
        case "reset":
            return "the guest asked for a reset; with --reboot it would start again."
        case "halted":
            return f"the guest halted with interrupts off at {place}; --halt-ok makes that a success.{_hint(outcome)}"
        case "idle":
            text = f"the guest waits at {place} and nothing can ever wake it; --halt-ok makes that a success."
            return text + _hint(outcome)
        case "timeout" if late := outcome.message.partition(" are over, and ")[2]:
            return f"--timeout ran out, and {late}; the guest was at {place}."
        case "timeout":
            return f"the guest was still running when --timeout ran out, at {place}.{_hint(outcome)}"
        case "virtual-timeout":
            return f"the guest was still running when --virtual-timeout ran out, at {place}.{_hint(outcome)}"
        case "crashed" | "host-error":
            crash = str(outcome.crash or "")
            return "\n".join(part for part in ("" if outcome.message in crash else outcome.message, crash) if part)
        case reason:
            return f"the run ended ({reason}) at {place}: {outcome.message}"


def _hint(outcome: Outcome) -> str:
    return f"\nlikely mistake: {outcome.hint}" if outcome.hint else ""
