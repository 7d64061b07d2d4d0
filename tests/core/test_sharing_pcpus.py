"""VMs that share pCPUs: what each gets, and who leaves its pCPU to others."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest

import hypervisor as hv
from tests.core.bare import bare
from tests.core.queueing import FOREVER, LOOP, WORK, threads_of, until
from tests.core.smp import long_mode
from tests.sectors import boot_sector


def _beside(codes: list[tuple[str, int]], seconds: float) -> list[hv.VM]:
    with hv.Host("16M", 1) as host, ExitStack() as stack:
        vms = [stack.enter_context(bare(code, mode, host)) for code, mode in codes]
        for thread in threads_of([lambda vm=vm: vm.run(timeout=seconds) for vm in vms]):
            thread.join()
        return vms


def test_two_loops_get_about_the_same() -> None:
    for _ in range(2):
        one, two = (vm.clock.now_ns for vm in _beside([(LOOP, 64)] * 2, 0.6))
        assert one and two and 1 / 4 < one / two < 4, (one, two)


def test_a_vm_that_exits_all_the_time_and_a_loop_get_their_parts() -> None:
    """Each exit is a rare event for the clock: in 20 ms of the one's time the other would wait for seconds."""
    slow = "again: mov eax, 0x40000000; cpuid; jmp again"
    with hv.Host("16M", 1) as host, bare(LOOP, host=host) as loop, bare(slow, host=host) as exits:
        calls = 0

        @exits.traps.cpuid(leaf=0x40000000)
        def slowly(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            nonlocal calls
            calls += 1
            time.sleep(0.001)
            return hv.HANDLED

        alone = loop.run(timeout=0.3).virtual_s
        results: dict[str, float] = {}

        def run(name: str, vm: hv.VM) -> None:
            results[name] = vm.run(timeout=1.2).virtual_s

        for thread in threads_of([lambda: run("exits", exits), lambda: run("loop", loop)]):
            thread.join()
        assert results["loop"] > alone / 4, (results, alone)
        assert calls > 50


PORTS = "mov ecx, 3000; l: mov al, cl; out 0x80, al; inc rbx; dec ecx; jnz l; cli; hlt"
TICKS = """cli; xor ax, ax; mov ds, ax; mov word ptr [0x20], tick; mov [0x22], ax; mov al, 0xfe; out 0x21, al
mov al, 0x34; out 0x43, al; mov ax, 4000; out 0x40, al; mov al, ah; out 0x40, al; xor bx, bx; sti
l: hlt; cmp bx, 20; jb l; cli; hlt
tick: inc bx; push ax; mov al, 0x20; out 0x20, al; pop ax; iret
"""


def test_eight_vms_of_all_kinds_on_one_pcpu_finish_their_work() -> None:
    with hv.Host("64M", 1) as host, ExitStack() as stack:
        vms = [stack.enter_context(bare(code, host=host)) for code in (WORK, WORK, PORTS, PORTS)]
        sleepers = [
            stack.enter_context(host.create_vm(boot_sector(TICKS), memory="4M", clock=clock))
            for clock in ("wall", "wall", "wall", "virtual")
        ]
        results: dict[hv.VM, hv.RunResult] = {}

        def run(vm: hv.VM) -> None:
            results[vm] = vm.run(timeout=60)

        for thread in threads_of([lambda vm=vm: run(vm) for vm in vms + sleepers]):
            thread.join()
        assert all(result.reason is hv.Reason.HALTED for result in results.values()), results
        assert [results[vm].rbx for vm in vms] == [400000, 400000, 3000, 3000]
        *by_host, virtual = [results[vm].bx for vm in sleepers]
        assert virtual == 20 and min(by_host) >= 20  # one more may come between the comparison and CLI


SLEEPS = "sti; again: hlt; jmp again"


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_a_vm_that_sleeps_until_something_comes_leaves_its_pcpu(clock: str, slices: Any) -> None:
    slices(FOREVER)
    with hv.Host("16M", 1) as host, bare(WORK, host=host) as other, long_mode([SLEEPS], host, clock=clock) as sleeper:
        sleeper.input_open = True
        results: list[hv.RunResult] = []
        threads = threads_of([lambda: results.append(sleeper.run(timeout=60))])
        until(lambda: sleeper.vcpu.halted)
        assert other.run(timeout=30).reason is hv.Reason.HALTED
        sleeper.request_stop("enough")
        threads[0].join()
        assert results[0].message == "enough"


def test_a_vm_whose_sleep_costs_no_host_time_gives_way() -> None:
    """Its timer ticks for ever with the interrupt masked: a sleep that only virtual time passes in."""
    with hv.Host("16M", 1) as host, bare(WORK, host=host) as other:
        with host.create_vm(boot_sector(f"mov al, 0xff; out 0x21, al; {SLEEPS}"), memory="4M") as sleeper:
            threads = threads_of([lambda: sleeper.run(timeout=60)])
            until(lambda: sleeper.vcpu.halted)
            assert other.run(timeout=30).reason is hv.Reason.HALTED
            sleeper.request_stop("enough")
            threads[0].join()


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_a_sleeper_is_woken_by_input(clock: str) -> None:
    """The UART's interrupt wakes it, and only then does it want its pCPU again."""
    code = """cli; xor ax, ax; mov ds, ax; mov word ptr [0x30], got; mov [0x32], ax; mov al, 0xef; out 0x21, al
    mov dx, 0x3fc; mov al, 8; out dx, al; mov dx, 0x3f9; mov al, 1; out dx, al; xor bx, bx; sti
    l: hlt; cmp bx, 3; jb l; cli; hlt
    got: inc bx; push ax; push dx; mov dx, 0x3f8; in al, dx; mov al, 0x20; out 0x20, al; pop dx; pop ax; iret
    """
    with hv.Host("16M", 1) as host, host.create_vm(boot_sector(code), memory="4M", clock=clock) as sleeper:
        sleeper.console.open_input()
        results: list[hv.RunResult] = []
        threads = threads_of([lambda: results.append(sleeper.run(timeout=60))])
        for count in range(3):
            until(lambda count=count: sleeper.vcpu.bx == count and sleeper.vcpu.halted)
            sleeper.serial[0].send("x")
        threads[0].join()
        assert results[0].reason is hv.Reason.HALTED and results[0].bx == 3


def test_a_vm_that_the_debugger_has_leaves_its_pcpu(slices: Any) -> None:
    slices(FOREVER)
    attended, released = threading.Event(), threading.Event()

    class Holds:
        def attend(self, ended: Any) -> None:
            attended.set()
            assert released.wait(60)

        def wake(self) -> None: ...

        def close(self) -> None: ...

    with hv.Host("16M", 1) as host, bare(WORK, host=host) as other, bare(LOOP, host=host) as paused:
        paused.debugger = Holds()
        threads = threads_of([lambda: paused.run(virtual_timeout=1e-4)])
        assert attended.wait(60)
        assert other.run(timeout=30).reason is hv.Reason.HALTED
        released.set()
        threads[0].join()


def test_many_steps_give_way(slices: Any) -> None:
    slices(0.001)
    with hv.Host("16M", 1) as host, bare(WORK, host=host) as other, bare(LOOP, host=host) as stepped:
        ended = threading.Event()

        def step() -> None:
            while not ended.is_set():
                assert stepped.step(2000) == 2000

        threads = threads_of([step])
        assert other.run(timeout=60).reason is hv.Reason.HALTED
        ended.set()
        threads[0].join()
        assert stepped.vcpu.rbx >= 1000
