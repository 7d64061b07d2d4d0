"""VMs and threads that wait for a pCPU, or for each other."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import hypervisor as hv
from tests.core.bare import bare
from tests.core.queueing import WORK, Interrupt, fakes, interrupt, threads_of, until

Hog = tuple[hv.Host, threading.Event]


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_a_timeout_counts_in_the_queue(hog: Hog, clock: str) -> None:
    host, released = hog
    with host.create_vm(b"\xeb\xfe", memory="1M", format="flat", at=0x10000, mode=32, clock=clock) as vm:
        result = vm.run(timeout=0.1)  # would wait for ever
        assert result.reason is hv.Reason.TIMEOUT and not released.is_set()
        released.set()


@pytest.mark.parametrize("how", ["stop", "interrupt"])
def test_a_run_in_the_queue_is_ended_from_outside(hog: Hog, how: str) -> None:
    host, released = hog
    with bare(WORK, host=host) as vm:
        results: list[object] = []

        def run() -> None:
            try:
                results.append(vm.run().message)
            except Interrupt:
                results.append("interrupted")

        thread = threads_of([run])[0]
        until(lambda: host.queue.contended)
        if how == "stop":
            vm.request_stop("enough")
        else:
            interrupt(thread)  # one from another thread waits until this one wakes, now and then; a signal would not
        thread.join()
        assert results == ["enough" if how == "stop" else "interrupted"]
        assert not host.queue.contended and not released.is_set()
        released.set()
        assert vm.run(timeout=30).reason is hv.Reason.HALTED


def test_closing_a_vm_tells_those_who_wait_for_it(hog: Hog) -> None:
    host, released = hog
    problems: list[str] = []
    with bare(WORK, host=host) as vm:

        def look() -> None:
            try:
                vm.vcpu.read(0x10000, 1)
            except hv.ConfigError as error:
                problems.append(str(error))

        thread = threads_of([look])[0]
        until(lambda: host.queue.contended)
        vm.close()
        thread.join()
    assert len(problems) == 1 and "is closed, and its state is gone" in problems[0] and not released.is_set()


def test_closing_the_queue_tells_those_who_wait() -> None:
    queue, (one, two) = fakes(1, 2)
    problems: list[str] = []

    def come() -> None:
        try:
            with queue.holding(two):
                pass
        except hv.ConfigError as error:
            problems.append(str(error))

    with queue.holding(one):
        thread = threads_of([come])[0]
        until(lambda: queue.contended)
        queue.close()
        thread.join()
    assert len(problems) == 1 and "The host is closed" in problems[0]


def test_a_wait_that_could_never_end_is_an_error() -> None:
    with hv.Host("16M", 1) as host, bare("vmmcall; hlt", host=host) as one, bare(WORK, host=host) as two:

        @one.traps.hypercall()
        def looks(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            two.vcpu.read(0x10000, 1)
            return hv.HANDLED

        result = one.run(timeout=20)
        assert result.reason is hv.Reason.HOST_ERROR and "the wait would never end" in result.message
        assert two.run(timeout=20).reason is hv.Reason.HALTED


def test_two_handlers_that_look_at_each_others_vm_are_told() -> None:
    with hv.Host("16M", 2) as host, bare("vmmcall; hlt", host=host) as one, bare("vmmcall; hlt", host=host) as two:
        both = threading.Barrier(2)

        for vm, other in ((one, two), (two, one)):

            def looks(vcpu: hv.Vcpu, exit: hv.Exit, other: hv.VM = other) -> hv.Verdict:
                vcpu.rip += exit.length
                both.wait(30)
                other.vcpu.read(0x10000, 1)
                return hv.HANDLED

            vm.traps.hypercall(looks)
        results: list[hv.RunResult] = []
        for thread in threads_of([lambda vm=vm: results.append(vm.run(timeout=20)) for vm in (one, two)]):
            thread.join()
        assert hv.Reason.HOST_ERROR in [result.reason for result in results], results
        assert "the wait would never end" in next(r.message for r in results if r.reason is hv.Reason.HOST_ERROR)


@pytest.mark.parametrize("pcpus", [1, 2])
def test_another_thread_looks_at_and_writes_code_of_a_vm_that_runs(pcpus: int, slices: Any) -> None:
    """It does so between two blocks, on the VM's pCPU: nothing is changed under an engine that runs."""
    slices(0.002)
    code = "again: mov eax, 1; inc qword ptr [rdi + rax * 8]; jmp again"
    with hv.Host("16M", pcpus) as host, bare(code, host=host, rdi=0x80000) as vm:
        thread = threads_of([lambda: vm.run(timeout=60)])[0]
        for count in range(20):
            vm.vcpu.write(0x10001, bytes([count % 7 + 1]))
            assert vm.vcpu.read(0x10000, 2) == bytes([0xB8, count % 7 + 1])
            slot = 0x80008 + count % 7 * 8
            before = vm.memory.read(slot, 8)
            until(lambda slot=slot, before=before: vm.memory.read(slot, 8) != before)
        vm.request_stop()
        thread.join()
