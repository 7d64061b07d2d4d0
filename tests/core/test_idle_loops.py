"""Loops that do nothing until the next event are not run round by round, and nobody can tell."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.engine import block as b
from hypervisor.run.rest import Rest
from tests.core.bare import bare, with_idt
from tests.core.smp import long_mode

LOOPS = {
    "short": "again: jmp again",
    "near": ".byte 0xe9, 0xfb, 0xff, 0xff, 0xff",
    "behind code": "add rdx, 7; sub rdx, 9; again: jmp again",
    "pause": "again: pause; jmp again",
    "pause behind code": "add rdx, 7; sub rdx, 9; cmp rdx, 5; again: pause; jmp again",
    "pause, entered at the jump": "jmp middle; again: pause; middle: jmp again",
    "branch": "cmp eax, eax; again: je again",
    "halt": "again: hlt; jmp again",
}
HANDLER = """
    push rax; push rdx
    inc dword ptr [0x80000]
    rdtsc
    mov edi, [0x80004]
    mov [rdi], eax
    add edi, 4
    mov [0x80004], edi
    pop rdx; pop rax
    pushfq; pop qword ptr [0x80010]
    mov ecx, {work}
    busy: loop busy
    cmp dword ptr [0x80000], {count}
    je done
    iretq
    done: hlt
"""
"""Counts interrupts and logs the TSC, works for a while, and ends the run after ``count``."""


class Timer:
    """Interrupts vCPUs at random times, some of them too close to be told apart."""

    def __init__(self, vm: hv.VM, seed: int) -> None:
        self.vm, self.random, self.pending_ = vm, random.Random(seed), [0] * vm.cpus
        for vcpu in vm.vcpus:
            vcpu.interrupt_controller = Source(self, vcpu)
        self.arm()

    def arm(self) -> None:
        """Ask for the next."""
        delay = self.random.choice((1, 2, 3, 5, 40, 333, 1000, 12_345, 200_001, 3_000_000))
        self.vm.clock.call_at(self.vm.clock.now_ns + self.random.randrange(1, delay + 1), self.fire)

    def fire(self) -> None:
        """An interrupt for one of the vCPUs."""
        vcpu = self.random.choice(self.vm.vcpus)
        self.pending_[vcpu.number] = 1
        vcpu.intr.raise_()
        self.arm()


class Source:
    """One vCPU's interrupt controller."""

    def __init__(self, timer: Timer, vcpu: hv.Vcpu) -> None:
        self.timer, self.vcpu = timer, vcpu

    def pending(self) -> bool:
        return bool(self.timer.pending_[self.vcpu.number])

    def acknowledge(self) -> int:
        self.timer.pending_[self.vcpu.number] = 0
        self.vcpu.intr.lower()
        return 0x40


class Once:
    """A controller whose request is taken back by its acknowledgement."""

    def __init__(self, vcpu: hv.Vcpu) -> None:
        self.vcpu = vcpu

    def pending(self) -> bool:
        return True

    def acknowledge(self) -> int:
        self.vcpu.intr.lower()
        return 0x40


def outcome(vm: hv.VM, skips: int, seed: int) -> tuple[Any, ...]:
    """Everything that a run leaves: registers, times of interrupts, exits, the clock."""
    for pcpu in vm.host.pcpus:
        pcpu.words[b.SKIPS >> 3] = skips
    vm.memory.write(0x80004, (0x81000).to_bytes(4, "little"))
    Timer(vm, seed)
    result = vm.run(timeout=60, virtual_timeout=0.03)
    state = [[vcpu.get(name) for name in ("rax", "rcx", "rdx", "rip", "rsp", "rflags")] for vcpu in vm.vcpus]
    return result.reason, result.message, dict(result.exits), vm.clock.now_ns, state, vm.memory.read(0x80000, 0x2000)


def single(source: str, skips: int, seed: int, prepare: Callable[[hv.VM], object] = lambda vm: None) -> tuple[Any, ...]:
    """`outcome` of one vCPU in a loop with interrupts on."""
    with bare("sti; " + source) as vm:
        with_idt(vm, {0x40: HANDLER.format(work=seed % 7 * 50 + 1, count=20)})
        prepare(vm)
        return outcome(vm, skips, seed)


@pytest.mark.parametrize("name", LOOPS)
def test_interrupts_find_the_loop_as_if_it_had_been_run(name: str) -> None:
    for seed in range(6):
        assert single(LOOPS[name], 1, seed) == single(LOOPS[name], 0, seed), seed


@pytest.mark.parametrize(
    "loops",
    [("short", "short"), ("short", "near", "short"), ("short", "pause"), ("halt", "near"), ("pause", "pause", "short")],
)
def test_vcpus_that_idle_take_the_same_turns(loops: tuple[str, ...]) -> None:
    def run(skips: int, seed: int) -> tuple[Any, ...]:
        codes = ["sti; " + LOOPS[name] for name in loops]
        with long_mode(codes, handlers={0x40: HANDLER.format(work=seed * 40 + 1, count=12)}) as vm:
            return outcome(vm, skips, seed)

    for seed in range(4):
        assert run(1, seed) == run(0, seed), seed


def test_a_working_vcpu_does_not_feel_one_that_jumps_to_itself() -> None:
    def run(skips: int) -> tuple[Any, ...]:
        work = "mov ecx, 300000; work: add eax, ecx; dec ecx; jnz work; hlt"
        with long_mode(["cli; " + work, "cli; again: jmp again"]) as vm:
            vm.host.pcpus[0].words[b.SKIPS >> 3] = skips
            result = vm.run(timeout=60)
            return result.reason, result.message, vm.clock.now_ns, vm.vcpus[0].rax

    assert run(1) == run(0)


@pytest.mark.parametrize("skips", [0, 1])
@pytest.mark.parametrize("source", ["cli; again: jmp again", "cli; again: pause; jmp again", "sti; again: jmp again"])
def test_a_loop_that_nothing_can_end_ends_the_run_at_the_same_time(source: str, skips: int) -> None:
    with bare(source) as vm:
        vm.host.pcpus[0].words[b.SKIPS >> 3] = skips
        result = vm.run(timeout=60)
        assert result.reason is (hv.Reason.HALTED if source.startswith("cli") else hv.Reason.IDLE)
        assert 20_000_000 <= vm.clock.now_ns < 20_001_000


def test_each_round_reaches_a_handler_on_its_address() -> None:
    with bare("again: jmp again") as vm:
        seen = 0

        @vm.traps.execute(vm.vcpu.rip)
        def count(vcpu: hv.Vcpu, exit: hv.Exit) -> Any:
            nonlocal seen
            seen += 1
            return hv.stop("enough") if seen == 50 else hv.PASS

        assert vm.run(timeout=20).reason is hv.Reason.STOPPED
        assert vm.clock.now_ns == 2 * 49


def test_each_round_can_be_stepped() -> None:
    for source, round_ns in (("again: jmp again", (2,)), ("again: pause; jmp again", (502, 2))):
        with bare(source) as vm:
            times = []
            for _ in range(20):
                vm.step(1)
                times.append(vm.clock.now_ns)
            rounds = [after - before for before, after in zip([0, *times], times, strict=False)]
            assert rounds == [round_ns[n % len(round_ns)] for n in range(20)]


def test_a_trap_flag_ends_the_first_round() -> None:
    with bare("pushfq; or dword ptr [rsp], 0x100; popfq; again: jmp again") as vm:
        with_idt(vm, {1: "inc dword ptr [0x80000]; cmp dword ptr [0x80000], 30; je out; iretq; out: hlt"})
        result = vm.run(timeout=20)
        assert (result.reason, result.exits["exception"]) == (hv.Reason.HALTED, 30)


def test_code_that_becomes_a_jump_to_itself_and_back() -> None:
    """The guest's own stores, and the host's, change what a block is."""
    source = """
        sti
        xor edx, edx
        mov word ptr [target], 0xfeeb
    target: nop; nop
        inc edx
        hlt
    """
    with bare(source) as vm:
        target = vm.memory.read(0x10000, 64).index(b"\x90\x90") + 0x10000
        with_idt(vm, {0x40: f"mov word ptr [{target:#x}], 0x9090; cli; mov qword ptr [rsp + 16], 2; iretq"})

        vm.vcpu.interrupt_controller = Once(vm.vcpu)
        vm.clock.call_at(1_000_001, vm.vcpu.intr.raise_)
        result = vm.run(timeout=20)
        assert (result.reason, result.edx, vm.vcpu.rip) == (hv.Reason.HALTED, 1, target + 5)
        assert 1_000_001 < vm.clock.now_ns < 1_020_000


@pytest.mark.parametrize("name", ["short", "pause", "halt"])
@pytest.mark.parametrize("cpus", [1, 2])
def test_under_the_wall_clock_the_thread_sleeps(name: str, cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the interrupt comes, in naps that end when Python is to look in."""
    naps = 0
    wait = Rest.wait_for_host

    def nap(rest: Rest, hold: Any) -> None:
        nonlocal naps
        naps += 1
        wait(rest, hold)

    monkeypatch.setattr(Rest, "wait_for_host", nap)
    with long_mode(["sti; " + LOOPS[name]] * cpus, handlers={0x40: "out 0x99, al"}, clock="wall") as vm:
        last = vm.vcpus[-1]
        last.interrupt_controller = Once(last)
        vm.clock.call_at(vm.clock.now_ns + 250_000_000, last.intr.raise_)
        vm.traps.port_out(0x99)(lambda vcpu, exit: hv.stop("delivered"))
        result = vm.run(timeout=20)
        assert (result.reason, result.message) == (hv.Reason.STOPPED, "delivered")
        assert 1 <= naps <= 100
