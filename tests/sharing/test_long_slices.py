"""Where all VMs compute slices are longer, and nobody gets less, or waits longer once he wakes."""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.run.sharing.scheduler import CALM, LONGEST, ROUND, SLICE_S
from hypervisor.testing.simulation import SimulatedVm, Simulation, Waking
from hypervisor.testing.simulation.schedule import Schedule
from tests.sharing.scenes import busy

NAMES = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n")


def _slices(schedule: Schedule, name: str) -> list[tuple[float, float]]:
    """When each of a VM's began, and how long it was; what the end of the simulation cut is none."""
    here = range(schedule.pcpus)
    spans = [(begin / 1e9, end / 1e9) for begin, end, state in schedule.rows[name].spans(schedule.end) if state in here]
    return [(begin, end - begin) for begin, end in spans if end < schedule.end / 1e9]


@pytest.mark.parametrize(("vms", "pcpus"), [(2, 1), (3, 1), (4, 2), (8, 2), (14, 1)])
def test_they_are_as_long_as_a_round_may_be(vms: int, pcpus: int) -> None:
    schedule = Simulation("round-robin", [busy(name) for name in NAMES[:vms]], pcpus).run(20.0)
    long = max(min(LONGEST, ROUND // (vms - pcpus + 1)), 1) * SLICE_S
    all_slices = [one for name in NAMES[:vms] for one in _slices(schedule, name)]
    late = [seconds for begin, seconds in all_slices if begin > (CALM + vms) * SLICE_S]
    assert len(late) > 50
    assert max(late) <= long + 0.001 and sorted(late)[len(late) // 2] >= long - 0.001
    ran = [schedule.ran(name) for name in NAMES[:vms]]
    assert max(ran) - min(ran) <= 2 * long + SLICE_S
    assert schedule.idle() < 1e-6


@pytest.mark.parametrize("policy", ["credit", "edf"])
@pytest.mark.parametrize(("weights", "pcpus", "long_ms"), [
    ((1, 1), 1, 50), ((3, 1), 1, 16.7), ((1, 2, 5), 1, 7.5), ((1, 1, 1, 1), 2, 50), ((1,) * 8, 1, 20),
    ((1, 1, 1), 2, 80),
])  # fmt: skip
def test_by_weights_they_are_as_long_as_shares_are_kept_within_10_s(
    weights: tuple[float, ...], pcpus: int, long_ms: float, policy: str
) -> None:
    vms = [busy(name, hv.Share(weight=weight)) for name, weight in zip(NAMES, weights, strict=False)]
    schedule = Simulation(policy, vms, pcpus).run(10.0)
    late = [seconds for vm in vms for begin, seconds in _slices(schedule, vm.name) if begin > 2 * CALM * SLICE_S]
    shortest = min(late)
    assert shortest == pytest.approx(long_ms / 1e3, abs=0.001)
    for vm, weight in zip(vms, weights, strict=True):
        assert schedule.ran(vm.name) / 10 / pcpus == pytest.approx(weight / sum(weights), rel=0.01)


def test_who_wakes_waits_no_longer_than_a_short_one() -> None:
    """Seldom enough that the others have long slices by then."""
    waking = SimulatedVm("wakes", Waking(every=3.0, work=0.001, seed=4))
    schedule = Simulation("round-robin", [busy("a"), busy("b"), waking], 1).run(60.0)
    assert 15 <= schedule.rows["wakes"].done <= 25
    assert schedule.rows["wakes"].longest(schedule.end) <= 2 * SLICE_S  # one that runs, and one that came before
    lengths = [seconds for name in "ab" for _, seconds in _slices(schedule, name)]
    assert sum(seconds > 3 * SLICE_S for seconds in lengths) > 100
    assert abs(schedule.ran("a") - schedule.ran("b")) < 0.5


def test_beside_one_that_wakes_all_the_time_they_are_short() -> None:
    waking = SimulatedVm("wakes", Waking(every=0.03, work=0.001, seed=4))
    schedule = Simulation("round-robin", [busy("a"), busy("b"), waking], 1).run(20.0)
    assert max(seconds for name in "ab" for _, seconds in _slices(schedule, name)) <= SLICE_S + 0.001
    assert schedule.rows["wakes"].longest(schedule.end) <= 2 * SLICE_S
