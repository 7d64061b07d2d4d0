"""Traps that come and go while the guest runs hold from its next instruction on; see `tests.core.changing`."""

from __future__ import annotations

import random
from typing import Literal

import pytest

import hypervisor as hv
from hypervisor.state import record
from hypervisor.traps.registry import MAX_PENDING
from tests.core.bare import DATA, addresses, bare
from tests.core.changing import TRAPS, Seen
from tests.core.smp import long_mode

ROUNDS = 40


@record
class SwitchState:
    """It remembers nothing of its own."""


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("seed", range(3))
def test_each_instruction_is_seen_if_it_is_trapped_by_then(seed: int, clock: str) -> None:
    seen = Seen(seed, ROUNDS, clock)
    assert seen.run().reason is hv.Reason.HALTED
    seen.check()
    assert {note.trap for note in seen.notes if note.what == "hit"} >= set(TRAPS), "each has been hit"
    assert sum(note.what != "hit" for note in seen.notes) > 5 * ROUNDS


def test_single_steps_find_the_same() -> None:
    seen = Seen(5, 15)
    assert seen.run(stepped=True).reason is hv.Reason.HALTED
    seen.check()


def test_the_check_notices_a_missed_and_a_ghostly_exit() -> None:
    """The test's own test: with one call taken out of the notes, or one put in, they are no possible run."""
    seen = Seen(1, 5)
    seen.run()
    seen.check()
    hits = [n for n, note in enumerate(seen.notes) if note.what == "hit"]
    at = hits[len(hits) // 2]
    for notes in (seen.notes[:at] + seen.notes[at + 1 :], [*seen.notes[:at], seen.notes[at], *seen.notes[at:]]):
        other = Seen(1, 5)
        other.notes = notes
        with pytest.raises(AssertionError):
            other.check()


@pytest.mark.stress
@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_changes(seed: int, clock: str) -> None:
    seen = Seen(seed, 400, clock, likely=(0.02, 0.15, 0.5)[seed % 3])
    assert seen.run().reason is hv.Reason.HALTED
    seen.check()


def test_a_run_repeats_with_its_changes() -> None:
    """Under the virtual clock: the same calls at the same times."""
    first, second = Seen(7, 20), Seen(7, 20)
    assert first.run().virtual_s == second.run().virtual_s
    assert first.notes == second.notes


VCPUS, TURNS = 3, 3000


def _counting(number: int) -> str:
    """A loop that counts each CPUID before it executes it; the first vCPU's calls the host, too."""
    counter, call = DATA + 8 * number, "vmmcall; " if number == 0 else ""
    return f"mov r15d, {TURNS}; again: inc qword ptr [{counter}]; xor eax, eax; cpuid; {call}dec r15; jnz again; hlt"


class Counted:
    """CPUIDs of several vCPUs, while one of them has them trapped and not trapped in turn."""

    def __init__(self, vm: hv.VM) -> None:
        self._vm, self._choice = vm, random.Random(3)
        self.hits, self.expected, self._since = [0] * VCPUS, [0] * VCPUS, [0] * VCPUS
        inside = [addresses(_counting(n))[2:4] for n in range(VCPUS)]
        self._inside = [[at + 0x1000 * n for at in inside[n]] for n in range(VCPUS)]
        vm.traps.hypercall(self._call)

    def _executed(self) -> list[int]:
        """How many CPUIDs each vCPU has executed: one less than it has counted, where the last one comes next."""
        return [self._vm.vcpu.read_u64(DATA + 8 * n) - (self._vm.vcpus[n].rip in self._inside[n]) for n in range(VCPUS)]

    def _hit(self, vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        self.hits[vcpu.number] += 1
        return hv.PASS

    def _call(self, vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        if self._choice.random() < 0.1:
            if "cpuid" in self._vm.traps:
                self._vm.traps.remove("cpuid")
                self.end()
            else:
                self._vm.traps.cpuid(self._hit, name="cpuid")
                self._since = self._executed()
        return hv.HANDLED

    def end(self) -> None:
        """The trap is gone, or the run over."""
        self.expected = [
            e + now - since for e, now, since in zip(self.expected, self._executed(), self._since, strict=True)
        ]


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_a_trap_that_one_vcpu_changes_holds_for_all(clock: str) -> None:
    with long_mode([_counting(n) for n in range(VCPUS)], clock=clock) as vm:
        counted = Counted(vm)
        assert vm.run(timeout=60).reason is hv.Reason.HALTED
        if "cpuid" in vm.traps:
            counted.end()
    assert counted.hits == counted.expected
    assert all(0 < hits < TURNS for hits in counted.hits)


@pytest.mark.parametrize("space", ["virtual", "physical"])
def test_nothing_is_left_of_a_fetch_trap_that_goes_in_its_own_step(space: Literal["virtual", "physical"]) -> None:
    """Its instruction is being stepped, with the trap lifted, when the handler of its load takes it away."""
    hits = []

    def setup(vm: hv.VM) -> None:
        vm.memory.write(0x11000, bytes.fromhex("8b042500000800 90 90 c3"))  # mov eax, [0x80000]; nop; nop; ret
        vm.traps.memory(
            range(0x11000, 0x11010),
            lambda v, e: hits.append(e.rip),
            mode="observe",
            access="x",
            space=space,
            name="code",
        )

        @vm.traps.memory(range(DATA, DATA + 4), access="r", mode="observe", once=True)
        def load(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
            vm.traps.remove("code")

    r = hv.run_asm("mov r15d, 50; again: call 0x11000; dec r15d; jnz again; hlt", setup=setup)
    assert r.reason is hv.Reason.HALTED and hits == [0x11000]
    assert r.exits["memory"] == 2, "the fetch and the load, and none that nobody listens to"


# --- the edges of it --------------------------------------------------------------------------------------------------


def test_the_exit_that_is_served_is_finished_by_those_it_began_with() -> None:
    order = []

    def setup(vm: hv.VM) -> None:
        @vm.traps.rdtsc(mode="observe", name="first")
        def first(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
            order.append("first")
            vm.traps.remove("second")
            vm.traps.rdtsc(mode="observe", when="after", name="late", once=True)(lambda v, e: order.append("late"))
            vm.traps.remove("first")

        @vm.traps.rdtsc(mode="observe", name="second")
        def second(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
            order.append("second")

    hv.run_asm("rdtsc; rdtsc; rdtsc; hlt", setup=setup)
    assert order == ["first", "second", "late"]


def test_what_a_handler_cannot_register_changes_nothing() -> None:
    said = []

    def setup(vm: hv.VM) -> None:
        for n in range(64):
            where = range(DATA + 8 * n, DATA + 8 * n + 8)
            vm.traps.memory(where, lambda v, e: None, space="virtual", mode="observe", access="w", name=f"watch {n}")

        @vm.traps.hypercall
        def call(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            before = vm.traps.names()
            with pytest.raises(hv.TrapError, match="65 ranges of virtual addresses are watched") as caught:
                vm.traps.memory(range(8), lambda v, e: None, space="virtual", mode="observe", name="one more")
            said.append(str(caught.value))
            assert vm.traps.names() == before
            vm.traps.remove("watch 0")
            vm.traps.memory(range(DATA, DATA + 4), lambda v, e: said.append(e.gva), space="virtual", mode="observe")
            return hv.HANDLED

    r = hv.run_asm("vmmcall; mov eax, [0x80000]; mov eax, [0x80004]; hlt", setup=setup)
    assert r.reason is hv.Reason.HALTED and said[1:] == [DATA]


def test_a_guest_does_not_have_handlers_without_end() -> None:
    def setup(vm: hv.VM) -> None:
        @vm.traps.execute(0x10002)
        def function(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            vm.traps.on_return(vcpu, lambda v, e: hv.PASS)
            return hv.PASS

    r = hv.run_asm("jmp f; f: push 0; jmp f", setup=setup, timeout=60, regs={"rsp": 0x90000})
    assert r.reason is hv.Reason.HOST_ERROR and f"one more than the {MAX_PENDING} that wait" in r.message


@hv.compiled(words=1)
def counted(state, regs, port, size, value):  # type: ignore[no-untyped-def]
    state[0] += 1
    return 0


def test_a_compiled_handler_comes_and_goes() -> None:
    seen = []

    def setup(vm: hv.VM) -> None:
        vm.traps.port_out(0x81, lambda v, e: seen.append(v.ebx), mode="observe")

        @vm.traps.hypercall
        def call(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            if vcpu.ebx == 30:
                vm.traps.port([0x80, 0x81], counted, access="w", name="counted")
            if vcpu.ebx == 10:
                vm.traps.remove("counted")
            return hv.HANDLED

    r = hv.run_asm("mov ebx, 40; again: vmmcall; out 0x80, al; out 0x81, al; dec ebx; jnz again; hlt", setup=setup)
    assert r.reason is hv.Reason.HALTED
    assert counted.state[0] == 2 * 20
    assert seen == [*range(40, 30, -1), *range(10, 0, -1)], "what a compiled handler serves is seen by nobody else"


class Switch(hv.Device[SwitchState]):
    """A device that traps RDTSC when it is written."""

    def __init__(self, vm: hv.VM) -> None:
        super().__init__("switch", SwitchState())
        self._vm, self.hits = vm, list[int]()

    def write(self, offset: int, size: int, value: int) -> None:
        if value:
            self._vm.traps.rdtsc(self._hit, mode="observe", name="ticks")
        else:
            self._vm.traps.remove("ticks")

    def _hit(self, vcpu: hv.Vcpu, exit: hv.Exit) -> None:
        self.hits.append(vcpu.ebx)


def test_a_device_changes_traps() -> None:
    with bare(
        "mov ebx, 1; rdtsc; mov al, 1; out 0x60, al; inc ebx; rdtsc; mov al, 0; out 0x60, al; inc ebx; rdtsc; hlt"
    ) as vm:
        switch = vm.attach(Switch, ports=range(0x60, 0x61))
        assert vm.run(timeout=10).reason is hv.Reason.HALTED
    assert switch.hits == [2]


def test_a_condition_changes_traps() -> None:
    hits = []
    with bare("again: pause; rdtsc; dec ecx; jnz again; hlt", rcx=10) as vm:
        vm.traps.pause(lambda v, e: hv.PASS)

        def asked() -> bool:
            if vm.vcpu.ecx == 5 and "ticks" not in vm.traps:
                vm.traps.rdtsc(lambda v, e: hits.append(v.ecx), mode="observe", name="ticks")
            return False

        assert vm.run(until=asked, timeout=10).reason is hv.Reason.HALTED
    assert hits == [5, 4, 3, 2, 1]
