"""A machine that goes back to one moment again and again, which costs less each time but the first two."""

from __future__ import annotations

import struct
import threading
from collections import Counter
from random import Random

import pytest

import hypervisor as hv
from hypervisor.engine import cpu_record
from hypervisor.machine.bare import PAGE_TABLES
from hypervisor.run.sharing import left
from hypervisor.traps.builtin.random_numbers import MachineRandom
from tests.core.bare import bare
from tests.meanwhile import alongside

FAR, TABLE, PAGES = 1 << 39, 0x9000, (0x80000, 0x81000)
ROUNDS = 8
LOOKS = "again: vmmcall; mov rax, [r12]; vmmcall; jmp again"
DRAWS = "again: vmmcall; rdrand rax; rdrand rbx; vmmcall; jmp again"


def to(vm: hv.VM, page: int) -> None:
    """Let the page at `FAR` be this one. The guest flushes nothing."""
    vm.memory.write(TABLE, struct.pack("<Q", page | 7))


def looking(vm: hv.VM) -> hv.VM:
    """A guest that is about to look at the page at `FAR` for the first time."""
    for at, word in ((PAGE_TABLES + 8 * (FAR >> 39), 0x7007), (0x7000, 0x8007), (0x8000, TABLE | 7)):
        vm.memory.write(at, struct.pack("<Q", word))
    for page in PAGES:
        vm.memory.write(page, struct.pack("<Q", page))
    stopping(vm)
    return vm


def stopping(vm: hv.VM) -> None:
    vm.traps.hypercall(lambda vcpu, exit: hv.stop("look"))
    on(vm)


def on(vm: hv.VM) -> None:
    """To the next look."""
    assert vm.run(timeout=60).message == "look"
    vm.vcpu.rip += 3


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_no_translation_of_a_time_that_was_taken_back_is_left(clock: str) -> None:
    with bare(LOOKS, clock=clock, r12=FAR) as vm, looking(vm).snapshot() as snapshot:
        for n in range(ROUNDS):
            to(vm, PAGES[n % 2])
            on(vm)
            assert vm.vcpu.rax == PAGES[n % 2], "its TLB has what it had behind this moment"
            to(vm, PAGES[1 - n % 2])
            on(vm)
            on(vm)
            assert vm.vcpu.rax == PAGES[n % 2], "its TLB must keep what is not flushed, or this test shows nothing"
            vm.revert(snapshot)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_translations_of_the_moment_are_there_again(clock: str) -> None:
    with bare(LOOKS, clock=clock, r12=FAR) as vm:
        looking(vm)
        to(vm, PAGES[0])
        on(vm)
        on(vm)
        with vm.snapshot() as snapshot:
            before = vm.state()
            for n in range(ROUNDS):
                to(vm, PAGES[1])
                on(vm)
                assert vm.vcpu.rax == PAGES[0], "its TLB has forgotten what it knew at this moment"
                if n % 2:
                    vm.vcpu.cr3 = vm.vcpu.cr3  # and it learns others
                    on(vm)
                    on(vm)
                    assert vm.vcpu.rax == PAGES[1]
                vm.revert(snapshot)
                assert vm.state().parts["vcpu 0"] == before.parts["vcpu 0"]
                assert vm.state() == before or clock == "wall"


def test_ages_of_translations_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_record, "LAST_AGE", 5)
    test_no_translation_of_a_time_that_was_taken_back_is_left("virtual")
    test_translations_of_the_moment_are_there_again("virtual")


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_it_is_so_beside_neighbours_and_kicked(clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have the pCPU in between, what lies there of this one is set aside, and it is kicked at random."""
    monkeypatch.setattr(left, "COLD_S", 0.0)
    rng, over, seen = Random(9), threading.Event(), Counter[bool]()
    with hv.Host("16M", 1) as host, bare(LOOKS, host=host, clock=clock, r12=FAR) as vm:
        with bare("again: inc rax; jmp again", host=host) as other, looking(vm).snapshot() as snapshot:

            def kicks() -> None:
                while not over.wait(rng.random() / 2000):
                    host.pcpus[0].kick()

            with alongside(kicks, over.set):
                for _ in range(40):
                    page = rng.choice(PAGES)
                    to(vm, page)
                    if rng.random() < 0.5:
                        other.run(virtual_timeout=rng.random() / 10_000, timeout=60)
                    on(vm)
                    assert vm.vcpu.rax == page
                    seen[vm.vcpu.state.tlb.packed] += 1
                    if rng.random() < 0.5:
                        other.run(virtual_timeout=rng.random() / 10_000, timeout=60)
                    seen[vm.vcpu.state.tlb.packed] += 1
                    vm.revert(snapshot)
    assert seen[True] and seen[False], "it was never set aside, or always"


def test_random_numbers_come_again() -> None:
    drawn = []
    with bare(DRAWS) as vm:
        stopping(vm)
        with vm.snapshot() as snapshot, vm.snapshot() as other:
            for n in range(ROUNDS):
                if n % 3:
                    on(vm)
                    on(vm) if n % 2 else None
                    drawn.append(vm.vcpu.rax)
                vm.revert(other if n % 4 == 3 else snapshot)
            vm.random.seed(7)
            vm.revert(snapshot)
            on(vm)
            assert {*drawn, vm.vcpu.rax} == {drawn[0]} and drawn[0], "they are those of the moment"


def test_a_state_that_somebody_changes_is_looked_at() -> None:
    with bare(DRAWS) as vm:
        stopping(vm)
        state = vm.state()
        on(vm)
        first = vm.vcpu.rax
        for word in range(20):
            state.parts["machine"].random[word] ^= 1 << 31
        vm.restore(state)
        vm.restore(state)
        on(vm)
        assert vm.vcpu.rax != first


def test_random_numbers_are_those_of_python() -> None:
    ours, theirs = MachineRandom(5), Random(5)
    ours.at = mark = object()
    assert ours.at is mark
    for draw in (
        lambda one: one.getrandbits(64), lambda one: one.random(), lambda one: one.randrange(1000),
        lambda one: one.shuffle(list(range(9))), lambda one: one.seed(3), lambda one: one.randbytes(5),
        lambda one: one.setstate(Random(8).getstate()), lambda one: one.sample(range(100), 5),
    ):  # fmt: skip
        ours.at = mark
        assert draw(ours) == draw(theirs) and ours.at is None
    assert ours.getstate() == theirs.getstate()
