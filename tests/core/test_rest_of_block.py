"""Who looks on moves no timer: where a block is left in its middle, no deadline is looked at before its end."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.run.sharing import scheduler
from tests.core.bare import bare
from tests.core.interrupted import PERIODS, guest, noted
from tests.meanwhile import again_and_again

ROUNDS = 1200
KINDS = ("rdtsc", "sgdt", "sidt", "smsw", "pushf", "cr_read")
"""What is carried out inside its block while nobody listens."""

Way = Callable[[hv.VM, list[int], random.Random], None]


def _pass(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
    return hv.PASS


def _observed(kind: str) -> Way:
    def listen(vm: hv.VM, places: list[int], choice: random.Random) -> None:
        getattr(vm.traps, kind)(mode="observe")(lambda vcpu, exit: None)

    return listen


def _served(vm: hv.VM, places: list[int], choice: random.Random) -> None:
    """RDTSC by a handler, which answers what the processor would."""

    @vm.traps.rdtsc
    def answer(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        exit.value = vm.clock.now_ns
        return hv.HANDLED


def _breakpoints(vm: hv.VM, places: list[int], choice: random.Random) -> None:
    for place in choice.sample(places, 5):
        vm.traps.execute(place)(_pass)


def _watched_code(vm: hv.VM, places: list[int], choice: random.Random) -> None:
    """Each instruction of its page is stepped."""
    vm.traps.memory(range(0x7C00, 0x7E00), access="x")(_pass)


def _watched_data(vm: hv.VM, places: list[int], choice: random.Random) -> None:
    vm.traps.memory(range(0x630, 0x634), access="rw")(_pass)


def _retried(vm: hv.VM, places: list[int], choice: random.Random) -> None:
    """As if the host had to fetch the memory first: the instruction is left in its middle, and executed again."""
    there = True

    @vm.traps.memory(range(0x630, 0x634), access="rw")
    def fetch(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        nonlocal there
        there = not there
        return hv.PASS if there else hv.RETRY


WAYS: dict[str, Way] = {
    **{kind: _observed(kind) for kind in KINDS},
    "served": _served,
    "breakpoints": _breakpoints,
    "code": _watched_code,
    "data": _watched_data,
    "retried": _retried,
}


def _alone(rounds: int, period: int) -> tuple[Any, ...]:
    with closing(hv.Host("2M", 1)) as host, guest(host, rounds, period) as (vm, _):
        return noted(vm, vm.run(timeout=60))


def test_the_guest_is_interrupted_at_many_places() -> None:
    count, ring, *_ = _alone(ROUNDS, PERIODS[0])
    assert count > 50
    assert len({ring[at : at + 2] for at in range(0, len(ring), 4)}) > 2


@pytest.mark.parametrize("way", WAYS)
def test_interrupts_come_where_they_come_when_nobody_looks_on(way: str) -> None:
    choice = random.Random(way)
    rounds = ROUNDS // 8 if way == "code" else ROUNDS
    with closing(hv.Host("2M", 1)) as host:
        for period in PERIODS:
            with guest(host, rounds, period) as (vm, places), again_and_again(host.pcpus[0].kick, 0.0003):
                WAYS[way](vm, places, choice)
                assert noted(vm, vm.run(timeout=60)) == _alone(rounds, period)


@pytest.mark.parametrize("heard", [False, True])
def test_each_interrupt_is_delivered_and_counted_once(heard: bool) -> None:
    """An interrupt that nobody hears has no record. The guest's own count, the VM's and a listener's are the same."""
    told: list[int] = []
    with closing(hv.Host("2M", 1)) as host:
        for period in PERIODS:
            told.clear()
            with guest(host, ROUNDS, period) as (vm, _), again_and_again(host.pcpus[0].kick, 0.0003):
                if heard:
                    vm.traps.interrupt(mode="observe")(lambda vcpu, exit: told.append(exit.vector or 0))
                seen = noted(vm, vm.run(timeout=60))
                assert seen == _alone(ROUNDS, period)
                assert vm.stats["interrupt"] == seen[0]
                assert told == [8] * seen[0] * heard


@pytest.mark.parametrize("period", PERIODS)
def test_steps_move_no_interrupt(period: int) -> None:
    """Steps between runs, where no interrupt is due: they take none."""
    choice, stepped = random.Random(period), 0
    with closing(hv.Host("2M", 1)) as host, guest(host, ROUNDS // 4, period) as (vm, _):
        while True:
            result = vm.run(until=hv.after(choice.random() * 2e-5), timeout=60)
            if result.reason is not hv.Reason.UNTIL:
                break
            due = vm.clock.timers.next_ns()
            if due is not None and due > vm.clock.now_ns + 6000 and not vm.vcpu.intr.level:
                stepped += vm.step(choice.randrange(1, 6))
        assert stepped > 50
        assert noted(vm, result) == _alone(ROUNDS // 4, period)


def test_guests_that_take_the_pcpu_from_each_other_in_the_middle_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "SLICE_S", 0.0002)
    alone = {period: _alone(ROUNDS, period) for period in PERIODS}
    seen: dict[int, Any] = {}
    with closing(hv.Host("8M", 2)) as host:

        def run(period: int) -> None:
            with guest(host, ROUNDS, period) as (vm, places):
                _breakpoints(vm, places, random.Random(period))
                seen[period] = noted(vm, vm.run(timeout=60))

        threads = [threading.Thread(target=run, args=(period,)) for period in PERIODS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == alone


def test_an_instruction_that_is_retried_for_ever_ends_in_time() -> None:
    with bare("nop\nagain: in al, 0x60\nnop\njmp again") as vm:
        vm.traps.port_in(0x60)(lambda vcpu, exit: hv.RETRY)
        result = vm.run(virtual_timeout=1e-4, timeout=20)
        assert result.reason is hv.Reason.VIRTUAL_TIMEOUT
        assert 1e-4 <= result.virtual_s < 1.3e-4
