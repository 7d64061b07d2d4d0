"""What a trap handler may answer: a small closed set."""

from __future__ import annotations

from dataclasses import dataclass

from hypervisor.arch.vectors import CP, ERROR_CODE_VECTORS, SX, VC
from hypervisor.errors import TrapError

WITH_ERROR = ERROR_CODE_VECTORS - {CP, VC, SX}
"""Exceptions of the processor that is offered which push an error code."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of a ``decide`` handler. Use `HANDLED`, `PASS`, `RETRY`, `inject` or `stop`."""

    name: str


@dataclass(frozen=True, slots=True)
class Inject(Verdict):
    """See `inject`."""

    vector: int = 0
    error_code: int | None = None


@dataclass(frozen=True, slots=True)
class Stop(Verdict):
    """See `stop`."""

    reason: str = ""
    crashed: bool = False


HANDLED = Verdict("HANDLED")
"""The exit's fields are the result; the guest goes on after the instruction."""

PASS = Verdict("PASS")
"""Not mine: the next handler is asked, at last the built-in one."""

RETRY = Verdict("RETRY")
"""Execute the instruction again from its start."""


def inject(vector: int, error_code: int | None = None) -> Verdict:
    """The instruction has no effect, and the guest gets this exception (0 to 31) or interrupt (32 to 255) instead.

    Raises `TrapError` for what is no vector, and for an error code where the processor pushes none.
    """
    given = f"inject({vector!r}, error_code={error_code!r})"
    if not isinstance(vector, int) or not 0 <= vector <= 255:
        raise TrapError(f"inject({vector!r}): a vector is a number from 0 to 255.")
    if error_code is not None and vector not in WITH_ERROR:
        raise TrapError(f"{given}: exception {vector} has no error code.")
    if error_code is not None and not 0 <= error_code <= 0xFFFFFFFF:
        raise TrapError(f"{given}: an error code is a number of 32 bits.")
    return Inject("inject", vector, error_code)


def stop(reason: str = "stopped by a handler", *, crashed: bool = False) -> Verdict:
    """The run ends with reason ``stopped`` and this text, or as ``crashed``, with a crash report below it."""
    return Stop("stop", str(reason), bool(crashed))
