"""What real guests get of a host, by the CPU clocks of its threads: the short form of
``python -m tests.sharing.shares``, with wide bounds, as other processes have the host's processors, too.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.errors import ConfigError
from hypervisor.run.sharing import scheduler
from hypervisor.run.sharing.hold import Hold
from tests.core.bare import bare
from tests.core.queueing import until
from tests.sharing import shares
from tests.sharing.guests import COUNTS, computed, counting, measure, neighbour, threads_of_pcpus, until_computed


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "SLICE_S", 0.005)


@pytest.mark.parametrize(("weights", "parts"), [((3, 1), (0.75, 0.25)), ((1, 2, 5), (0.125, 0.25, 0.625))])
def test_shares_are_the_weights_by_the_guests_own_counters(
    short: None, weights: tuple[float, ...], parts: tuple[float, ...]
) -> None:
    with hv.Host("16M", 1, scheduler="credit") as host:
        with counting(host, [hv.Share(weight=weight) for weight in weights]) as vms:
            got = measure(vms, 0.6)
    assert shares.off(got.used, parts) < 0.25 and shares.off(got.counted, parts) < 0.25, got


def test_a_reservation_is_kept_of_what_the_thread_got() -> None:
    got, wanted, _ = shares.reserved(0.5)
    assert wanted > 0.5 and abs(got.counted[0] / wanted - 1) < 0.25, (got, wanted)


def test_a_cap_holds_though_nobody_waits() -> None:
    """At most: less if others have the processors."""
    with hv.Host("16M", 1) as host, counting(host, [hv.Share(cap=0.2)]) as (vm,):
        since = time.monotonic()
        vm.start()
        until(lambda: vm.usage.blocked_s > 0.3)
        used, passed = vm.usage.run_s, time.monotonic() - since
        vm.stop()
        assert 0 < used < 0.2 * (passed + 0.1) + 0.05
        assert vm.usage.ready_s < vm.usage.blocked_s, "it waits for its cap, and for no pCPU"


def test_slices_end_though_the_watch_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy host it has no processor when a slice is over. By the pCPU's own CPU clock they are as long as was
    said: here it never kicks, and guests are left anyway each 20 ms of their time, for which these compute for 75.
    """
    monkeypatch.setattr(scheduler, "SLICE_S", 0.002)
    monkeypatch.setattr(scheduler, "LONGEST", 1)
    monkeypatch.setattr(Hold, "left", lambda hold, now: 1.0)
    with hv.Host("16M", 1) as host, counting(host, [hv.Share()] * 2) as vms:
        got = measure(vms, 0.2)
        assert got.run_s / host.usage[0].slices < 0.004, got


@pytest.mark.parametrize(("pcpus", "clock"), [(1, "virtual"), (2, "virtual"), (2, "wall")])
def test_what_is_accounted_is_what_the_kernel_says_of_the_threads(short: None, pcpus: int, clock: str) -> None:
    with hv.Host("16M", pcpus, scheduler="credit") as host:
        with counting(host, [hv.Share()] * 3, clock) as vms, neighbour(host, "exit storm") as storm:
            began = time.monotonic()
            starts = dict[hv.VM, tuple[float, float]]()
            for vm in vms:
                before = time.monotonic()
                vm.start()
                starts[vm] = before, time.monotonic()
            until_computed(vms, 0.3, 30)
            for vm in (*vms, storm):
                vm.pause()
            now = time.monotonic()
            kernel = threads_of_pcpus().values()
            run, stolen = computed([*vms, storm]), sum(vm.usage.stolen_s for vm in (*vms, storm))
            assert run == pytest.approx(sum(cpu for cpu, _ in kernel), rel=0.01)
            # what was stolen from a thread on its way to sleep, behind the last VM, is the next one's
            assert stolen == pytest.approx(sum(delay for _, delay in kernel), rel=0.05, abs=0.1)
            assert sum(one.run_s for one in host.usage) == pytest.approx(run, rel=0.01)
            for one in host.usage:
                assert one.run_s + one.waiting_s + one.stolen_s + one.lent_s + one.idle_s >= (now - began) * 0.95
            for vm in vms:
                before, total, after = time.monotonic(), vm.usage.total_s, time.monotonic()
                slack = 0.05 + 0.05 * total
                assert before - starts[vm][1] - slack <= total <= after - starts[vm][0] + slack
                vm.resume()
            storm.resume()


def test_a_slice_that_goes_on_is_accounted_for_meanwhile() -> None:
    """Nobody waits, so it has no end."""
    with hv.Host("8M", 1) as host, bare(COUNTS, host=host) as vm:
        vm.start()
        seen: list[float] = []
        until(lambda: seen.append(vm.usage.run_s) or seen[-1] > 0.05)  # type: ignore[func-returns-value]
        assert sorted(seen) == seen and len(set(seen)) > 2
        assert host.usage[0].slices == 1 and host.usage[0].run_s >= seen[-1]
        vm.stop()


@pytest.mark.parametrize("kind", shares.NEIGHBOURS)
@pytest.mark.parametrize("policy", ["credit", "edf", "round-robin"])
def test_nobody_starves_beside_a_hostile_neighbour(short: None, kind: str, policy: str) -> None:
    """It comes to its slices again and again, and what its neighbour does costs that one."""
    with hv.Host("16M", 1, scheduler=policy) as host, counting(host, [hv.Share()]) as (honest,):
        with neighbour(host, kind) as hostile:
            honest.start()
            until(lambda: honest.usage.run_s > 0.03)
            assert hostile.usage.run_s > 0
            had = honest.place.used_s, hostile.place.used_s
            if policy != "round-robin" and kind == "sleeps":
                assert had[1] > 0.02, "its handlers' sleep is its own"
            honest.stop()


def test_what_sleeps_with_its_pcpu_in_its_hands_is_charged_for_it() -> None:
    with hv.Host("16M", 1, scheduler="credit") as host, counting(host, [hv.Share()]) as (honest,):
        with neighbour(host, "sleeps") as hostile:
            honest.start()
            until(lambda: honest.usage.run_s > 0.1)
            usage = hostile.usage
            assert usage.waiting_s > 2 * usage.run_s
            assert hostile.place.used_s > 0.5 * usage.waiting_s
            honest.stop()


def test_a_vm_runs_where_it_may(short: None) -> None:
    with hv.Host("16M", 2, scheduler="credit") as host:
        with counting(host, [hv.Share(pcpus=[1]), hv.Share(pcpus=[1]), hv.Share()]) as vms:
            for vm in vms:
                vm.start()
            seen: dict[str, set[Any]] = {vm.name: set() for vm in vms}

            def looked() -> bool:
                for vm in vms:
                    if vm.place.pcpu is not None:
                        seen[vm.name].add(vm.place.pcpu)
                return min(vm.usage.run_s for vm in vms) > 0.05

            until(looked)
            assert seen["vm0"] == seen["vm1"] == {host.pcpus[1]}
            vms[0].share = hv.Share(pcpus=[0])  # also while it runs
            until(lambda: vms[0].place.last is host.pcpus[0] and vms[0].place.pcpu is host.pcpus[0])
            for vm in vms:
                vm.stop()


def test_no_pcpu_is_free_while_a_vm_waits_for_it(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that the queue has given pCPUs."""
    with hv.Host("32M", 2, scheduler="credit") as host:
        queue, idled, looked = host.queue, list[str](), 0
        hand_out = queue._hand_out

        def checked(since: float | None = None) -> None:
            nonlocal looked
            hand_out(since)
            looked += 1
            free = {*host.pcpus} - {hold.pcpu for hold in queue._holds}
            waiting = [hold.vm.name for hold in queue._holds if hold.waits]
            running = [hold.vm.name for hold in queue._holds if hold.pcpu is not None]
            if free and {*waiting} - {*running}:
                idled.append(f"{waiting} wait, {running} run")

        monkeypatch.setattr(queue, "_hand_out", checked)
        with counting(host, [hv.Share()] * 5) as vms:
            for vm in vms:
                vm.start()
            for number in range(60):
                with vms[number % 5].paused():
                    time.sleep(0.001)
            for vm in vms:
                vm.stop()
        assert looked > 100 and idled == []


def test_schedulers_have_names_and_may_be_switched() -> None:
    with hv.Host("16M", 1, scheduler="credit") as host, counting(host, [hv.Share()] * 2) as vms:
        assert isinstance(host.scheduler, hv.Credit)
        for vm in vms:
            vm.start()
        for name, kind in (("edf", hv.Edf), ("round-robin", hv.RoundRobin), ("credit", hv.Credit)) * 3:
            host.scheduler = name
            assert isinstance(host.scheduler, kind)
            before = [vm.usage.run_s for vm in vms]
            until(lambda before=before: all(vm.usage.run_s > one for vm, one in zip(vms, before, strict=True)))
        assert {vm.stop().reason for vm in vms} == {hv.Reason.STOPPED}  # type: ignore[union-attr]


def test_what_a_host_cannot_give_is_refused() -> None:
    with hv.Host("16M", 1, scheduler="edf") as host, counting(host, [hv.Share()] * 2) as (one, two):
        one.share = hv.Share(budget=0.006, period=0.01)
        with pytest.raises(ConfigError) as refused:
            two.share = hv.Share(budget=0.01, period=0.02)
        assert str(refused.value) == (
            "The reservation cannot be kept: 10 ms of each 20 ms are 0.500 of a pCPU, with what is promised already "
            "(0.600) 1.100; 1 pCPU can promise 1."
        )
        assert two.share == hv.Share()
        with pytest.raises(ConfigError, match="this host has Credit, which keeps none"):
            host.scheduler = "credit"
        assert isinstance(host.scheduler, hv.Edf)
        one.share = hv.Share()
        host.scheduler = "credit"
        with pytest.raises(ConfigError, match=r"A reservation .* is kept by the scheduler 'edf'"):
            two.share = hv.Share(budget=0.01, period=0.02)
        with pytest.raises(ConfigError, match=r"pcpus=\[1\]: the host has 1, with the numbers from 0 to 0"):
            two.share = hv.Share(pcpus=[1])
    with pytest.raises(
        ConfigError, match=r"there are credit, edf, round-robin, or give a scheduler\. Did you mean credit"
    ):
        hv.Host("16M", 1, scheduler="credits")


@pytest.mark.parametrize(("fields", "sentence"), [
    ({"weight": 0}, "a weight is 1/10000 to 10000"),
    ({"cap": 2}, "a part of one pCPU, 0.01 to 1"),
    ({"budget": 0.01}, "both, budget= and period="),
    ({"budget": 0.02, "period": 0.01}, "at most its period"),
    ({"pcpus": []}, "one at least"),
])  # fmt: skip
def test_a_share_that_means_nothing_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        hv.Share(**fields)
