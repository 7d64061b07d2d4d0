"""Who wakes runs within one slice of what its pCPU's thread computes, whatever others of the host's processes do to
that thread, and to the watch's. And what an account of a VM says is all of its time.
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.run.sharing import scheduler
from hypervisor.run.sharing.accounts import Accounts
from hypervisor.run.sharing.resting import Resting
from tests.core.queueing import until
from tests.sharing.guests import at_once, counting, until_computed, waking
from tests.sharing.woken import Woken, wakings


def _beside_others(policy: str, often: int) -> list[Woken]:
    """How one that wakes each 10 ms fares beside 4 that compute."""
    with hv.Host("16M", 1, scheduler=policy) as host, counting(host, [hv.Share()] * 4) as hogs:
        with waking(host, lambda: 0.01) as vm, wakings(vm) as found:
            at_once([*hogs, vm], hv.VM.start)
            until(lambda: len(found) >= often)
            at_once([*hogs, vm], hv.VM.request_stop)
            for one in (*hogs, vm):
                one.wait()
    return found


class Silent:
    """In place of the watch's alarm."""

    def set(self, when: float) -> None:
        """It never rings."""


@pytest.mark.parametrize("policy", ["credit", "edf"])
def test_who_wakes_runs_within_one_slice(policy: str) -> None:
    found = _beside_others(policy, 30)
    assert max(one.computed for one in found) < scheduler.SLICE_S, found


def test_who_wakes_does_so_though_the_watch_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it never comes for those that rest. The pCPU's thread leaves its guest when one is due, and looks."""
    begin: Any = Resting.__init__
    monkeypatch.setattr(Resting, "__init__", lambda self, alarm: begin(self, Silent()))
    found = _beside_others("credit", 30)
    assert max(one.computed for one in found) < scheduler.SLICE_S, found
    assert statistics.median(one.computed for one in found) < 0.005, found


def test_slices_make_nothing_that_the_collector_has_to_come_for() -> None:
    """It looks through all there is, with the interpreter: 50 ms, for all VMs of the process."""
    with hv.Host("16M", 1) as host, counting(host, [hv.Share()] * 2) as vms:
        at_once(vms, hv.VM.start)
        until_computed(vms, 0.05, 30)
        gc.collect()
        gc.disable()
        try:
            before = host.usage[0].slices
            until(lambda: host.usage[0].slices > before + 10)
            found = gc.collect()
        finally:
            gc.enable()
        for vm in vms:
            vm.stop()
    assert found < 10


def test_no_time_of_a_vm_is_lost_where_a_slice_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread may lose its processor between any two lines: here always, behind the last reading of its meter."""
    leaves = Accounts.leaves

    def slow(self: Accounts, hold: Any) -> tuple[float, float]:
        found = leaves(self, hold)
        time.sleep(0.02)
        return found

    monkeypatch.setattr(Accounts, "leaves", slow)
    with hv.Host("16M", 1) as host, counting(host, [hv.Share()] * 2) as vms:
        since = time.monotonic()
        at_once(vms, hv.VM.start)
        begun = time.monotonic()
        until(lambda: host.usage[0].slices > 8)
        for vm in vms:
            before, total, after = time.monotonic(), vm.usage.total_s, time.monotonic()
            assert before - begun - 0.01 < total < after - since + 0.01
        for vm in vms:
            vm.stop()
