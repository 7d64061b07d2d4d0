"""What must hold in every simulated host, whatever its VMs and its policy are."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.errors import ConfigError
from hypervisor.run.sharing import scheduler
from hypervisor.run.sharing.policies.credit import feasible
from hypervisor.run.sharing.share import CAP_PERIOD_S
from hypervisor.testing.simulation import Busy, Job, Jobs, Periodic, SimulatedVm, Simulation, Waking
from tests.sharing.scenes import MS, busy, reserved


class Watched(Simulation):
    """Before time passes nobody may wait who could run."""

    def _pass(self, until: int) -> None:
        holds, allotment = self._allotment.holds, self._allotment
        running = [hold for hold in holds if hold.pcpu is not None]
        assert len({hold.pcpu for hold in running}) == len(running) == len({hold.vm for hold in running})
        assert all(hold.firm or hold.pcpu in allotment._affinity.allows(hold) for hold in running)  # firm: it leaves
        if not self._patience:
            wanting = [hold for hold in holds if hold.pcpu is not None or hold.waits]
            assert len(running) == allotment._affinity._placeable(wanting, self._pcpus), "a pCPU idles"
        super()._pass(until)


def _vms(rng: random.Random, pcpus: int) -> Iterator[SimulatedVm]:
    for number in range(rng.randint(1, 7)):
        begin = rng.choice((0.0, rng.random()))
        workload = rng.choice((
            Busy(begin),
            Periodic(rng.uniform(0.005, 0.05), rng.uniform(0.001, 0.02), begin),
            Waking(rng.uniform(0.002, 0.1), rng.uniform(0.0005, 0.02), number, begin),
        ))  # fmt: skip
        share = hv.Share(
            weight=rng.choice((1, 1, 3, rng.uniform(0.1, 20))),
            cap=rng.choice((None, None, rng.uniform(0.05, 1.0))),
            pcpus=rng.choice((None, rng.sample(range(pcpus), rng.randint(1, pcpus)))),
        )
        yield SimulatedVm(f"vm{number}", workload, share)


@pytest.mark.parametrize("seed", range(30))
def test_no_pcpu_idles_while_a_vm_could_run_and_caps_are_kept(seed: int) -> None:
    rng = random.Random(seed)
    pcpus, policy = rng.randint(1, 4), rng.choice(("credit", "edf", "round-robin"))
    vms = list(_vms(rng, pcpus))
    simulation = Watched(policy, vms, pcpus, rng.choice((0.0, 0.0, 0.0003)))
    for _ in range(rng.randrange(4)):
        one, other = rng.choice(vms), next(iter(_vms(rng, pcpus)))
        simulation.at(rng.random(), lambda now, vm=one, share=other.share: now.share(vm, share))  # type: ignore[misc]
    if rng.random() < 0.5:
        simulation.at(rng.random(), lambda now: now.switch(rng.choice(("credit", "edf", "round-robin"))))
    simulation.run(1.0)
    before = {vm: simulation.schedule.ran(vm.name) for vm in vms}
    schedule = simulation.run(1.0)
    for vm in vms:
        if vm.share.cap is not None:
            most = vm.share.cap * (1.0 + 2 * CAP_PERIOD_S) + 0.0003 * 1.0 / CAP_PERIOD_S
            assert schedule.ran(vm.name) - before[vm] <= most
            assert vm.used_s <= schedule.ran(vm.name) + 1e-6


@pytest.mark.parametrize(("weights", "pcpus", "parts"), [
    ((1, 1), 1, (0.5, 0.5)),
    ((3, 1), 1, (0.75, 0.25)),
    ((1, 2, 5), 1, (0.125, 0.25, 0.625)),
    ((1, 2, 5), 2, (1 / 3, 2 / 3, 1.0)),
    ((1, 1), 2, (1.0, 1.0)),
    ((1, 1, 1), 2, (2 / 3, 2 / 3, 2 / 3)),
    ((1, 1, 4, 4), 2, (0.2, 0.2, 0.8, 0.8)),
    ((1, 10), 1, (1 / 11, 10 / 11)),
])  # fmt: skip
@pytest.mark.parametrize("patience", [0.0, 0.0002])
def test_shares_are_the_weights(
    weights: tuple[float, ...], pcpus: int, parts: tuple[float, ...], patience: float
) -> None:
    vms = [busy(f"{number}", hv.Share(weight=weight)) for number, weight in enumerate(weights)]
    schedule = Simulation("credit", vms, pcpus, patience).run(10.0)
    assert [schedule.ran(vm.name) / 10 for vm in vms] == [pytest.approx(part, rel=0.01) for part in parts]


@pytest.mark.parametrize("cap", [0.1, 0.25, 0.5, 0.99])
@pytest.mark.parametrize("policy", ["credit", "edf", "round-robin"])
def test_a_cap_is_what_it_gets(cap: float, policy: str) -> None:
    vms = [busy("capped", hv.Share(cap=cap)), SimulatedVm("wakes", Waking(0.03, 0.0001))]
    assert Simulation(policy, vms, 1, 0.0003).run(10.0).ran("capped") / 10 == pytest.approx(cap, rel=0.01)


def test_a_cap_that_comes_later_counts_from_then_on() -> None:
    vm = busy("vm")
    simulation = Simulation("credit", [vm])
    simulation.run(5.0)
    simulation.share(vm, hv.Share(cap=0.2))
    assert simulation.run(2.0).ran("vm") == pytest.approx(5.4, rel=0.01)
    simulation.share(vm, hv.Share())
    assert simulation.run(1.0).ran("vm") == pytest.approx(6.4, rel=0.01)


def _taskset(rng: random.Random, pcpus: int) -> list[SimulatedVm]:
    """Reservations, as many as a host can promise."""
    policy, vms = hv.Edf(), list[SimulatedVm]()
    for number in range(20):
        period = rng.randint(5, 60)
        one = reserved(f"r{number}", max(round(period * rng.uniform(0.05, 0.6) * 2) / 2, 1), period)
        one.workload = Periodic(period * MS, one.share.budget or 0, rng.choice((0.0, rng.random() / 10)))
        try:
            policy.admit([vm.share for vm in vms], one.share, pcpus)
        except ConfigError:
            continue
        vms.append(one)
    return vms


@pytest.mark.parametrize("seed", range(16))
def test_no_reservation_ever_misses_its_deadline_at_half_as_much_again(seed: int) -> None:
    """Promises up to the bound, and as many VMs that compute without end as make it 150% of what there is."""
    rng = random.Random(seed)
    pcpus = 1 + seed % 3
    vms = _taskset(rng, pcpus)
    promised = sum(vm.share.reserved for vm in vms)
    hogs = [busy(f"hog{number}", hv.Share(weight=rng.choice((1, 10)))) for number in range(2 * pcpus)]
    assert len(vms) > 2 and promised + len(hogs) >= 1.5 * pcpus
    schedule = Simulation("edf", [*vms, *hogs], pcpus).run(3.0)
    assert [row.name for row in schedule.rows.values() if row.late] == []
    for vm in vms:
        assert isinstance(vm.workload, Periodic)
        assert schedule.rows[vm.name].done >= (3.0 - vm.workload.begin) // vm.workload.period - 1
    assert schedule.idle() == pytest.approx(0, abs=1e-6)


def test_a_reservation_that_wants_more_harms_nobody() -> None:
    greedy, honest = reserved("greedy", 5, 10, Busy()), reserved("honest", 5, 10)
    schedule = Simulation("edf", [greedy, honest, busy("b")]).run(2.0)
    assert schedule.rows["honest"].late == 0 and schedule.rows["honest"].done == 200
    assert schedule.ran("greedy") == pytest.approx(1.0, rel=0.01), "all is promised"


def test_who_wakes_with_nothing_left_gets_its_budget_when_that_comes_back() -> None:
    """It wakes in its period, having used its budget, and others have the pCPU."""
    one = reserved("one", 2, 10, Jobs((Job(0.0, 0.002, 0.01), Job(0.007, 0.002, 0.013))))
    schedule = Simulation("edf", [one, *[busy(f"b{number}") for number in range(5)]]).run(0.05)
    assert (schedule.rows["one"].done, schedule.rows["one"].late) == (2, 0)


@pytest.mark.parametrize("policy", ["credit", "edf"])
@pytest.mark.parametrize("pcpus", [1, 2])
def test_who_wakes_runs_within_one_slice_and_nobody_starves(policy: str, pcpus: int) -> None:
    hogs = [busy(f"hog{number}") for number in range(6)]
    types = SimulatedVm("types", Waking(0.05, 0.001, seed=5, begin=1.0))
    schedule = Simulation(policy, [*hogs, types], pcpus).run(20.0)
    assert schedule.rows["types"].longest(schedule.end) <= scheduler.SLICE_S + 1e-6
    assert schedule.rows["types"].done > 300
    had = [schedule.ran(hog.name) for hog in hogs]
    assert max(had) < 1.02 * min(had)


def test_who_comes_from_where_there_is_much_to_do_takes_nothing_from_others() -> None:
    """Two that may run on one pCPU only have half of what the third has; who comes then starts beside that."""
    pinned = [busy(f"p{number}", hv.Share(pcpus=[0])) for number in range(2)]
    free, late = busy("free"), busy("late", begin=10.0)
    simulation = Simulation("credit", [*pinned, free, late], 2)
    before = simulation.run(10.0).ran("free")
    schedule = simulation.run(2.0)
    assert schedule.ran("free") - before > 0.9 and schedule.ran("late") > 0.9


def test_weights_that_a_host_can_give() -> None:
    def of(pcpus: int, *weights: float) -> list[float]:
        vms: list[Any] = [busy(f"{number}") for number in range(len(weights))]
        return [round(found, 3) for found in feasible(dict(zip(vms, weights, strict=True)), pcpus).values()]

    assert of(1, 1, 9) == [1, 9]
    assert of(2, 1, 2, 5) == [1, 2, 3]
    assert of(2, 1, 1) == [1, 1]
    assert of(3, 1, 1, 10, 5) == [1, 1, 2, 2]
    assert of(4, 3, 1) == [1, 1]


@pytest.mark.parametrize(("budget", "period", "pcpus", "sentence"), [
    (6, 10, 1, "6 ms of each 10 ms are 0.600 of a pCPU, with what is promised already (0.500) 1.100; "
               "1 pCPU can promise 1."),
    (9, 10, 2, "9 ms of each 10 ms are 0.900 of a pCPU, with what is promised already (0.500) 1.400; "
               "2 pCPUs can promise 2 - 1 x 0.900 = 1.100."),
])  # fmt: skip
def test_a_reservation_that_cannot_be_kept_is_refused_with_the_arithmetic(
    budget: float, period: float, pcpus: int, sentence: str
) -> None:
    with pytest.raises(ConfigError) as error:
        Simulation("edf", [reserved("there", 5, 10), reserved("new", budget, period)], pcpus)
    assert str(error.value) == f"The reservation cannot be kept: {sentence}"
