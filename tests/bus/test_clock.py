"""Timers, against a dictionary of deadlines: what fires, when, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from hypervisor.bus.clock import ManualClock, Timer, TimerQueue

KEYS = [("a", "x"), ("a", "y"), ("b", "x"), ("uart0", "arrival"), ("uart0", "timeout")]


class Timers:
    """A queue and its oracle: deadlines by key. A timer that fires may set itself again, or clear another."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.fired: list[tuple[str, str]] = []
        self.expected: list[tuple[str, str]] = []
        self.oracle: dict[tuple[str, str], int] = {}
        self.queue = TimerQueue()
        keys = list(KEYS)
        self.random.shuffle(keys)  # the order of asking must not matter
        self.timers = {key: self.queue.timer(*key, self._callback(key)) for key in keys}

    def _callback(self, key: tuple[str, str]) -> Callable[[], None]:
        return lambda: self.fired.append(key)

    def set(self, key: tuple[str, str], at: int) -> None:
        self.timers[key].set(at)
        self.oracle[key] = at

    def clear(self, key: tuple[str, str]) -> None:
        self.timers[key].clear()
        self.oracle.pop(key, None)

    def run(self, now: int) -> None:
        due = sorted((at, key) for key, at in self.oracle.items() if at <= now)
        self.expected += [key for _, key in due]
        for _, key in due:
            del self.oracle[key]
        assert self.queue.run_due(now) == len(due)


@pytest.mark.parametrize("seed", range(20))
def test_timers_fire_as_a_dictionary_says(seed: int) -> None:
    timers, now = Timers(seed), 0
    for _ in range(2000):
        key = timers.random.choice(KEYS)
        action = timers.random.random()
        if action < 0.6:
            timers.set(key, now + timers.random.randrange(-2, 6))  # close together, so that deadlines are equal
        elif action < 0.75:
            timers.clear(key)
        else:
            now += timers.random.randrange(4)
            timers.run(now)
        assert timers.queue.next_ns() == min(timers.oracle.values(), default=None)
        assert [(t.deadline_ns, (t.owner, t.name)) for t in timers.queue.pending()] == sorted(
            (at, key) for key, at in timers.oracle.items()
        )
    assert timers.fired == timers.expected
    assert len(timers.fired) > 300
    assert len(timers.queue._heap) < 200


def test_timers_without_a_name_come_last_as_they_were_asked_for() -> None:
    heard: list[str] = []
    queue = TimerQueue()
    queue.add(5, lambda: heard.append("first"))
    queue.add(5, lambda: heard.append("second"))
    queue.timer("z", "z", lambda: heard.append("z")).set(5)
    queue.timer("a", "a", lambda: heard.append("a")).set(5)
    queue.run_due(5)
    assert heard == ["a", "z", "first", "second"]


def test_the_owner_of_a_queue_is_told_of_earlier_deadlines_only() -> None:
    told: list[int | None] = []
    queue = TimerQueue(lambda: told.append(queue.earliest_ns))
    one, other = queue.timer("a", "1", lambda: None), queue.timer("a", "2", lambda: None)
    one.set(100)
    other.set(200)
    other.set(50)
    one.set(70)
    other.clear()
    assert queue.next_ns() == 70
    other.set(60)
    assert told == [100, 50, 60]


def test_a_timer_that_fires_may_be_set_again() -> None:
    clock, heard = ManualClock(), []

    def again() -> None:
        heard.append(clock.now_ns)
        if len(heard) < 5:
            timer.set(clock.now_ns + 10)

    timer: Timer = clock.timer("a", "a", again)
    timer.set(0)
    clock.advance(100)
    assert heard == [0, 10, 20, 30, 40]
    assert clock.pending == []
