"""A line for each test that begins with its verdict: ``PASS name``, ``FAIL: name``, ``[SKIP] name (reason)``.

So say kvm-unit-tests, DejaGnu and Automake, and kernels that count their tests themselves.
"""

from __future__ import annotations

import re

from hypervisor.testing.guest_tests.guest_result import GuestResult, Outcome, unique
from hypervisor.testing.guest_tests.report_format import FlatReport

OUTCOMES = {
    "PASS": Outcome.PASSED, "PASSED": Outcome.PASSED,
    "FAIL": Outcome.FAILED, "FAILED": Outcome.FAILED, "ERROR": Outcome.FAILED, "UNRESOLVED": Outcome.FAILED,
    "SKIP": Outcome.SKIPPED, "SKIPPED": Outcome.SKIPPED, "UNTESTED": Outcome.SKIPPED, "UNSUPPORTED": Outcome.SKIPPED,
    "XFAIL": Outcome.XFAILED, "KFAIL": Outcome.XFAILED, "XPASS": Outcome.XPASSED,
}  # fmt: skip
LONGEST = 500
"""Characters of a name with its reason: looking for where one ends takes their square."""

_LINE = re.compile(rf"\s*(\[ *)?({'|'.join(OUTCOMES)})(?(1) *\]:?|[: ])\s*(?:[-:] )?(.+)$")
_REASON = re.compile(r"^(.*?)\s*(?:\((.*)\)|#\s*(.*))$")


class VerdictLines(FlatReport):
    """Reads such lines. Nothing announces how many there will be."""

    @property
    def announced(self) -> bool:
        """Never."""
        return False

    @property
    def complete(self) -> bool:
        """Never known."""
        return False

    def take(self, line: str) -> None:
        """Read a line."""
        match = _LINE.match(line.rstrip())
        if match is None:
            self.log(line)
            return
        self.begun = True
        outcome, name, reason = OUTCOMES[match[2]], match[3][:LONGEST], ""
        if outcome is not Outcome.PASSED and (said := _REASON.match(name)) and said[1]:
            name, reason = said[1], said[2] or said[3]
        self.add(name, outcome, reason)

    def results(self, unended: str = "") -> list[GuestResult]:
        """See `ReportFormat.results`."""
        if unended:
            self.take(unended)
        return unique(self.found)


__all__ = ["LONGEST", "OUTCOMES", "VerdictLines"]
