"""``python -m tests.sharing.shares --seconds 10`` says what guests get of a host's processors, by their own counters,
and what is wrong with that: shares by weights and caps, within 1%; what the host accounts, within 1% of what the kernel
says of its threads; an honest guest beside each hostile one. What is shared is what the pCPUs' threads get: how much of
the time others held them up is said beside it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import hypervisor as hv
from hypervisor.run.sharing import scheduler
from tests.sharing import granted, woken
from tests.sharing.guests import Got, computed, counting, measure, neighbour, threads_of_pcpus, until_computed, waking

WEIGHTS: tuple[tuple[Sequence[float], int], ...] = (
    ((1, 1), 1), ((3, 1), 1), ((1, 2, 5), 1), ((1, 1), 2), ((3, 1), 2), ((1, 2, 5), 2),
)  # fmt: skip
"""Weights, and pCPUs."""
NEIGHBOURS = ("interrupts off", "exit storm", "computes", "sleeps")


def off(found: Sequence[float], wanted: Sequence[float]) -> float:
    """By which part the worst of these is not what is wanted."""
    return max(abs(one / two - 1) for one, two in zip(found, wanted, strict=True))


def whole(given: Sequence[float], pcpus: int) -> list[bool]:
    """For which VMs with these weights a pCPU is not more than they are to have: a VM has one at most."""
    found, rest = [False] * len(given), sum(given)
    for n in sorted(range(len(given)), key=lambda n: -given[n]):
        if pcpus and given[n] * pcpus >= rest:
            found[n], pcpus, rest = True, pcpus - 1, rest - given[n]
    return found


def parts_of(given: Sequence[float], alone: Sequence[bool], used: Sequence[float]) -> list[float]:
    """What VMs with these weights are to have. Of two pCPUs' threads the host may keep one from computing for longer
    than the other, so one with a pCPU to itself is to have what its thread got.
    """
    rest = 1 - sum(part for part, one in zip(used, alone, strict=True) if one)
    total = sum(weight for weight, one in zip(given, alone, strict=True) if not one)
    return [part if one else rest * weight / total for weight, part, one in zip(given, used, alone, strict=True)]


def among(given: Sequence[float], alone: Sequence[bool], counted: Sequence[float]) -> float:
    """By which part those who share pCPUs are off, among each other and by their own counters. What two processors of a
    host do in the same time differs by some hundredths, so no more is said by counters on both.
    """
    who = [n for n, one in enumerate(alone) if not one]
    total, weight = sum(counted[n] for n in who), sum(given[n] for n in who)
    return off([counted[n] / total for n in who], [given[n] / weight for n in who]) if who else 0.0


def weights(seconds: float, bound: float) -> int:
    """How many of `WEIGHTS` are off by more: by the guests' counters among those who share, by the host's among all;
    who all have a pCPU are to wait for nobody.
    """
    wrong = 0
    for given, pcpus in WEIGHTS:
        with hv.Host("16M", pcpus, scheduler="credit") as host:
            with counting(host, [hv.Share(weight=weight) for weight in given]) as vms:
                got = measure(vms, seconds)
        alone = whole(given, pcpus)
        parts = parts_of(given, alone, got.used)
        by, by_host = among(given, alone, got.counted), off(got.used, parts)
        waited = sum(s for s, one in zip(got.waited_s, alone, strict=True) if one)
        speeds = [count / used for count, used in zip(got.counted, got.used, strict=True)]
        bad = max(by, by_host) > bound or (all(alone) and waited > bound * got.host_s)
        wrong += bad
        print(
            f"weights {_of(given)} on {pcpus}: {_parts(got.counted)} by the guests' counters, {_parts(got.used)} by "
            f"the host's, of {_parts(parts)}; off by {by:.2%} among those who share and {by_host:.2%}; in the same "
            f"time one counts {max(speeds) / min(speeds) - 1:.1%} more than another"
            + f", {waited:.2f} s waited by who has a pCPU alone" * any(alone)
            + f" in {got.host_s:.1f} s; others held up the threads for {got.stolen_s / got.host_s / pcpus:.0%} of them"
            + " TOO MUCH" * bad
        )
    return wrong


def reservations(seconds: float, bound: float) -> int:
    """Whether one that is promised 3 ms of each 10 ms, and wants more, gets less than that and its part of the rest, of
    what the pCPU's thread got when.
    """
    got, wanted, stolen = reserved(seconds)
    rest = (1 - wanted) / 2
    by = abs(got.counted[0] / wanted - 1)
    print(
        f"3 ms of 10 ms, and a third of the rest: {_parts(got.counted)} by the guests' counters, {_parts(got.used)} by "
        f"the host's, {_parts((wanted, rest, rest))} of what its thread got, which others held up for {stolen:.0%} of "
        f"the time; off by {by:.2%}, the rest by {off(got.counted[1:], (rest, rest)):.2%} in {got.host_s:.1f} s"
        + (" TOO MUCH" if by > bound else "")
    )
    return by > bound


def reserved(seconds: float) -> tuple[Got, float, float]:
    """What three VMs get that compute, of which the first has a reservation; which part that one is to have of what
    the thread got; and for which part of the time this was kept from computing.
    """
    shares = [hv.Share(budget=0.003, period=0.01), hv.Share(), hv.Share()]
    with hv.Host("16M", 1, scheduler="edf") as host, counting(host, shares) as vms, granted.readings() as read:
        got = measure(vms, seconds)
    first, last = read[0], read[-1]
    return got, granted.part(read, 0.003, 0.01, 2), (last.stolen - first.stolen) / (last.wall - first.wall)


def caps(seconds: float, bound: float) -> int:
    """How many caps are off by more, beside a pCPU that idles: one gets no more than that, and no less but for what
    others of the host's processes take from its thread.
    """
    wrong = 0
    for cap in (0.1, 0.25, 0.5):
        with hv.Host("16M", 1) as host, counting(host, [hv.Share(cap=cap)]) as (vm,):
            vm.start()
            time.sleep(0.2)
            before, since = vm.usage, time.monotonic()
            time.sleep(seconds)
            after, passed = vm.usage, time.monotonic() - since
            vm.stop()
        used, stolen = (after.run_s - before.run_s) / passed, (after.stolen_s - before.stolen_s) / passed
        by = max(used / cap - 1, 1 - (used + stolen) / cap)
        wrong += by > bound
        print(
            f"cap {cap}: {used:.4f} of a pCPU, off by {used / cap - 1:.2%}; others held up its thread for {stolen:.1%}"
            + (" TOO MUCH" if by > bound else "")
        )
    return wrong


def accounts(seconds: float, bound: float) -> int:
    """How many figures differ by more from the kernel's."""
    wrong = 0
    for pcpus in (1, 2):
        with hv.Host("16M", pcpus, scheduler="credit") as host:
            with counting(host, [hv.Share()] * 3) as vms, neighbour(host, "exit storm") as storm:
                since = time.monotonic()
                for vm in vms:
                    vm.start()
                until_computed(vms, seconds, 20 * seconds)
                for vm in (*vms, storm):
                    vm.pause()
                passed = time.monotonic() - since
                kernel = threads_of_pcpus().values()
                run, stolen = computed([*vms, storm]), sum(vm.usage.stolen_s for vm in (*vms, storm))
                totals = [vm.usage.total_s for vm in vms]
                pcpu = host.usage
                for vm in (*vms, storm):
                    vm.resume()
                    vm.stop()
        by = abs(run / sum(one for one, _ in kernel) - 1), abs(sum(one.run_s for one in pcpu) / run - 1)
        late = max(abs(total / passed - 1) for total in totals)
        wrong += max(*by, late) > bound
        print(
            f"accounts of 4 VMs on {pcpus}: {run:.3f} s computed, the kernel says "
            f"{sum(one for one, _ in kernel):.3f} s (off by {by[0]:.2%}); {stolen:.3f} s stolen, the kernel says "
            f"{sum(one for _, one in kernel):.3f} s; all states of a VM are off by {late:.2%} from the time that passed"
            + (" TOO MUCH" if max(*by, late) > bound else "")
        )
    return wrong


def wakes(seconds: float) -> int:
    """Whether one that wakes each 10 ms, and has little to do, waits for longer than a slice at worst, of what the
    pCPU's thread computes; beside 4 that compute.
    """
    wrong = 0
    for policy in ("credit", "edf"):
        with hv.Host("16M", 1, scheduler=policy) as host, counting(host, [hv.Share()] * 4) as hogs:
            with waking(host, lambda: 0.01) as vm, woken.wakings(vm) as found:
                for one in (*hogs, vm):
                    one.start()
                time.sleep(seconds)
                for one in (*hogs, vm):
                    one.stop()
        computed = [one.computed for one in found]
        bad = not found or max(computed) > scheduler.SLICE_S
        wrong += bad
        print(
            f"one that wakes beside 4 that compute, {policy}: woken {len(found)} times, behind {_ms(computed)} ms of "
            f"what its pCPU's thread computed; by the host's clock {_ms([one.waited for one in found])} ms, noticed "
            f"behind {_ms([one.noticed for one in found])} ms of them" + (" TOO LONG" if bad else "")
        )
    return wrong


def _ms(found: Sequence[float]) -> str:
    return f"{statistics.mean(found) * 1e3:.2f} ({max(found) * 1e3:.2f} at worst)"


def neighbours(seconds: float) -> int:
    """How many hostile neighbours leave an honest VM less than nearly half of a pCPU, by the host's figures."""
    wrong = 0
    for kind in NEIGHBOURS:
        with hv.Host("16M", 1, scheduler="credit") as host, counting(host, [hv.Share()]) as (honest,):
            with neighbour(host, kind) as hostile:
                honest.start()
                time.sleep(0.2)
                before = honest.place.used_s, hostile.place.used_s
                time.sleep(seconds)
                mine, its = honest.place.used_s - before[0], hostile.place.used_s - before[1]
                honest.stop()
        part = mine / (mine + its)
        wrong += part < 0.45
        print(f"beside one that {kind}: an honest VM has its pCPU for {part:.1%}" + (" TOO LITTLE" * (part < 0.45)))
    return wrong


def _of(weights: Sequence[float]) -> str:
    return ":".join(f"{one:g}" for one in weights)


def _parts(found: Sequence[float]) -> str:
    return " : ".join(f"{one:.4f}" for one in found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of computing, for each figure")
    parser.add_argument("--bound", type=float, default=0.01)
    parser.add_argument("--only", choices=("weights", "reservations", "caps", "accounts", "wakes", "neighbours"))
    asked = parser.parse_args()
    found = 0
    if asked.only in (None, "weights"):
        found += weights(asked.seconds, asked.bound)
    if asked.only in (None, "reservations"):
        found += reservations(asked.seconds, asked.bound)
    if asked.only in (None, "caps"):
        found += caps(asked.seconds, asked.bound)
    if asked.only in (None, "accounts"):
        found += accounts(asked.seconds, asked.bound)
    if asked.only in (None, "wakes"):
        found += wakes(asked.seconds)
    if asked.only in (None, "neighbours"):
        found += neighbours(asked.seconds)
    sys.exit(found > 0)
