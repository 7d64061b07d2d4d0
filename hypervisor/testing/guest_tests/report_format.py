"""What every format of reports is to who reads them: lines go in, results and problems come out."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hypervisor.testing.guest_tests.guest_result import LOG_CHARACTERS, GuestResult, Outcome, joined

MOST_RESULTS = 10_000
"""Results of one guest that are told; a guest may report any number."""
MOST_PROBLEMS = 20
"""Sentences about one report."""


class ReportFormat(ABC):
    """One guest's report, as far as it has been read."""

    def __init__(self) -> None:
        self.begun = False
        """Whether anything of this format has come."""
        self.problems: list[str] = []
        """What is wrong with the report itself, as sentences without their dot."""
        self.skipped: str | None = None
        """Why there is nothing to report, where the guest says so."""
        self.lost = 0
        """Results for which there was no room."""
        self._log: list[str] = []
        self._log_size = 0

    @abstractmethod
    def take(self, line: str) -> None:
        """Read a line."""

    @property
    @abstractmethod
    def announced(self) -> bool:
        """Whether the guest has said how many results there will be."""

    @property
    @abstractmethod
    def complete(self) -> bool:
        """Whether all that was announced has been reported."""

    @abstractmethod
    def results(self, unended: str = "") -> list[GuestResult]:
        """What has been reported when the guest has ended, which was writing the line ``unended`` then. Once."""

    def problem(self, text: str) -> None:
        """The report is wrong."""
        if len(self.problems) < MOST_PROBLEMS and text not in self.problems:
            self.problems.append(text)

    def log(self, line: str) -> None:
        """A line that is no part of the format belongs to the next result."""
        self._log.append(line)
        self._log_size += len(line) + 1
        if self._log_size > 2 * LOG_CHARACTERS:
            kept = "\n".join(self._log)[-LOG_CHARACTERS:]
            self._log, self._log_size = [kept], len(kept)

    def take_log(self) -> str:
        """The lines since the last result."""
        text = "\n".join(self._log).strip("\n")[-LOG_CHARACTERS:]
        self._log, self._log_size = [], 0
        return text


class FlatReport(ReportFormat):
    """A report without suites: one result behind another."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[GuestResult] = []

    def add(self, name: str, outcome: Outcome, reason: str) -> None:
        """A result, and the lines before it; one that there is no room for is counted."""
        if len(self.found) < MOST_RESULTS:
            self.found.append(GuestResult(joined(name), outcome, reason, self.take_log()))
        else:
            self.lost += 1


__all__ = ["MOST_PROBLEMS", "MOST_RESULTS", "FlatReport", "ReportFormat"]
