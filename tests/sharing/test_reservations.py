"""Budgets on a host whose processors others take away: what was promised is had afterwards, and no more than that."""

from __future__ import annotations

import random

import pytest

import hypervisor as hv
from hypervisor.run.sharing.policies.edf import BEHIND


class Machine:
    def __init__(self, name: str, share: hv.Share) -> None:
        self.name, self.share = name, share


class Host:
    """One pCPU, whose VMs always want it. Each slice is over when it has computed, or overrun, and others of the
    host's processes have the processor in between."""

    def __init__(self, shares: list[hv.Share], stolen: float, ways: float = 0.0, seed: int = 1) -> None:
        self.now, self.vms = 0.0, [Machine(f"vm{n}", share) for n, share in enumerate(shares)]
        self.edf, self.rng, self.stolen, self.ways = hv.Edf(), random.Random(seed), stolen, ways
        self.got = dict.fromkeys((vm.name for vm in self.vms), 0.0)
        self.cost = dict(self.got)
        self.edf.begin(1, lambda: self.now)
        for vm in self.vms:
            self.edf.wakes(vm, [])

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            chosen = self.edf.choose(self.vms)
            vm, used = chosen.vm, chosen.seconds + self.rng.random() * 0.0002
            self.now += used + self.ways
            if self.rng.random() < self.stolen:
                self.now += self.rng.random() * 0.02
            self.got[vm.name] += used
            self.cost[vm.name] += used + self.ways
            self.edf.held(vm, used + self.ways)
            self.edf.used(vm, used)


RESERVED = [hv.Share(budget=0.003, period=0.01), hv.Share(), hv.Share()]


@pytest.mark.parametrize("stolen", [0.0, 0.1, 0.4])
def test_what_was_taken_away_comes_back(stolen: float) -> None:
    """Of all seconds that passed it has what it was promised, and a third of what is left."""
    host = Host(RESERVED, stolen)
    host.run(100.0)
    computed = sum(host.got.values())
    assert (computed < 80) == (stolen == 0.4) and computed < 100.01
    rest = (computed - 30.0) / 3
    assert host.got["vm0"] == pytest.approx(30.0 + rest, rel=0.005)
    assert [host.got[name] for name in ("vm1", "vm2")] == pytest.approx([rest, rest], rel=0.005)


@pytest.mark.parametrize("ways", [0.0001, 0.0004])
def test_the_ways_to_guests_are_shared_by_all(ways: float) -> None:
    """A short budget is no dearer than a long one, and all that it costs is what was promised."""
    for budget, period in ((0.003, 0.01), (0.03, 0.1)):
        host = Host([hv.Share(budget=budget, period=period), hv.Share(), hv.Share()], 0.0, ways)
        host.run(60.0)
        computed = sum(host.got.values())
        promised = 0.3 * computed
        assert host.got["vm0"] == pytest.approx(promised + (computed - promised) / 3, rel=0.01)


def test_who_is_far_behind_does_not_take_all_of_it_at_once() -> None:
    host = Host(RESERVED, 0.0)
    host.run(1.0)
    host.now += 10.0  # the process was stopped
    before = dict(host.got)
    host.run(0.1)
    got = {name: host.got[name] - before[name] for name in before}
    assert got["vm1"] + got["vm2"] > 0.1 - 0.03 - BEHIND * 0.003 - 0.03


def test_who_sleeps_saves_nothing_up() -> None:
    host = Host([hv.Share(budget=0.003, period=0.01), hv.Share()], 0.0)
    sleeper, other = host.vms
    host.run(0.02)
    host.edf.blocks(sleeper, 0.0)
    host.vms = [other]
    host.run(1.0)
    host.vms = [sleeper, other]
    assert host.edf.wakes(sleeper, [other]) is other
    chosen = host.edf.choose([sleeper, other])
    assert chosen.vm is sleeper and chosen.seconds <= 0.010 + 1e-6
