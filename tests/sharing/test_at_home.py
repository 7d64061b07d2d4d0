"""VMs stay on the pCPU that they were on last, where nobody gets less for it."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import pytest

import hypervisor as hv
from hypervisor.run.sharing import scheduler
from hypervisor.run.sharing.affinity import Affinity
from hypervisor.run.sharing.policies import at_home as homes
from hypervisor.testing.simulation import SimulatedVm, Simulation, Waking
from hypervisor.testing.simulation.schedule import Schedule
from tests.sharing.guests import at_once, counting, until_computed, waking
from tests.sharing.scenes import busy

SECONDS = 5.0


@contextmanager
def _anywhere(at_home: bool) -> Iterator[None]:
    """Unless they are to be at home, whoever is next goes to any pCPU that is free."""
    with ExitStack() as stack:
        if not at_home:
            stack.enter_context(mock.patch.object(homes, "first", lambda waiting, *_: waiting))
            stack.enter_context(mock.patch.object(homes, "stays", lambda *_: True))
        yield


def _run(policy: str, vms: int, pcpus: int, seed: int, at_home: bool = True) -> Schedule:
    """VMs that compute from some moment on, and one that wakes now and then, so that slices end at any time."""
    rng = random.Random(seed)
    some = [busy(f"{n}", begin=rng.random() * 0.1) for n in range(vms)]
    waking = SimulatedVm("wakes", Waking(0.02, 0.002, seed))
    with _anywhere(at_home):
        return Simulation(policy, [*some, waking], pcpus).run(SECONDS)


def _moves(schedule: Schedule) -> int:
    """How often a VM began a slice on another pCPU than its last one was on."""
    there = range(schedule.pcpus)
    return sum(
        one != other
        for name, row in schedule.rows.items()
        if name != "wakes"
        for one, other in itertools.pairwise(state for _, _, state in row.spans(schedule.end) if state in there)
    )


def _spread(schedule: Schedule) -> float:
    """How many seconds more than another the one had that had most."""
    ran = [schedule.ran(name) for name in schedule.rows if name != "wakes"]
    return max(ran) - min(ran)


@pytest.mark.parametrize("policy", ["round-robin", "credit"])
@pytest.mark.parametrize(("vms", "pcpus"), [(4, 2), (6, 2), (6, 3), (8, 4)])
def test_few_move_where_the_vms_go_round_evenly(vms: int, pcpus: int, policy: str) -> None:
    moves = [[_moves(_run(policy, vms, pcpus, seed, at_home)) for seed in range(2)] for at_home in (True, False)]
    assert sum(moves[0]) < 0.05 * sum(moves[1]), moves


@pytest.mark.parametrize("policy", ["round-robin", "credit"])
@pytest.mark.parametrize(("vms", "pcpus"), [(2, 1), (3, 2), (4, 2), (5, 2), (7, 2), (4, 3), (7, 3), (9, 4)])
def test_nobody_gets_less_for_it(vms: int, pcpus: int, policy: str) -> None:
    for seed in range(2):
        without = _spread(_run(policy, vms, pcpus, seed, at_home=False))
        assert _spread(_run(policy, vms, pcpus, seed)) < max(without, 0.15)


def test_who_wakes_does_not_wait_for_its_home() -> None:
    for vms, pcpus in ((4, 2), (5, 2), (7, 3)):
        schedule = _run("credit", vms, pcpus, 1)
        assert schedule.rows["wakes"].longest(schedule.end) < 0.005


def _moved_on_a_host(policy: str, at_home: bool) -> int:
    """How often one of 12 that compute begins a slice on the other one of two pCPUs of this machine. One more wakes now
    and then: else all come round in one order, and nobody has to move.
    """
    where: dict[Any, list[Any]] = defaultdict(list)
    best, rng = Affinity.best, random.Random(1)

    def seen(self: Affinity, hold: Any, free: Any, others: Any) -> Any:
        where[hold.vm].append(best(self, hold, free, others))
        return where[hold.vm][-1]

    def sleep_s() -> float:
        return 0.001 + rng.random() * 0.008

    with mock.patch.object(Affinity, "best", seen), mock.patch.object(scheduler, "SLICE_S", 0.002):
        with _anywhere(at_home):
            with (
                hv.Host("32M", 2, scheduler=policy) as host,
                counting(host, [hv.Share()] * 12) as vms,
                waking(host, sleep_s) as other,
            ):
                at_once([*vms, other], hv.VM.start)
                until_computed(vms, 0.4, 60)
                at_once([*vms, other], hv.VM.request_stop)
                for vm in (*vms, other):
                    vm.wait()
    del where[other.place]
    assert len(where) == 12
    return sum(one is not two for row in where.values() for one, two in itertools.pairwise(row))


@pytest.mark.parametrize("policy", ["round-robin", "credit"])
def test_vms_stay_at_home_on_a_host(policy: str) -> None:
    without = _moved_on_a_host(policy, at_home=False)
    assert _moved_on_a_host(policy, at_home=True) < 0.6 * without, without
