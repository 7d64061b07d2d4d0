"""Hearing what a guest reports: each of its consoles is read, and the first on which there is a report counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError
from hypervisor.testing.guest_tests.guest_lines import GuestLines
from hypervisor.testing.guest_tests.guest_result import GuestResult
from hypervisor.testing.guest_tests.report_format import ReportFormat
from hypervisor.testing.guest_tests.rust_tests import RustTests
from hypervisor.testing.guest_tests.tap import Tap
from hypervisor.testing.guest_tests.verdict_lines import VerdictLines

if TYPE_CHECKING:
    from hypervisor import VM
    from hypervisor.console.streams import Stream

Formats = tuple[Callable[[], ReportFormat], ...]

FORMATS: dict[str, Formats] = {
    "auto": (Tap, VerdictLines),
    "tap": (partial(Tap, sure=True),),
    "ktap": (partial(Tap, sure=True),),
    "lines": (VerdictLines,),
    "rust": (RustTests,),
    "exit": (),
}
"""By the names that users give. Rust's is not looked for: "Loading the disk... ok" is no test."""


class Reader:
    """One console's text, read as each of several formats until one has begun."""

    def __init__(self, formats: Formats) -> None:
        self._lines = GuestLines()
        self._tried = [make() for make in formats]
        self.chosen: ReportFormat | None = None
        """The format of the report, once it has begun."""

    def feed(self, data: bytes) -> None:
        """What the guest has written."""
        for line in self._lines.feed(data):
            self._take(line)

    def _take(self, line: str) -> None:
        if self.chosen is not None:
            self.chosen.take(line)
            return
        for one in self._tried:
            one.take(line)
            if one.begun:
                self.chosen = one
                self._tried = []
                return

    def end(self) -> list[GuestResult]:
        """What has been reported; the guest has ended."""
        last = self._lines.unended
        if self.chosen is None and last:
            self._take(last)
            last = ""
        return [] if self.chosen is None else self.chosen.results(last)


class Listening:
    """The reports of a guest, from what it has written already on."""

    def __init__(self, vm: VM, format: str = "auto", output: str | None = None) -> None:
        """``format`` is one of `FORMATS`; ``output`` names the one console that is read (``serial0``, ``debugcon``).
        Raises `ConfigError`.
        """
        if format not in FORMATS:
            raise ConfigError(f"format={format!r}: choose one of {', '.join(FORMATS)}.")
        consoles = {name: stream for name, stream in vm.consoles.items() if name != "console"}
        if output is not None and output not in consoles:
            raise ConfigError(f"output={output!r}: the guest writes on {', '.join(consoles)}.")
        self._readers: list[Reader] = []
        self._stops: list[Callable[[], None]] = []
        self._was_complete = False
        for name, stream in consoles.items():
            if output in (None, name):
                self._listen(stream, Reader(FORMATS[format]))

    def _listen(self, stream: Stream, reader: Reader) -> None:
        def heard(data: bytes) -> None:
            reader.feed(data)
            if b"\n" in data and self.complete != self._was_complete:
                self._was_complete = not self._was_complete
                stream.look()

        self._readers.append(reader)
        reader.feed(stream.bytes)
        self._stops.append(stream.listen(heard))

    @property
    def _reader(self) -> Reader | None:
        return next((reader for reader in self._readers if reader.chosen is not None), None)

    @property
    def report(self) -> ReportFormat | None:
        """What is read, if there is any report yet."""
        return None if self._reader is None else self._reader.chosen

    @property
    def complete(self) -> bool:
        """Whether all that was announced has been reported."""
        report = self.report
        return report is not None and report.complete

    def end(self) -> list[GuestResult]:
        """Listen no more. What has been reported."""
        for stop in self._stops:
            stop()
        ended = [reader.end() for reader in self._readers]
        return next((found for reader, found in zip(self._readers, ended, strict=True) if reader.chosen), [])


__all__ = ["FORMATS", "Listening", "Reader"]
