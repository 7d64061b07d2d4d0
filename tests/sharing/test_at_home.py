"""VMs stay on the pCPU that they were on last, where nobody gets less for it."""

from __future__ import annotations

import itertools
import random
from unittest import mock

import pytest

from hypervisor.run.sharing import at_home as homes
from hypervisor.testing.simulation import SimulatedVm, Simulation, Waking
from hypervisor.testing.simulation.schedule import Schedule
from tests.sharing.scenes import busy

SECONDS = 5.0


def _run(vms: int, pcpus: int, seed: int, at_home: bool = True) -> Schedule:
    """VMs that compute from some moment on, and one that wakes now and then, so that slices end at any time."""
    rng = random.Random(seed)
    some = [busy(f"{n}", begin=rng.random() * 0.1) for n in range(vms)]
    waking = SimulatedVm("wakes", Waking(0.02, 0.002, seed))
    with mock.patch.object(homes, "first", homes.first if at_home else lambda waiting, free: waiting):
        return Simulation("round-robin", [*some, waking], pcpus).run(SECONDS)


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


@pytest.mark.parametrize(("vms", "pcpus"), [(4, 2), (6, 2), (6, 3), (8, 4)])
def test_few_move_where_the_vms_go_round_evenly(vms: int, pcpus: int) -> None:
    moves = [[_moves(_run(vms, pcpus, seed, at_home)) for seed in range(4)] for at_home in (True, False)]
    assert sum(moves[0]) < 0.05 * sum(moves[1]), moves


@pytest.mark.parametrize(("vms", "pcpus"), [(2, 1), (3, 2), (4, 2), (5, 2), (7, 2), (4, 3), (7, 3), (9, 4)])
def test_nobody_gets_less_for_it(vms: int, pcpus: int) -> None:
    for seed in range(4):
        assert _spread(_run(vms, pcpus, seed)) < max(_spread(_run(vms, pcpus, seed, at_home=False)), 0.15)
