"""Threads look for a moment before they sleep, where that was worth while the last time; and it is a hint at most."""

from __future__ import annotations

import random
import threading
import time

import pytest

import hypervisor as hv
from hypervisor.engine.compiling.compiler import code
from hypervisor.run.threads import patience as waits
from hypervisor.run.threads.patience import SOON_S, Mark, Patience

ROUNDS = 400


class Looks:
    """Counts looks, in place of `Mark.look`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr(waits, "_several", lambda: True)
        monkeypatch.setattr(Mark, "look", self)

    def __call__(self) -> None:
        """One more."""
        self.count += 1


def test_a_look_ends_when_the_mark_is_set_or_after_a_while() -> None:
    mark, poll = Mark(), code().call["poll"]
    comers = waits.COMERS
    assert poll(mark.address, comers) == 0  # nobody sets it, and it comes back
    setting = threading.Timer(0.0, mark.set)
    seen = 0
    setting.start()
    while not seen:  # on this thread, without the interpreter lock: the timer's gets that
        seen = poll(mark.address, comers)
    setting.join()
    assert poll(mark.address, comers) == 1
    mark.clear()
    assert poll(mark.address, comers) == 0


def test_who_waited_long_does_not_look_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, patience, mark = Looks(monkeypatch), Patience(), Mark()
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for wait, looked in ((SOON_S / 2, 1), (SOON_S / 2, 2), (1.0, 3), (1.0, 3), (SOON_S / 2, 3), (SOON_S / 2, 4)):
        began = patience.begin(mark)
        now += wait
        patience.end(began)
        assert looks.count == looked, wait


def test_nobody_looks_where_there_is_one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    monkeypatch.setattr(waits, "_several", lambda: False)
    patience = Patience()
    for _ in range(5):
        patience.end(patience.begin(Mark()))
    assert looks.count == 0


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_by_looks_that_end_at_any_time(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Runs of a few instructions, one behind the other and from two threads; each does what it was asked to do."""
    rng = random.Random(seed)

    def look(mark: Mark) -> None:
        choice = rng.random()
        if choice < 0.1:
            time.sleep(rng.random() * 0.0005)
        elif choice < 0.6:
            code().call["poll"](mark.address, waits.COMERS)

    monkeypatch.setattr(Mark, "look", look)
    monkeypatch.setattr(waits, "_several", lambda: rng.random() < 0.9)
    with hv.Host(memory="32M", cpus=2) as host:
        vms = [
            host.create_vm(b"\xff\xc3\xeb\xfc", format="flat", at=0x100000, mode=32, memory="4M") for _ in range(2)
        ]  # inc ebx
        steps = [0, 0]

        def go(number: int) -> None:
            for _ in range(ROUNDS):
                count = random.Random(number).randrange(1, 4)
                vms[number].vcpu.step(count)
                steps[number] += count

        threads = [threading.Thread(target=go, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        for vm, done in zip(vms, steps, strict=True):
            assert done >= ROUNDS
            assert vm.vcpu.rbx == (done + 1) // 2  # each second one is the jump back
