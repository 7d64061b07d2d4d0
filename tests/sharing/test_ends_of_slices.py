"""What a slice is charged with at its end, and that it ends where it is to though the watch does not come."""

from __future__ import annotations

import statistics
import time
from typing import Any
from unittest import mock

import pytest

import hypervisor as hv
from hypervisor.run.sharing import scheduler
from hypervisor.run.sharing.accounts import Accounts
from hypervisor.run.sharing.hold import FORGIVEN_S, Hold
from hypervisor.run.threads.thread_meter import Reading
from tests.core.queueing import until
from tests.sharing.guests import counting, until_computed


class Meter:
    """Of this thread, which has a processor whenever it computes; and sleeps as a test says."""

    def __init__(self) -> None:
        self.slept = 0.0

    def read(self) -> Reading:
        cpu = time.thread_time()
        return Reading(cpu + self.slept, cpu, 0.0)

    def glance(self, since: Reading) -> Reading:
        return self.read()


def _held(sleeps_before: float, sleeps_behind: float) -> float:
    """For how long a VM has held up its pCPU whose thread slept in its slice, and behind that."""
    vm: Any = None
    hold, meter = Hold(vm), Meter()
    hold.meter = meter
    with mock.patch("time.monotonic", lambda: meter.read().wall):
        hold.begin()
        meter.slept += sleeps_before
        hold.over = True
        assert hold.spent
        meter.slept += sleeps_behind
        return hold.held_up(meter.read())


def test_who_waits_to_leave_its_pcpu_is_not_charged_for_that() -> None:
    """For the interpreter, or the queue's lock, whose holder may have lost its processor. A handler's sleep is its."""
    assert _held(0.0, 3.0) < 0.5
    assert _held(3.0, 0.0) == pytest.approx(3.0 - FORGIVEN_S, abs=0.5)


def test_a_slice_that_becomes_shorter_ends_there_though_the_watch_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that computes has no end of its slice in sight until another one wants its pCPU. Here the watch never kicks,
    and the guest is left by itself each 20 ms of its time, for which it computes for 75.
    """
    monkeypatch.setattr(scheduler, "SLICE_S", 0.002)
    monkeypatch.setattr(Hold, "left", lambda hold, now: 1.0)
    leaves, asked, went_on = Accounts.leaves, list[float](), list[float]()

    def seen(self: Accounts, hold: Any) -> tuple[float, float]:
        held, whole = leaves(self, hold)
        if hold.vm is one.place and asked:
            went_on.append(held - asked.pop())
        return held, whole

    monkeypatch.setattr(Accounts, "leaves", seen)
    with hv.Host("16M", 1) as host, counting(host, [hv.Share()] * 2) as (one, other):
        one.start()
        for _ in range(9):
            until_computed([one], 0.012, 10)  # its slice is over long since, by now
            (hold,) = [each for each in host.queue._holds if each.task is not None]
            asked.append(hold.so_far())
            other.start()
            until(lambda: not asked)
            other.stop()
        one.stop()
    assert len(went_on) == 9 and statistics.median(went_on) < 0.015, went_on
