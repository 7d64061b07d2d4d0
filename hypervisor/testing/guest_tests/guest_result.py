"""One result that a guest reported, and all of a run's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

LONGEST_NAME = 200
"""Characters of a test's name."""
LOG_CHARACTERS = 4000
"""What is kept of the lines that belong to a result, from their end."""


class Outcome(Enum):
    """What became of a test in a guest. pytest knows the same."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    XFAILED = "xfailed"
    """It failed, as its author knows that it does (TAP's TODO)."""
    XPASSED = "xpassed"
    """It passed, though its author says that it does not yet."""


@dataclass(frozen=True)
class GuestResult:
    """``name`` has suites and cases joined by dots; ``reason`` is what the guest says of a skip or a failure; ``log``
    the lines that it wrote for this test.
    """

    name: str
    outcome: Outcome
    reason: str = ""
    log: str = ""


def joined(*parts: str) -> str:
    """A name as pytest can be asked for it: dots between its parts, since two colons separate pytest's own."""
    return ".".join(part for each in parts for part in each.strip().split("::") if part)[:LONGEST_NAME]


def unique(results: Iterable[GuestResult], taken: Iterable[str] = ()) -> list[GuestResult]:
    """The same results under names that differ: the second ``alloc`` is ``alloc#2``."""
    seen = Counter(taken)
    found = []
    for result in results:
        name = result.name
        while seen[name]:
            seen[result.name] += 1
            name = f"{result.name}#{seen[result.name]}"
        seen[name] += 1
        found.append(replace(result, name=name))
    return found


__all__ = ["LOG_CHARACTERS", "LONGEST_NAME", "GuestResult", "Outcome", "joined", "unique"]
