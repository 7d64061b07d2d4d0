"""What came of a simulation, to be read and compared as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from string import ascii_uppercase, digits
from typing import NamedTuple

SECOND_NS = 1_000_000_000
READY, ASLEEP, CAPPED = -1, -2, -3
"""Instead of the number of a pCPU: waits for one, wants none, may have none."""
SIGNS = {number: sign for number, sign in enumerate(digits + ascii_uppercase)} | {READY: "-", ASLEEP: ".", CAPPED: "x"}


class Change(NamedTuple):
    """From this time on (virtual nanoseconds) a VM has been this: on the pCPU of this number, or `READY` and so on."""

    at: int
    state: int


@dataclass
class Row:
    """What one VM did."""

    name: str
    changes: list[Change] = field(default_factory=lambda: [Change(0, ASLEEP)])
    done: int = 0
    """Jobs that it finished."""
    late: int = 0
    """Jobs whose deadline came first."""

    def becomes(self, at: int, state: int) -> None:
        """It is that from now on."""
        last = self.changes[-1]
        if last.at == at:
            self.changes.pop()
        if not self.changes or self.changes[-1].state != state:
            self.changes.append(Change(at, state))

    def spans(self, end: int) -> Iterator[tuple[int, int, int]]:
        """From when to when it was what, until ``end``."""
        for one, following in zip(self.changes, [*self.changes[1:], Change(end, ASLEEP)], strict=True):
            yield one.at, min(following.at, end), one.state

    def seconds(self, states: range | tuple[int, ...], end: int) -> float:
        """For how long it was one of these."""
        return sum(until - at for at, until, state in self.spans(end) if state in states) / SECOND_NS

    def longest(self, end: int) -> float:
        """For how long it waited at most until it ran, having been asleep; in seconds."""
        found, before = 0, READY
        for at, until, state in self.spans(end):
            if state == READY and before == ASLEEP:
                found = max(found, until - at)
            before = state
        return found / SECOND_NS


class Schedule:
    """Of all VMs, until now."""

    def __init__(self, names: list[str], pcpus: int) -> None:
        self.rows = {name: Row(name) for name in names}
        self.pcpus = pcpus
        self.end = 0
        """Virtual nanoseconds."""

    def ran(self, name: str) -> float:
        """For how many seconds a VM had pCPUs."""
        return self.rows[name].seconds(range(self.pcpus), self.end)

    def idle(self) -> float:
        """For how many seconds a pCPU had nobody, all together."""
        return self.pcpus * self.end / SECOND_NS - sum(self.ran(name) for name in self.rows)

    def chart(self, tick: float, begin: float = 0.0, end: float | None = None) -> str:
        """A row for each VM, with a sign for each ``tick`` seconds: the pCPU that it was on in the middle of that, - if
        it waited for one, . if it wanted none, x if its cap kept it from one.
        """
        each, first = round(tick * SECOND_NS), round(begin * SECOND_NS)
        last = self.end if end is None else round(end * SECOND_NS)
        width = max(map(len, self.rows))
        scale = "".join(
            f"{(first + n * each) / 1e6:<10g}"[:10] for n in range(0, max(-(-(last - first) // each), 1), 10)
        )
        lines = [f"{'ms':{width}} {scale.rstrip()}"]
        for row in self.rows.values():
            signs, spans = [], row.spans(self.end)
            _, until, state = next(spans)
            for at in range(first + each // 2, last, each):
                while at >= until and until < self.end:
                    _, until, state = next(spans)
                signs.append(SIGNS[state])
            lines.append(f"{row.name:{width}} {''.join(signs)}")
        return "\n".join(lines) + "\n"

    def table(self) -> str:
        """How much each had, the longest that it waited when it woke, and what became of its jobs."""
        width = max(map(len, ["vm", *self.rows]))
        lines = [f"{'vm':{width}}     ran s  of a pCPU   waited ms  longest ms    done  late"]
        for row in self.rows.values():
            ran, waited = self.ran(row.name), row.seconds((READY,), self.end)
            lines.append(
                f"{row.name:{width}} {ran:9.3f} {100 * ran * SECOND_NS / self.end:8.2f} % {waited * 1e3:11.3f} "
                f"{row.longest(self.end) * 1e3:11.3f} {row.done:7} {row.late:5}"
            )
        return "\n".join(lines) + "\n"


__all__ = ["ASLEEP", "CAPPED", "READY", "Schedule"]
