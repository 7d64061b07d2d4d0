"""``--guest-coverage=FILE``: which source lines the guests of a session executed, all tests together, as lcov."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hypervisor.testing.present_guests import Guest
from hypervisor.vm.watching.line_counts import LineCounts

SENT = "hypervisor_guest_lines"
"""What a worker of pytest-xdist calls its part."""


class GuestCoverage:
    """Of one process: hears of each guest."""

    def __init__(self) -> None:
        self.counts = LineCounts()

    def begins(self, guest: Guest) -> None:
        """Count from here."""
        guest.vm.coverage.start()

    def ends(self, guest: Guest) -> None:
        """Add what it has executed; nothing if its test has ended its coverage."""
        if guest.vm.coverage.running:
            coverage = guest.vm.coverage
            self.counts.add(coverage.lines(), coverage.functions())


class CoverageWriter:
    """A plugin of the process that shows reports: it writes the file, with what workers sent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.counts = LineCounts()
        self._lost: list[str] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker has ended, in good order if there is no ``error``."""
        sent = getattr(node, "workeroutput", {}).get(SENT)
        if sent is not None:
            self.counts.add_counts(*sent)
        elif error:
            self._lost.append(node.gateway.id)

    def write(self) -> None:
        """What there is. Raises `pytest.UsageError` where it cannot be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(self.counts.lcov(), encoding="utf-8")
        except OSError as error:
            raise pytest.UsageError(f"--guest-coverage: {self._path} cannot be written: {error.strerror}.") from error

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what is in it."""
        executed, all_lines = self.counts.totals()
        terminalreporter.write_sep("-", "coverage of guests")
        if all_lines:
            part = f"{executed} of {all_lines} lines ({100 * executed / all_lines:.0f} %)"
            entered, functions = self.counts.function_totals()
            part += f", {entered} of {functions} functions" if functions else ""
        else:
            part = "no guest has lines: compile its kernel with -g"
        terminalreporter.write_line(f"{self._path}: {part}")
        if self._lost:
            terminalreporter.write_line(f"without what these workers saw, which ended badly: {', '.join(self._lost)}")


__all__ = ["SENT", "CoverageWriter", "GuestCoverage"]
