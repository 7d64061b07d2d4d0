"""Where a slice is over is known well enough, and seldom asked for."""

from __future__ import annotations

import pytest

from hypervisor.run.threads import foresight
from hypervisor.run.threads.foresight import LATE_S, Foresight
from hypervisor.run.threads.watch import NEVER

SLICE_S, TURN_NS = 0.08, 20_000_000


class _Guest:
    """Comes so many nanoseconds further in a second of the CPU clock, which it is the only one to use."""

    def __init__(self, speed: float) -> None:
        self.speed, self.cpu, self.now, self.asked = speed, 100.0, 1_000, 0

    def thread_time(self) -> float:
        self.asked += 1
        return self.cpu

    def monotonic(self) -> float:
        return self.cpu

    def slice(self, seen: Foresight) -> tuple[float, int]:
        """Run for a slice, in turns as `Runner` makes them: how long it was, and in how many."""
        began, turns = self.cpu, 0
        seen.begin(self.now)
        while self.cpu < began + SLICE_S:
            leave_at = seen.leave_at(began, began + SLICE_S, NEVER, self.now)
            leave_at = min(leave_at, (self.now // TURN_NS + 1) * TURN_NS)
            self.cpu += (leave_at - self.now) / self.speed
            self.now, turns = leave_at, turns + 1
        seen.look(began, self.now)
        return self.cpu - began, turns


@pytest.mark.parametrize("speed", [0.3e9, 1e9, 27e9, 200e9])
def test_it_ends_in_time_and_the_clock_is_not_read_at_each_turn(speed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    guest, seen = _Guest(speed), Foresight()
    monkeypatch.setattr(foresight, "time", guest)
    guest.slice(seen)
    for change in (1.0, 1.0, 1.5, 1 / 1.5, 1.0):
        guest.speed *= change
        before = guest.asked
        took, turns = guest.slice(seen)
        late = max(LATE_S, TURN_NS / guest.speed) if change < 1 else LATE_S  # it looks no sooner than a turn is over
        assert SLICE_S <= took < SLICE_S + late + 1e-4, (took, turns)
        assert guest.asked - before <= 14, turns
        if speed > 20e9:
            assert turns > 100
