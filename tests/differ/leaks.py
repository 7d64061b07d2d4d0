"""A program that differs only behind others: which of them left something.

Each program gets pages, descriptors and registers of its own, so nothing should be left of the ones before. What is
left all the same is a fault, of ours or of QEMU's, that no program shows alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tests.differ.minimise import unexplained
from tests.differ.program import Program


def unexplained_behind(before: list[Program], program: Program) -> list[str]:
    """The fields of the program that differ when the others run before it."""
    return unexplained([*before, program], Counter())[-1]


def fewest(programs: list[Program], enough: Callable[[list[Program]], bool]) -> list[Program]:
    """What is left when all are taken away, half of them at once, then a quarter and so on, without which the rest is
    still ``enough``.
    """
    size = len(programs)
    while size > 1:
        size = (size + 1) // 2
        start = 0
        while start < len(programs):
            rest = programs[:start] + programs[start + size :]
            if enough(rest):
                programs = rest
            else:
                start += size
    return programs


def leak(before: list[Program], program: Program) -> list[Program] | None:
    """The programs behind which this one differs, few of those that ran before it: usually one. None if it differs
    alone, and an empty list if it does so neither alone nor behind them all.
    """
    if unexplained_behind([], program):
        return None
    if not unexplained_behind(before, program):
        return []
    return fewest(before, lambda rest: bool(unexplained_behind(rest, program)))
