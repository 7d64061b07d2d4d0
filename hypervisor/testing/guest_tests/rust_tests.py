"""Tests as Rust's harness tells them, and test runners of kernels that copy it: ``name...`` before a test, ``[ok]`` or
``[failed]`` behind it. Source: "Writing an OS in Rust", "Testing"; libtest's own ``test name ... ok``.
"""

from __future__ import annotations

import re

from hypervisor.testing.guest_tests.guest_result import GuestResult, Outcome, unique
from hypervisor.testing.guest_tests.report_format import FlatReport

_RUNNING = re.compile(r"running (\d{1,9}) tests?$", re.IGNORECASE)
_BEGINS = re.compile(r"(?:test )?([\w:<>{}# ,&*-]{1,200}?)(?: - should panic)?\s*\.\.\.\s*(.*)$")
_ENDS = re.compile(r"(.*?)(?:\[(ok|failed|ignored)\]|(?<!\S)(ok|FAILED|ignored)(?:, (.*))?)$")
_OUTCOMES = {"ok": Outcome.PASSED, "failed": Outcome.FAILED, "ignored": Outcome.SKIPPED}


class RustTests(FlatReport):
    """Reads such lines. What a test prints comes between its name and its verdict."""

    def __init__(self) -> None:
        super().__init__()
        self._count: int | None = None
        self._name = ""
        """The test that runs."""

    @property
    def announced(self) -> bool:
        """Whether it was said how many tests run."""
        return self._count is not None

    @property
    def complete(self) -> bool:
        """Whether as many tests as were announced have ended."""
        return self._count is not None and not self._name and len(self.found) + self.lost >= self._count

    def take(self, line: str) -> None:
        """Read a line."""
        line = line.strip()
        if match := _RUNNING.match(line):
            self.begun = True
            self._count = (self._count or 0) + int(match[1])
            return
        if match := _BEGINS.match(line):
            if self._name:
                self._end(Outcome.FAILED, "it was begun, and has no result")
            self.begun, self._name, line = True, match[1], match[2]
            self.take_log()
        match = _ENDS.match(line) if self._name else None
        if match is None:
            self.log(line)
            return
        if match[1].strip():
            self.log(match[1].strip())
        self._end(_OUTCOMES[(match[2] or match[3]).lower()], match[4] or "")

    def _end(self, outcome: Outcome, reason: str) -> None:
        name, self._name = self._name, ""
        self.add(name, outcome, reason)

    def results(self, unended: str = "") -> list[GuestResult]:
        """See `ReportFormat.results`."""
        if unended:
            self.take(unended)
        if self._name:
            self._end(Outcome.FAILED, "it was begun, and has no result")
        count = len(self.found) + self.lost
        if self._count is not None and count != self._count:
            self.problem(f"the report has {count} of the {self._count} results that were announced")
        return unique(self.found)


__all__ = ["RustTests"]
