"""The Test Anything Protocol, versions 12 to 14, and the kernel's KTAP, with suites inside suites.

Sources: testanything.org (TAP 14: "Subtests", "Directives", "Bail out!"), Linux' Documentation/dev-tools/ktap.rst.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypervisor.testing.guest_tests.guest_result import LOG_CHARACTERS, GuestResult, Outcome, joined, unique
from hypervisor.testing.guest_tests.report_format import MOST_RESULTS, ReportFormat

DEEPEST = 16
"""Suites inside suites; what is deeper is taken for log."""
MOST_NAMED = 10
"""Numbers that a sentence about a plan lists."""

_VERSION = re.compile(r"(K?TAP) version \d+\s*$")
_PLAN = re.compile(r"1\.\.(\d{1,9})\s*(?:#\s*(?:SKIP\w*)?\s*(.*))?$", re.IGNORECASE)
_RESULT = re.compile(r"(not )?ok(?=\s|$)(?:\s+(\d{1,9})(?=\s|$))?\s*(.*)$")
_SUBTEST = re.compile(r"# Subtest:? ?(.*)$")
_BAIL = re.compile(r"Bail out!\s*(.*)$")
_COMMENT = re.compile(r"(?:^|\s)#\s*(?:(SKIP\w*|TODO|XFAIL|TIMEOUT|ERROR)\b:?)?\s*(.*)$", re.IGNORECASE)
"""A directive with its reason, or what else a description ends with."""


@dataclass
class _Test:
    """A result line, with what was nested before it."""

    name: str
    number: int | None
    ok: bool | None
    """None for a suite that was not ended."""
    directive: str = ""
    reason: str = ""
    log: str = ""
    children: list[_Test] = field(default_factory=list)


@dataclass
class _Level:
    """Result lines of one indentation, of one suite."""

    indent: int
    name: str = ""
    plan: int | None = None
    tests: list[_Test] = field(default_factory=list)
    nested: _Level | None = None
    """A suite that has ended but for its result line."""


class Tap(ReportFormat):
    """Reads TAP and KTAP."""

    def __init__(self, sure: bool = False) -> None:
        """Unless it is ``sure`` that the guest prints TAP, a line "ok name" counts only once a version, a plan or a
        result with a number has come.
        """
        super().__init__()
        self._sure = sure
        self._levels = [_Level(0)]
        self._ended: list[_Test] = []
        """Results of whole documents before this one."""
        self._count = 0
        self._kernel = False
        self._bailed = False
        self._next_name = ""
        self._yaml: int | None = None
        """The indentation of the YAML block that is being read."""
        self._last: _Test | None = None
        """The result that a YAML block, or a comment behind a failure, belongs to."""

    @property
    def announced(self) -> bool:
        """Whether there is an outermost plan."""
        return self._levels[0].plan is not None

    @property
    def complete(self) -> bool:
        """Whether the outermost plan is fulfilled, or the guest has bailed out."""
        root = self._levels[0]
        whole = root.plan is not None and len(root.tests) >= root.plan and len(self._levels) == 1
        return self._bailed or (whole and root.nested is None)

    def take(self, line: str) -> None:
        """Read a line."""
        line = line.expandtabs(4).rstrip()
        text = line.lstrip(" ")
        indent = len(line) - len(text)
        if self._yaml is not None and self._in_yaml(text, indent):
            return
        if match := _VERSION.match(text):
            self._version(indent, match[1] == "KTAP")
        elif match := _PLAN.match(text):
            self._plan(indent, int(match[1]), match[2] or "")
        elif (match := _RESULT.match(text)) and (self._sure or self.begun or match[2]):
            self._result(indent, match)
        elif match := _SUBTEST.match(text):
            self._subtest(indent, match[1])
        elif match := _BAIL.match(text):
            self.begun = self._bailed = True
            self.problem(f"the guest bailed out: {match[1]}" if match[1] else "the guest bailed out")
        elif text == "---" and indent > self._levels[-1].indent and self._last is not None and not self._log:
            self._yaml = indent
        elif text.startswith("#") and not self._kernel and self._last is not None and self._last.ok is False:
            self._add_log(self._last, text)
        else:
            self.log(line)

    # --- lines --------------------------------------------------------------------------------------------------------

    def _in_yaml(self, text: str, indent: int) -> bool:
        """Whether a line belongs to the YAML block; one that is indented less ends a block that lacks its end."""
        assert self._yaml is not None and self._last is not None
        if indent < self._yaml and text:
            self._yaml = None
            return False
        if text == "...":
            self._yaml = None
        else:
            self._add_log(self._last, text)
        return True

    def _version(self, indent: int, kernel: bool) -> None:
        self.begun, self._kernel = True, kernel
        if indent:
            if self._open(indent).tests and self._levels[-1].indent == indent:
                self._close()  # the suite before it got no result
                self._open(indent)
        elif self._levels[0].tests or self._levels[0].plan is not None:
            self._ended += self._whole()  # another document
            self._levels = [_Level(0)]
        self._last = None

    def _plan(self, indent: int, count: int, reason: str) -> None:
        self.begun = True
        level = self._open(indent)
        if level.plan is not None:
            self.problem(f"{self._of(level)} has two plans, 1..{level.plan} and 1..{count}")
        level.plan = count
        if count == 0 and level is self._levels[0]:
            self.skipped = reason or "the guest's plan is 1..0"
        self._last = None

    def _subtest(self, indent: int, name: str) -> None:
        """A name for the suite that this line is in, or, not indented further than its results, for what follows."""
        self.begun = True
        level = self._levels[-1]
        if indent > level.indent or (indent == level.indent > 0 and not (level.name or level.tests)):
            self._open(indent).name = name
        else:
            self._next_name = name
        self._last = None

    def _result(self, indent: int, match: re.Match[str]) -> None:
        self.begun = True
        level = self._open(indent)
        test = _test(match, len(level.tests) + 1)
        test.log = self.take_log()
        if level.nested is not None:
            self._check_plan(level.nested)
            test.children, level.nested = level.nested.tests, None
        self._next_name = ""
        self._last = self._add(level, test)

    def _add(self, level: _Level, test: _Test) -> _Test | None:
        if self._count >= MOST_RESULTS:
            self.lost += 1
            return None
        self._count += 1
        level.tests.append(test)
        return test

    @staticmethod
    def _add_log(test: _Test, text: str) -> None:
        test.log = f"{test.log}\n{text}".strip("\n")[-LOG_CHARACTERS:]

    # --- levels -------------------------------------------------------------------------------------------------------

    def _open(self, indent: int) -> _Level:
        """The level of this indentation: those that are deeper end, and one that is not there begins."""
        while len(self._levels) > 1 and indent < self._levels[-1].indent:
            self._close()
        level = self._levels[-1]
        if indent > level.indent and len(self._levels) < DEEPEST:
            self._adopt(level)
            level = _Level(indent, self._next_name)
            self._next_name = ""
            self._levels.append(level)
        return level

    def _close(self) -> None:
        ended = self._levels.pop()
        self._adopt(ended)
        self._adopt(self._levels[-1])
        self._levels[-1].nested = ended

    def _adopt(self, level: _Level) -> None:
        """A suite inside of this level got no result line, and gets none any more."""
        nested, level.nested = level.nested, None
        if nested is not None and (nested.tests or nested.plan or nested.name):
            self._check_plan(nested)
            self.problem(f"{self._of(nested)} has no result of its own")
            self._add(level, _Test(nested.name or "unnamed suite", None, None, children=nested.tests))

    def _whole(self) -> list[_Test]:
        """The results of a document that has ended."""
        while len(self._levels) > 1:
            self._close()
        root = self._levels[0]
        self._adopt(root)
        self._check_plan(root)
        return root.tests

    def _of(self, level: _Level) -> str:
        return "the report" if level is self._levels[0] else f"the suite {level.name}" if level.name else "a suite"

    def _check_plan(self, level: _Level) -> None:
        numbers = [test.number for test in level.tests if test.number is not None]
        twice = sorted(number for number, times in Counter(numbers).items() if times > 1)
        if twice:
            self.problem(f"{self._of(level)} has several results with {_listed(twice)}")
        if level.plan is None or self._bailed:
            return
        if outside := sorted({number for number in numbers if not 1 <= number <= level.plan}):
            self.problem(f"{self._of(level)} has results with {_listed(outside)}, and its plan says {level.plan}")
        given, planned = len(level.tests) + (self.lost if level is self._levels[0] else 0), level.plan
        if given < planned:
            there = set(numbers)
            missing = [number for number in range(1, min(planned, 2 * MOST_RESULTS) + 1) if number not in there]
            which = f": no result has {_listed(missing)}" if missing and len(numbers) == len(level.tests) else ""
            self.problem(f"{self._of(level)} has {given} of the {planned} results of its plan{which}")
        elif given > planned:
            self.problem(f"{self._of(level)} has {given} results, and its plan says {planned}")

    # --- the end ------------------------------------------------------------------------------------------------------

    def results(self, unended: str = "") -> list[GuestResult]:
        """See `ReportFormat.results`."""
        if unended:
            self.take(unended)
        tests = self._ended + self._whole()
        return unique(result for test in tests for result in _leaves(test, ()))


def _test(match: re.Match[str], number: int) -> _Test:
    """The result that a line says; a test without a name is called by its number."""
    text = match[3]
    comment = _COMMENT.search(text)
    directive, reason = ("", "") if comment is None else ((comment[1] or "").upper(), comment[2])
    name = text if comment is None else text[: comment.start()]
    name = re.sub(r"^-(?:\s+|$)", "", name).replace("\\#", "#").strip()
    own = int(match[2]) if match[2] else None
    return _Test(name or str(own or number), own, not match[1], directive, reason)


def _leaves(test: _Test, suites: tuple[str, ...]) -> Iterator[GuestResult]:
    """A test without others in it, or those in it; the suite itself only if it failed for a reason of its own."""
    name = (*suites, test.name)
    below = [result for child in test.children for result in _leaves(child, name)]
    yield from below
    outcome, reason = _outcome(test)
    if not test.children:
        yield GuestResult(joined(*name), outcome, reason, test.log)
    elif test.ok is False and outcome is Outcome.FAILED and all(one.outcome is not Outcome.FAILED for one in below):
        yield GuestResult(joined(*name), outcome, reason or "the suite failed, though no test in it did", test.log)


def _outcome(test: _Test) -> tuple[Outcome, str]:
    if test.ok is None:
        return Outcome.FAILED, "it was begun, and has no result"
    if test.directive.startswith("SKIP"):
        return Outcome.SKIPPED, test.reason
    if test.directive in ("TODO", "XFAIL"):
        return (Outcome.XPASSED if test.ok and test.directive == "TODO" else Outcome.XFAILED), test.reason
    if test.directive in ("TIMEOUT", "ERROR"):
        return Outcome.FAILED, f"{test.directive} {test.reason}".strip()
    return (Outcome.PASSED if test.ok else Outcome.FAILED), test.reason


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:MOST_NAMED]))
    more = len(numbers) - MOST_NAMED
    return f"the number{'s' if len(numbers) > 1 else ''} {shown}" + (f" and {more} more" if more > 0 else "")


__all__ = ["DEEPEST", "Tap"]
