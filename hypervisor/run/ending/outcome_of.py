"""What a run returns: how it ended, with the report of a crash or a hint, which are asked of the rooms above.

Whatever state a guest leaves behind, a run has a result: a report or a hint that fails says so in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hypervisor.outcome.crash_record import Crash
from hypervisor.outcome.result import WAITING, Fault, Reason, RunResult
from hypervisor.run.ending.ends import End

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine


def result_of(
    vm: Machine, end: End, error: BaseException | None, wall_s: float, virtual_s: float, until: str = ""
) -> RunResult:
    """The result of a run that is over; ``error`` is what was raised, ``until`` what it waited for."""
    reason, message = end.reason, end.message
    vm.tell("reset", f"the run ends ({reason.value}): {message.partition(chr(10))[0]}")
    crash = _report(vm, message, end.chain) if reason in (Reason.CRASHED, Reason.HOST_ERROR) else None
    return RunResult(
        reason=reason,
        message=message,
        status=end.status,
        wall_s=wall_s,
        virtual_s=virtual_s,
        exits=dict(vm.stats),
        host_events=dict(vm.host_events),
        crash=crash,
        hint=_hint(vm) if reason in WAITING and vm.devices else "",
        error=error,
        registers=(vm.current if crash else vm.vcpu).dump(),
        until=until,
    )


def _hint(vm: Machine) -> str:
    try:
        return type(vm).adviser(vm)
    except MemoryError:
        return ""
    except Exception as error:
        return f"(the hint failed: {error!r}; please report this)"


def _report(vm: Machine, message: str, chain: Sequence[Fault]) -> Crash:
    reporter = type(vm).reporter
    if reporter is None:
        return Crash("\n".join(f"{name:>7} {value:#018x}" for name, value in vm.current.dump().items()), message)
    try:
        return reporter(vm, message, chain, vm.events())
    except MemoryError:
        return Crash(f"{message}\n(the crash report needs more memory than the host has left)", message)
    except Exception as error:
        return Crash(f"{message}\n(the crash report failed: {error!r}; please report this)", message)
