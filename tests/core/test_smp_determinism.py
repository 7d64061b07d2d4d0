"""A guest with several vCPUs repeats bit for bit, on whatever pCPU, beside whomever."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import closing
from random import Random
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.units import nanoseconds
from tests.core.smp import machine

RUNS = 20
CPUS = 4
BEYOND_NS = 60_000
"""How far a run may go beyond its end: where all wait for each other, time passes in steps of up to 50 us."""

LOG = """
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, bp
    sti
next:
    mov eax, 1
    lock xadd [0x600], eax          # a ticket
wait:
    cmp eax, [0x604]
    je mine
    pause
    jmp wait
mine:
    mov ebx, [0x608]                # who came when: TSC, APIC ID, and what the clock's interrupts have counted
    rdtsc
    mov [ebx], eax
    mov eax, [0x60c]
    mov [ebx + 4], ax
    mov [ebx + 6], bp
    add ebx, 8
    mov [0x608], ebx
    inc dword ptr [0x604]
    mov cx, dx
    add cx, 90
work:
    loop work
    test ebx, 0x1f8
    jnz go_on
    mov dx, 0x102                   # every now and then: interrupt the next vCPU, and sleep until another one does
    mov eax, [0x610]
    out dx, eax
    inc byte ptr [0x610]
    and byte ptr [0x610], 3
    hlt
go_on:
    cmp ebx, 0x1f000
    jb next
    cli
    mov dx, 0xf4
    mov al, 3
    out dx, al
    hlt
"""
BOOT = """
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7000
    mov dword ptr [0x608], 0x10000
    mov dword ptr [0x610], 0x4000
    mov word ptr [0x100], on_ipi    # vector 0x40
    mov word ptr [0x102], 0
    mov word ptr [0x20], on_clock   # vector 8: the PIT's interrupt as the BIOS leaves the PIC
    mov word ptr [0x22], 0
    mov al, 0x11
    out 0x20, al
    mov al, 8
    out 0x21, al
    mov al, 4
    out 0x21, al
    mov al, 1
    out 0x21, al
    mov al, 0xfe
    out 0x21, al
    mov al, 0x34
    out 0x43, al
    mov al, 60                      # 50 us
    out 0x40, al
    xor al, al
    out 0x40, al
    mov cx, 3
start:
    mov eax, 0x800
    mov al, cl
    mov dx, 0x101
    out dx, eax
    loop start
    mov bp, 0x7000
    jmp log
on_ipi:
    iret
on_clock:
    push ax
    inc dword ptr [0x60c]
    mov al, 0x20
    out 0x20, al
    pop ax
    iret
log:
"""
AP = """
    mov eax, 1
    cpuid
    shr ebx, 24
    shl bx, 8
    mov bp, 0x6000
    add bp, bx
"""


Run = Callable[[hv.VM], hv.RunResult]


def _at_once(vm: hv.VM) -> hv.RunResult:
    return vm.run(timeout=60, virtual_timeout=5)


def _once(host: hv.Host, run: Run = _at_once) -> tuple[Any, ...]:
    with machine(BOOT + LOG, CPUS, AP + LOG, host=host) as vm:
        pic, own = vm.devices["pic"], vm.vcpu.interrupt_controller
        assert own is not None

        class Both:
            """The first vCPU's: what others send it, and the clock."""

            def pending(self) -> bool:
                return own.pending() or pic.pending()

            def acknowledge(self) -> int:
                vector: int = own.acknowledge() if own.pending() else pic.acknowledge()
                if self.pending():  # the line is both's
                    vm.vcpu.intr.raise_()
                return vector

        vm.vcpu.interrupt_controller = Both()
        result = run(vm)
        assert result.reason is hv.Reason.DEBUG_EXIT, (result.message, result.exits)
        digest = hashlib.sha256(vm.memory.read(0, vm.memory.size)).hexdigest()
        interrupts = int.from_bytes(vm.memory.read(0x60C, 4), "little")
        assert interrupts > 20
        vm.place.set_down()  # another VM may have had it do so already
        return digest, vm.clock.now_ns, dict(vm.stats), [vcpu.position for vcpu in vm.vcpus], vm.turns.state()


@pytest.mark.parametrize("pcpus", [1, 2])
def test_twenty_runs_are_the_same_beside_another_vm(pcpus: int) -> None:
    with closing(hv.Host(memory="1M", cpus=1)) as host:
        first = _once(host)
    with closing(hv.Host(memory="8M", cpus=pcpus)) as host:
        stop = threading.Event()
        neighbours: list[tuple[Any, ...]] = []

        def disturb() -> None:
            while not stop.is_set():
                neighbours.append(_once(host))

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            runs = [_once(host) for _ in range(RUNS)]
        finally:
            stop.set()
            thread.join()
    assert runs == [first] * RUNS
    assert neighbours == [first] * len(neighbours)


def test_looking_at_a_vm_from_outside_changes_nothing() -> None:
    """Kicks of the pCPU come at any time: whose turn it is does not depend on them."""
    with closing(hv.Host(memory="2M", cpus=1)) as host:
        first = _once(host)
        stop = threading.Event()

        def look() -> None:
            while not stop.is_set():
                for vm in list(host.vms):
                    vm.look()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            assert [_once(host) for _ in range(3)] == [first] * 3
        finally:
            stop.set()
            thread.join()


class Onlooker:
    """A debugger that looks at nothing, but wants to now and then where a vCPU waits for another one."""

    def __init__(self, vm: hv.VM) -> None:
        vm.debugger = self
        self.looks = 0
        rng = Random(7)

        @vm.traps.pause()
        def wait(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            if rng.random() < 0.3:
                vm.request_pause()
            return hv.PASS

    def attend(self, ended: Any) -> None:
        self.looks += 1

    def wake(self) -> None: ...

    def close(self) -> None: ...


def _looked_at(vm: hv.VM) -> hv.RunResult:
    onlooker = Onlooker(vm)
    result = _at_once(vm)
    assert onlooker.looks > 20
    return result


def _in_pieces(vm: hv.VM) -> hv.RunResult:
    """In runs that are each over after some time, often in the middle of a turn; the engine gives turns in some."""
    rng, runs = Random(5), 0
    while True:
        seconds = rng.choice((1e-7, 1e-5, 3e-4)) * rng.random() + 1e-9
        vm.turns.by_engine = rng.random() < 0.7
        before = vm.clock.now_ns
        how = {"until": hv.after(seconds)} if rng.random() < 0.5 else {"virtual_timeout": seconds}
        result = vm.run(timeout=60, **how)
        if result.reason not in (hv.Reason.UNTIL, hv.Reason.VIRTUAL_TIMEOUT):
            assert runs > 100
            return result
        assert 0 <= vm.clock.now_ns - before - nanoseconds(seconds) < BEYOND_NS
        runs += 1


@pytest.mark.parametrize("run", [_looked_at, _in_pieces])
def test_where_a_run_ends_or_stands_still_does_not_matter(run: Run) -> None:
    with closing(hv.Host(memory="1M", cpus=1)) as host:
        assert _once(host, run) == _once(host)
