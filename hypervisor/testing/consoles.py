"""What guests have written, for the report that machines read (JUnit's): with closed guests, and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from typing import Any
from xml.etree import ElementTree

import pytest
from _pytest.junitxml import bin_xml_escape, xml_key  # there is no public way to a test's system-out

from hypervisor.testing.present_guests import Guest

GUESTS = 8
"""Of how many guests of a test the consoles are told: of the last ones."""
CHARACTERS = 16 << 10
"""What is told of each, from its end."""


class Consoles:
    """Of the guests of one test."""

    def __init__(self, wanted: bool) -> None:
        """Nothing is kept unless it is ``wanted``."""
        self._wanted = wanted
        self._ended: deque[tuple[str, str]] = deque(maxlen=GUESTS)

    def begins(self, guest: Guest) -> None:
        """See `GuestWatcher`."""

    def ends(self, guest: Guest) -> None:
        """See `GuestWatcher`."""
        if self._wanted:
            self._ended.append(_said(guest))

    def take(self, present: Iterable[Guest]) -> list[tuple[str, str]]:
        """Name and text of each, those that are still there last; the next test begins with nothing."""
        if not self._wanted:
            return []
        found = [*self._ended, *(_said(guest) for guest in present)][-GUESTS:]
        self._ended.clear()
        return [(name, text) for name, text in found if text]


def _said(guest: Guest) -> tuple[str, str]:
    text = guest.vm.console.text
    cut = len(text) - CHARACTERS
    return guest.name, text if cut <= 0 else f"... {cut} characters left out\n{text[cut:]}"


class JUnitConsoles:
    """A plugin of the process that writes JUnit's file: each test's ``system-out`` has its guests' consoles."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._waiting: dict[str, str] = {}
        """What a test's guests wrote, from its call until its end."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, Any, Any]:
        """Add them when the test is over, where pytest adds what it captured."""
        texts = getattr(report, "guest_consoles", None)
        if texts and (report.failed or self._config.getini("junit_log_passing_tests")):
            self._waiting[report.nodeid] = "\n".join(f"--- {name}\n{text}" for name, text in texts if text)
        text = self._waiting.pop(report.nodeid, None) if report.when == "teardown" else None
        if text is None:
            return (yield)
        xml = self._config.stash.get(xml_key, None)
        if xml is None:
            return (yield)
        if xml.logging in ("system-out", "out-err", "all"):  # pytest writes one, of sections that are called so
            report.sections.append(("Captured stdout of guests", text))
            try:
                return (yield)
            finally:
                report.sections.pop()  # people have it already
        element = ElementTree.Element("system-out")
        element.text = bin_xml_escape(text)
        xml.node_reporter(report).append(element)
        return (yield)


__all__ = ["CHARACTERS", "GUESTS", "Consoles", "JUnitConsoles"]
