"""Running a guest for the tests that it makes of itself, and what is wrong with how it went."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypervisor.outcome.result import Reason
from hypervisor.run.ending.conditions import Condition
from hypervisor.testing.guest_tests.expectation import Expectation
from hypervisor.testing.guest_tests.guest_result import GuestResult, Outcome
from hypervisor.testing.guest_tests.listening import Listening

if TYPE_CHECKING:
    from hypervisor import VM, RunResult
    from hypervisor.testing.guest_tests.report_format import ReportFormat

GRACE_S = 0.1
"""Guest seconds in which a guest may power off, exit or crash when its report is complete; then it is stopped."""
MOST_NAMED = 5
"""Names that a sentence lists."""

_BY_ITSELF = frozenset({Reason.POWERED_OFF, Reason.DEBUG_EXIT, Reason.RESET})
_WAITS = frozenset({Reason.HALTED, Reason.IDLE})


class GuestTestsFailed(AssertionError):
    """A guest's tests did not go as they were meant to, other than by a test of it that failed."""


@dataclass(frozen=True)
class GuestTests:
    """What a guest reported. ``skipped`` says why there is nothing, where the guest does; ``problem`` what is wrong
    with the run or the report, empty if nothing is. A test that failed is a result, and no problem.
    """

    results: list[GuestResult] = field(default_factory=list)
    problem: str = ""
    skipped: str | None = None

    def __getitem__(self, name: str) -> GuestResult:
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(f"the guest reported no test {name!r}; it reported {_names([r.name for r in self.results])}")

    def of(self, outcome: str) -> list[str]:
        """Names of the results with this outcome: ``passed``, ``failed``, ``skipped``, ``xfailed``, ``xpassed``."""
        return [result.name for result in self.results if result.outcome is Outcome(outcome)]


class _Becomes(Condition):
    """The report becomes complete, or ceases to be."""

    looks_at_guest = False

    def __init__(self, listening: Listening, complete: bool) -> None:
        self._listening, self._complete = listening, complete
        self.text = f"the guest's report is {'complete' if complete else 'going on'}"

    def holds(self) -> bool:
        return self._listening.complete == self._complete


def run_guest_tests(vm: VM, expected: Expectation) -> GuestTests:
    """Run a guest until it has reported what it tests, and ended. Raises `ConfigError` for a console that there is not,
    and for limits that are none.
    """
    listening = Listening(vm, expected.format, expected.output)
    try:
        result = _run(vm, listening, expected)
        complete = listening.complete  # as the guest left it
    finally:
        results = listening.end()
    report = listening.report
    skipped = report.skipped if report is not None and not results else None
    problems = _problems(results, report, complete, result, expected)
    return GuestTests(results, "\n".join(problems), None if problems else skipped)


def _run(vm: VM, listening: Listening, expected: Expectation) -> RunResult:
    end_at = None if expected.timeout is None else time.monotonic() + expected.timeout
    virtual_end = None if expected.virtual_timeout is None else vm.now + expected.virtual_timeout
    while True:
        timeout = None if end_at is None else max(end_at - time.monotonic(), 0.001)
        virtual = None if virtual_end is None else max(virtual_end - vm.now, 1e-9)
        if not listening.complete or expected.exit:
            until = None if expected.exit else _Becomes(listening, True)
            result = vm.run(until=until, timeout=timeout, virtual_timeout=virtual)
        else:
            until = _Becomes(listening, False)
            grace = GRACE_S if virtual is None else min(virtual, GRACE_S)
            result = vm.run(until=until, timeout=timeout, virtual_timeout=grace)
        if result.reason is not Reason.UNTIL:
            return result


def _problems(
    results: Sequence[GuestResult],
    report: ReportFormat | None,
    complete: bool,
    result: RunResult,
    expected: Expectation,
) -> list[str]:
    """Sentences; the first one says what matters most."""
    names = {one.name for one in results}
    missing = [name for name in expected.names if name not in names]
    if expected.names and not missing:
        complete = True
    found = [_end(result, report, complete, expected)]
    if report is not None:
        found += [f"{problem[0].upper()}{problem[1:]}." for problem in report.problems]
        if report.lost:
            found.append(f"It reported {report.lost} results more than are told.")
    if missing:
        found.append(f"It did not report {_names(missing)}.")
    nothing = not results and not missing and (report is None or report.skipped is None)
    if nothing and not found[0] and expected.format != "exit" and result.reason is not Reason.DEBUG_EXIT:
        found.append(f"The guest reported no test, and ended as {result.reason.value}: {result.message}")
    return [text for text in found if text]


def _end(result: RunResult, report: ReportFormat | None, complete: bool, expected: Expectation) -> str:
    """What is wrong with how the run ended."""
    reason = result.reason
    if expected.exit:
        if reason is Reason.DEBUG_EXIT and result.status in expected.exit:
            return ""
        meant = " or ".join(map(str, expected.exit))
        said = f"with status {result.status}" if reason is Reason.DEBUG_EXIT else _ended(result)
        return f"The guest was meant to end by a debug exit with status {meant}, and ended {said}."
    if reason is Reason.DEBUG_EXIT and report is None:
        return (
            f"The guest reported no test, and ended by a debug exit with status {result.status}; where this is a "
            f"success, say exit = {result.status}."
        )
    if reason in _BY_ITSELF or (complete and (reason in _WAITS or reason is Reason.VIRTUAL_TIMEOUT)):
        return ""
    if reason in _WAITS and report is not None and not (report.announced or expected.names):
        return (
            f"The guest ended {_ended(result)}. Nobody knows whether that was the last test: let it say at first how "
            "many there are (1..N), power off at the end, or name them (names = [...])."
        )
    return f"The guest ended {_ended(result)}"


def _ended(result: RunResult) -> str:
    hint = f"\nlikely mistake: {result.hint}" if result.hint else ""
    crash = "" if result.crash is None else "\n" + str(result.crash).removeprefix(result.message).lstrip("\n")
    return f"as {result.reason.value}: {result.message}{crash}{hint}"


def _names(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return (", ".join(names[:MOST_NAMED]) or "nothing") + (f" and {more} more" if more > 0 else "")


__all__ = ["GRACE_S", "GuestTests", "GuestTestsFailed", "run_guest_tests"]
