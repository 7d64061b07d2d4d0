"""The ring of the last events: what it says of each kind, that it is bounded, and that another VM does not erase it."""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.traps.history import EXTERNAL, MAX_EVENTS
from tests.core.bare import bare, with_idt

CODE = {
    "mov eax, 0x1242; out 0x80, al": "out 0x80, 0x42 (1)",
    "in eax, 0x60": "in 0x60 -> 0xffffffff (4)",
    "mov eax, 0x561234; mov [0xd0000010], ax": "write 0xd0000010, 0x1234 (2)",
    "mov al, [0xd0000010]": "read 0xd0000010 -> 0xff (1)",
    "mov ecx, 0xc0000080; rdmsr; wrmsr": "wrmsr EFER, 0xd01",
    "mov ecx, 0x10; rdmsr": "rdmsr TSC",
    "mov rax, cr0; mov cr0, rax": "mov to cr0, 0x80000011",
    "mov eax, 0x1000; mov dr0, rax": "mov to dr0, 0x1000",
    "ud2": "#UD invalid opcode",
    "mov al, [0x4000000000]": "#PF page fault, error 0x0, address 0x4000000000",
    "int 0x40": "int 0x40",
    "int3": "#BP breakpoint",
}


@pytest.mark.parametrize("code", CODE)
def test_an_event_is_told_with_its_value(code: str) -> None:
    with bare(f"{code}; hlt") as vm:
        with_idt(vm, {vector: "hlt" for vector in (3, 6, 14, 0x40)})
        vm.run(timeout=20)
        assert CODE[code] in [str(event) for event in vm.events()]
        last = vm.events()[-1]
        assert str(last) == "hlt" and last.ns <= vm.clock.now_ns


def test_an_invlpg_that_is_watched_is_told_with_its_address() -> None:
    with bare("mov rbx, 0x123456789000; invlpg [rbx]; hlt") as vm:
        vm.traps.invlpg(lambda vcpu, exit: None, mode="observe")
        vm.run(timeout=20)
        assert str(vm.events()[-2]) == "invlpg 0x123456789000"


def test_interrupts_are_remembered_in_order_with_their_time() -> None:
    with hv.boot("preempt", memory="16M") as vm:
        vm.run(timeout=60, virtual_timeout=0.2)
        events = vm.events()
        assert [event.ns for event in events] == sorted(event.ns for event in events)
        assert any(event.origin == EXTERNAL for event in events) and len(vm.events(5)) == 5


def test_the_ring_is_bounded_and_keeps_the_newest() -> None:
    with bare("mov ecx, 5000; again: mov al, cl; out 0x80, al; dec ecx; jnz again; hlt") as vm:
        vm.run(timeout=20)
        events = vm.events()
        assert len(events) == MAX_EVENTS >= 1000
        values = [event.value for event in events[:-1]]
        assert values == [n & 0xFF for n in range(MAX_EVENTS - 1, 0, -1)] and str(events[-1]) == "hlt"


def test_another_vm_on_the_same_processor_erases_nothing() -> None:
    host = hv.Host("4M", 1)
    with bare("mov al, 1; out 0x80, al; hlt; mov al, 2; out 0x80, al; hlt", host=host) as first:
        first.run(timeout=20)
        with bare("mov al, 9; out 0x80, al; hlt", host=host) as second:
            second.run(timeout=20)
            assert [event.value for event in first.events() if event.size] == [1]
            first.vcpu.halted = False
            first.run(timeout=20)
            assert [event.value for event in first.events() if event.size] == [1, 2]
            assert [event.value for event in second.events() if event.size] == [9]
    host.close()


def test_a_ring_that_was_packed_is_the_same_and_goes_on() -> None:
    """Again and again in a run in pieces, beside a neighbour: what is told is what is told without packing."""
    told: list[list[str]] = []
    for packs in (False, True):
        with hv.Host("8M", 1) as host:
            code = "mov ecx, 3000\nagain: mov al, cl; out 0x80, al; loop again; hlt"
            with bare(code, host=host) as vm, bare("again: inc eax; jmp again", host=host) as neighbour:
                while vm.run(virtual_timeout=3e-4, timeout=20).reason is hv.Reason.VIRTUAL_TIMEOUT:
                    neighbour.run(virtual_timeout=1e-7, timeout=20)  # takes the pCPU
                    before = [str(event) for event in vm.events()]
                    if packs:
                        vm.place.set_aside()
                    assert [str(event) for event in vm.events()] == before
                neighbour.run(virtual_timeout=1e-7, timeout=20)
                vm.place.set_aside()
                told.append([str(event._replace(ns=0)) for event in vm.events()])
    assert told[0] == told[1] and len(told[0]) == MAX_EVENTS
