"""How a run ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from hypervisor.core.crash import Crash
from hypervisor.errors import ConfigError, GuestCrashed


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

FINE = frozenset({Reason.POWERED_OFF, Reason.DEBUG_EXIT, Reason.UNTIL, Reason.STOPPED})
"""Reasons that `RunResult.check` lets pass."""


class Fault(NamedTuple):
    """One event of the chain that led to a crash."""

    vector: int
    error: int | None
    address: int | None
    rip: int


@dataclass(frozen=True)
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

    def check(self) -> RunResult:
        """This result, if the run ended well; otherwise raises `GuestCrashed` with the crash report."""
        if self.reason in FINE:
            return self
        text = f"The guest ended as {self.reason.value}: {self.message}"
        if self.crash is not None:
            text += "\n" + str(self.crash).removeprefix(self.message).lstrip("\n")
        if self.hint:
            text += f"\nlikely mistake: {self.hint}"
        raise GuestCrashed(text) from self.error

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
