"""Results of a guest, as reports of pytest: each has a test's own name, and counts as a test.

Only the process that shows reports makes them: with pytest-xdist a worker may only tell of tests that it has collected.
So they travel on the report of the test that ran the guest.
"""

from __future__ import annotations

from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import pytest

from hypervisor.testing.guest_tests.guest_result import GuestResult, Outcome

LOG = "what the guest wrote for it"
"""The section of a report with a result's lines."""


class GuestTestFailure:
    """What a report says of a test that failed in the guest."""

    def __init__(self, result: GuestResult) -> None:
        self.text = f"{result.name} failed in the guest{f': {result.reason}' if result.reason else '.'}"
        self.reprcrash = SimpleNamespace(message=result.reason or "failed in the guest")
        """Where pytest looks for a line's worth of it."""

    def toterminal(self, writer: Any) -> None:
        """Write it for people."""
        writer.line(self.text, red=True)

    def __str__(self) -> str:
        return self.text


def heading(nodeid: str) -> str:
    """What pytest puts above a failure. (In a heading that a test's identifier ends with, it would change the dots.)"""
    return f"guest test {nodeid.rpartition('/')[2]}"


def shape(report: pytest.TestReport, result: GuestResult, path: str) -> None:
    """Let a report say what became of a guest's test, which ``path`` describes."""
    if result.outcome is Outcome.FAILED:
        report.outcome = "failed"
        report.longrepr = GuestTestFailure(result)  # type: ignore[assignment]  # any object with toterminal will do
    elif result.outcome is Outcome.SKIPPED:
        report.outcome = "skipped"
        report.longrepr = (path, 0, f"Skipped: {result.reason or 'the guest says so'}")
    elif result.outcome is Outcome.XFAILED:
        report.outcome = "skipped"
        report.wasxfail = result.reason  # as pytest's own plugin for it does
    else:
        report.outcome = "passed"
        if result.outcome is Outcome.XPASSED:
            report.wasxfail = result.reason
    if result.log:
        report.sections.append((LOG, result.log))


def attach(report: pytest.TestReport, within: str, results: list[GuestResult]) -> None:
    """Have results travel with a report; their names are told ``within`` that node."""
    report.guest_results = {  # type: ignore[attr-defined]  # plain values, which pytest-xdist carries
        "within": within,
        "results": [[one.name, one.outcome.value, one.reason, one.log] for one in results],
    }


def attached(report: pytest.TestReport) -> list[pytest.TestReport]:
    """Reports of the results that came with a report: of each one its call, and the end of it."""
    told = getattr(report, "guest_results", None)
    return [] if told is None else [one for values in told["results"] for one in _pair(report, told["within"], values)]


def _pair(report: pytest.TestReport, within: str, values: list[str]) -> list[pytest.TestReport]:
    name, outcome, reason, log = values
    result = GuestResult(name, Outcome(outcome), reason, log)
    path = report.location[0]
    made = []
    for when in ("call", "teardown"):
        one = pytest.TestReport(
            f"{within}::{name}", (path, None, heading(f"{within}::{name}")), {name: 1}, "passed", None, when,
            start=report.start, stop=report.start,
        )  # fmt: skip
        for mark in ("node", "worker_id", "testrun_uid"):  # pytest-xdist's
            if hasattr(report, mark):
                setattr(one, mark, getattr(report, mark))
        made.append(one)
    shape(made[0], result, path)
    if log:
        made[0].guest_consoles = [(name, log)]  # type: ignore[attr-defined]  # for JUnit's file
    return made


class Teller:
    """A plugin of the process that shows reports."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._session: pytest.Session | None = None

    @pytest.hookimpl
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Remember where tests are counted."""
        self._session = session

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, Any, Any]:
        """Tell of the results behind the test that brought them."""
        reports = attached(report)
        if self._session is not None:
            self._session.testscollected += len(reports) // 2  # which percentages are of
        told = yield
        for one in reports:
            self._config.hook.pytest_runtest_logreport(report=one)
        return told


__all__ = ["LOG", "Teller", "attach", "heading", "shape"]
