"""Whoever chooses who runs: each VM does what it does alone, and what the policy is told is what happens."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.run.sharing import scheduler
from tests.core.bare import bare
from tests.core.queueing import until
from tests.core.smp import long_mode

COUNTS = """
    mov ecx, {rounds}
again:
    inc dword ptr [0x80000]
    mov eax, [0x80000]
    out 0x80, al
    mov edx, 700
inner: dec edx
    jnz inner
    dec ecx
    jnz again
    cli
    hlt
"""
LOOP = "again: inc rbx; jmp again"


class LeastUsed:
    """The VM that has had the least time runs next, and those that have had more make room for it."""

    def __init__(self) -> None:
        self.had: defaultdict[Any, float] = defaultdict(float)

    def choose(self, ready: Sequence[Any]) -> hv.Slice:
        return hv.Slice(min(ready, key=self.had.__getitem__), 0.0005)

    def wakes(self, vm: Any, running: Sequence[Any]) -> Any:
        most = max(running, key=self.had.__getitem__, default=None)
        return most if most is not None and self.had[most] > self.had[vm] else None

    def used(self, vm: Any, seconds: float) -> None:
        self.had[vm] += seconds

    def blocks(self, vm: Any, seconds: float) -> None:
        self.had[vm] += seconds


class Checked(LeastUsed):
    """Notes whether what it is told makes sense."""

    def __init__(self) -> None:
        super().__init__()
        self.state: dict[Any, str] = {}
        self.slices: Counter[Any] = Counter()
        self.wrong: list[str] = []

    def _becomes(self, vm: Any, state: str, *before: str) -> None:
        if self.state.get(vm, "blocked") not in before:
            self.wrong.append(f"{vm.name}: {self.state.get(vm)} -> {state}")
        self.state[vm] = state

    def choose(self, ready: Sequence[Any]) -> hv.Slice:
        if any(self.state[vm] != "ready" for vm in ready) or len(set(ready)) != len(ready):
            self.wrong.append(f"not ready: {[(vm.name, self.state[vm]) for vm in ready]}")
        chosen = super().choose(ready)
        self._becomes(chosen.vm, "running", "ready")
        self.slices[chosen.vm] += 1
        if sum(state == "running" for state in self.state.values()) > 2:
            self.wrong.append("three on two pCPUs")
        return chosen

    def wakes(self, vm: Any, running: Sequence[Any]) -> Any:
        self._becomes(vm, "ready", "blocked")
        if any(self.state[one] != "running" for one in running):
            self.wrong.append(f"not running: {running}")
        return super().wakes(vm, running)

    def used(self, vm: Any, seconds: float) -> None:
        self._becomes(vm, "ready", "running")
        super().used(vm, seconds)

    def blocks(self, vm: Any, seconds: float) -> None:
        self._becomes(vm, "blocked", "running")
        super().blocks(vm, seconds)


@contextmanager
def _eight(host: hv.Host) -> Iterator[list[hv.VM]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(long_mode([COUNTS.format(rounds=500 + 100 * n)] * (1 + n % 2), host)) for n in range(8)
        ]


def _digest(vm: hv.VM, result: hv.RunResult | None) -> tuple[Any, ...]:
    assert result is not None
    registers = [(vcpu.rip, vcpu.rcx, vcpu.position) for vcpu in vm.vcpus]
    return result.reason, result.virtual_s, result.exits, registers, vm.memory.read(0x80000, 4)


def test_eight_vms_on_two_pcpus_by_a_scheduler_of_twenty_lines() -> None:
    with hv.Host("32M", 1) as host, _eight(host) as vms:
        alone = [_digest(vm, vm.run(timeout=60)) for vm in vms]
    policy = Checked()
    with hv.Host("32M", 2, scheduler=policy) as host, _eight(host) as vms:
        for vm in vms:
            vm.start(timeout=60)
        beside = [_digest(vm, vm.wait()) for vm in vms]
        assert beside == alone
        assert not policy.wrong
        assert set(policy.state.values()) == {"blocked"} and sum(policy.slices.values()) > 20
        for vm in vms:
            assert policy.had[vm] == pytest.approx(vm.place.used_s) and vm.place.used_s > 0


SHARES = [hv.Share(weight=3), hv.Share(cap=0.3), hv.Share(pcpus=[1]), hv.Share(budget=0.002, period=0.01), hv.Share()]


@pytest.mark.parametrize("policy", ["credit", "edf", "round-robin"])
def test_no_guest_can_tell_by_which_policy_it_runs(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices end wherever the CPU clocks of threads say so, shares change, and schedulers come and go."""
    monkeypatch.setattr(scheduler, "SLICE_S", 0.0005)
    with hv.Host("32M", 1) as host, _eight(host) as vms:
        alone = [_digest(vm, vm.run(timeout=60)) for vm in vms]
    with hv.Host("32M", 2, scheduler=policy) as host, _eight(host) as vms:
        for vm, share in zip(vms, SHARES * 2, strict=False):
            vm.share = share if policy == "edf" or not share.reserved else hv.Share(weight=0.5)
            vm.start(timeout=60)
        for number in range(20):
            vms[number % 8].share = hv.Share(weight=1 + number, cap=0.9 if number % 3 else None, pcpus=[number % 2])
            if number % 5 == 4:
                host.scheduler = policy
        assert [_digest(vm, vm.wait()) for vm in vms] == alone


def test_one_that_wakes_may_push_another_aside() -> None:
    """The other one's slice is an hour."""

    class Pushes(LeastUsed):
        def choose(self, ready: Sequence[Any]) -> hv.Slice:
            return hv.Slice(ready[0], 3600)

        def wakes(self, vm: Any, running: Sequence[Any]) -> Any:
            return running[0] if running else None

    with hv.Host("8M", 1, scheduler=Pushes()) as host, bare(LOOP, host=host) as long, bare("hlt", host=host) as short:
        long.start()
        for _ in range(3):
            short.vcpu.rip = 0x10000
            short.vcpu.halted = False
            assert short.run(timeout=60).reason is hv.Reason.HALTED
        stopped = long.stop()
        assert stopped is not None and stopped.message == "stopped by the host"


class Raises(LeastUsed):
    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.tired = where, False

    def fails(self, where: str) -> None:
        if self.tired and where == self.where:
            raise ValueError("no idea")

    def choose(self, ready: Sequence[Any]) -> hv.Slice:
        self.fails("choose")
        return hv.Slice(object(), 1) if self.tired and self.where == "nonsense" else super().choose(ready)  # type: ignore[arg-type]

    def wakes(self, vm: Any, running: Sequence[Any]) -> Any:
        self.fails("wakes")
        return None

    def used(self, vm: Any, seconds: float) -> None:
        self.fails("used")


@pytest.mark.parametrize("where", ["choose", "nonsense", "wakes", "used"])
def test_the_mistake_of_a_scheduler_ends_a_run_and_names_it(where: str) -> None:
    policy = Raises(where)
    with hv.Host("8M", 1, scheduler=policy) as host, bare(LOOP, host=host) as one, bare(LOOP, host=host) as two:
        policy.tired = True
        one.start()
        two.start()
        results = [one.wait(60) if where != "used" else None, two.wait(60) if where != "used" else None]
        if where == "used":  # whoever has to leave for the other one
            while not results.count(None) < 2:
                results = [vm.wait(0.01) for vm in (one, two)]
        ended = [result for result in results if result is not None]
        what = "answered with a VM that was not among them" if where == "nonsense" else "raised ValueError('no idea')"
        for result in ended:
            assert result.reason is hv.Reason.HOST_ERROR
            assert result.message == f"the host's scheduler, Raises, {what}"
        policy.tired = False
        one.stop()
        two.stop()
        assert one.run(virtual_timeout=1e-4, timeout=60).reason is hv.Reason.VIRTUAL_TIMEOUT


def test_a_vm_that_waits_leaves_its_pcpu_and_its_thread() -> None:
    """More VMs that sleep than pCPUs, and no thread for any of them."""
    with hv.Host("32M", 1) as host, ExitStack() as stack:
        sleepers = [
            stack.enter_context(long_mode(["sti; again: hlt; jmp again"], host, clock=clock))
            for clock in ("wall", "virtual") * 4
        ]
        other = stack.enter_context(bare(LOOP, host=host))
        threads = threading.active_count()
        for vm in sleepers:
            vm.input_open = True
            vm.start()
        assert other.run(timeout=60, virtual_timeout=0.01).reason is hv.Reason.VIRTUAL_TIMEOUT
        assert threading.active_count() <= threads + 2, "the pCPU's, and the watch"
        for vm in sleepers:
            stopped = vm.stop()
            assert stopped is not None and stopped.reason is hv.Reason.STOPPED


def test_a_pause_that_ends_while_its_vm_leaves_the_queue_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a pCPU, is to stand still, and is resumed when it does and nobody knows yet."""
    with hv.Host("8M", 1) as host, bare(LOOP, host=host) as hog, bare(LOOP, host=host) as vm:
        hog.start()
        vm.start()
        run: Any = vm.runner
        apart = run.apart

        def resumed_at_once() -> Any:
            following = apart()
            vm.resume()
            return following

        monkeypatch.setattr(scheduler, "SLICE_S", 3600.0)
        monkeypatch.setattr(run, "apart", resumed_at_once)
        while vm.place.pcpu is not None:
            vm.host.scheduler = "round-robin"  # whoever runs makes room
        vm.pause()
        monkeypatch.setattr(scheduler, "SLICE_S", 0.01)
        before = vm.usage.run_s
        until(lambda: vm.usage.run_s > before + 0.001)
        hog.stop()
        vm.stop()
