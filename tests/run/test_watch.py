"""The host's watch: what is to be done at a time is done, however soon that is."""

from __future__ import annotations

import threading
import time

import pytest

from hypervisor.run.threads.thread_gate import Gate
from hypervisor.run.threads.watch import NEVER, Watch


def test_an_alarm_rings_however_soon() -> None:
    """It sets itself again while the watch looks, and its time runs out while that begins to wait. (Not each time: a
    watch that waited for ever then, at a queue of the standard library, passed in about one run of three.)
    """
    watch, over, rings = Watch(), threading.Event(), 0

    def ring() -> None:
        nonlocal rings
        rings += 1
        if rings < 40_000:
            alarm.set(time.monotonic() + rings % 200 * 1e-7)
        else:
            over.set()

    alarm = watch.alarm(ring)
    try:
        alarm.set(time.monotonic())
        assert over.wait(60), f"{rings} rings, and no more"
        assert alarm.when == NEVER
    finally:
        watch.close()


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 1e-9, 1e-6])
def test_a_gate_is_left_when_the_time_is_over(seconds: float) -> None:
    gate = Gate()
    for _ in range(1000):
        gate.open()
        gate.open()
        assert gate.is_open and gate.wait(seconds)
        assert not gate.is_open and not gate.wait(seconds)


def test_many_may_open_a_gate_at_once() -> None:
    gate, opened = Gate(), []

    def open_often() -> None:
        for _ in range(5000):
            gate.open()
        opened.append(True)

    threads = [threading.Thread(target=open_often) for _ in range(3)]
    for thread in threads:
        thread.start()
    passed = gate.wait(10)
    for thread in threads:
        thread.join()
    assert passed and len(opened) == 3
    gate.open()
    assert gate.wait(0) and not gate.wait(0)
