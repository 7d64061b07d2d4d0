"""How a run ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from hypervisor.errors import ConfigError, GuestCrashed
from hypervisor.outcome.crash_record import Crash


class Reason(Enum):
    """Why `VM.run` returned: a closed set."""

    POWERED_OFF = "powered-off"
    """The guest switched the machine off."""
    DEBUG_EXIT = "debug-exit"
    """The guest wrote to the debug-exit port; `RunResult.status` holds what it means."""
    RESET = "reset"
    """The guest asked for a reset (keyboard controller, port 92h, CF9h)."""
    HALTED = "halted"
    """HLT, or a jump to itself, with interrupts off: it can never go on."""
    IDLE = "idle"
    """Waiting with interrupts on, and nothing is left that could ever wake it."""
    STOPPED = "stopped"
    """A handler, or the host, stopped it."""
    UNTIL = "until"
    """The condition given as ``until`` holds."""
    TIMEOUT = "timeout"
    """The host time given as ``timeout`` is over."""
    VIRTUAL_TIMEOUT = "virtual-timeout"
    """The guest time given as ``virtual_timeout`` is over."""
    CRASHED = "crashed"
    """A triple fault or its like: the processor shut down."""
    HOST_ERROR = "host-error"
    """A handler or device of the host failed; the text holds its traceback."""


WAITING = frozenset({Reason.HALTED, Reason.IDLE, Reason.TIMEOUT, Reason.VIRTUAL_TIMEOUT})
"""Reasons with which `RunResult.hint` may say what the guest waits for."""


class Fault(NamedTuple):
    """One event of the chain that led to a crash."""

    vector: int
    error: int | None
    address: int | None
    rip: int


@dataclass(frozen=True, repr=False)
class RunResult:
    """What `VM.run` returns. `crash` is the report of a crash, None otherwise; `hint` a likely mistake of a guest that
    only waits, as a sentence, or empty. Times are in seconds; `exits` counts exits by kind and repeats exactly under
    the virtual clock, while `host_events` counts what the host caused (TLB fills and the like), which need not.
    """

    reason: Reason
    message: str
    status: int | None
    wall_s: float
    virtual_s: float
    exits: Mapping[str, int]
    host_events: Mapping[str, int]
    crash: Crash | None = field(default=None, repr=False)
    hint: str = ""
    error: BaseException | None = field(default=None, repr=False)
    registers: Mapping[str, int] = field(default_factory=dict, repr=False)
    until: str = ""
    """What ``until`` waited for, as words; empty if nothing was asked for."""

    def __repr__(self) -> str:
        status = "" if self.status is None else f" with status {self.status}"
        count = sum(self.exits.values())
        return (
            f"<RunResult {self.reason.value}{status} after {self.virtual_s:.6f} s of virtual time, {self.wall_s:.3f} s "
            f"here, {count} exit{'' if count == 1 else 's'}: {self.message.partition(chr(10))[0]}>"
        )

    def check(self, *, status: int | None = None, reason: Reason | None = None) -> RunResult:
        """This result, if the run ended as it was meant to; otherwise raises `GuestCrashed` with the crash report.

        It was meant to end with what ``until`` asked for or, if nothing was, with a power-off. ``status`` asks for a
        debug exit with this status, ``reason`` for any other end, and then nothing else passes. Raises `ConfigError`
        for what no run can end with.
        """
        if self._as_meant(status, reason):
            return self
        text = f"The guest ended as {self.reason.value}: {self.message}"
        if meant := self._meant(status, reason):
            text += f"\n{meant}"
        if self.crash is not None:
            text += "\n" + str(self.crash).removeprefix(self.message).lstrip("\n")
        if self.hint:
            text += f"\nlikely mistake: {self.hint}"
        raise GuestCrashed(text) from self.error

    def _as_meant(self, status: int | None, reason: Reason | None) -> bool:
        if status is not None:
            if reason not in (None, Reason.DEBUG_EXIT):
                raise ConfigError(f"check(status={status!r}, reason={reason!r}): only a debug exit has a status.")
            if not isinstance(status, int) or status < 0 or not status & 1:
                raise ConfigError(f"check(status={status!r}): the status of a debug exit is (value << 1) | 1, so odd.")
            return self.reason is Reason.DEBUG_EXIT and self.status == status
        if reason is Reason.DEBUG_EXIT:
            raise ConfigError("check(reason=Reason.DEBUG_EXIT) would let every status pass; give check(status=...).")
        if not isinstance(reason, Reason | None):
            raise ConfigError(f"check(reason={reason!r}): give a Reason, such as hypervisor.Reason.STOPPED.")
        return self.reason is (reason or (Reason.UNTIL if self.until else Reason.POWERED_OFF))

    def _meant(self, status: int | None, reason: Reason | None) -> str:
        """How the run was meant to end, where that is not plain, as a sentence."""
        if status is not None:
            return f"It was meant to end by a debug exit with status {status}."
        if reason is not None:
            return f"It was meant to end as {reason.value}."
        if self.until:
            return f"It was meant to run until {self.until}."
        if self.reason is Reason.DEBUG_EXIT:
            return f"It was meant to power off; where this is how it should end, say check(status={self.status})."
        if self.reason is Reason.STOPPED:
            return "It was meant to power off; where this is how it should end, say check(reason=Reason.STOPPED)."
        return ""

    def __getattr__(self, name: str) -> Any:
        registers = self.__dict__.get("registers", {})
        if name in registers:
            return registers[name]
        raise AttributeError(
            f"a run's result has no {name!r}: it has the fields of RunResult and the registers by name."
        )


@dataclass(frozen=True)
class After:
    """See `after`."""

    seconds: float


def after(seconds: float) -> After:
    """For ``until=``: end the run when this much virtual time has passed since its start, in seconds."""
    if not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise ConfigError(f"after({seconds!r}): a time of at least 0 seconds is needed.")
    return After(seconds)
