"""Runs that are begun and left alone: waiting, pausing, ending, closing."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.core.bare import bare
from tests.core.smp import long_mode

LOOP = "again: inc rbx; jmp again"
WORK = "mov ecx, {}; again: inc rax; dec ecx; jnz again; out 0x80, al; cli; hlt"


def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit, "it never came so far"
        time.sleep(0.0005)


def stopped(vm: hv.VM, text: str = "stopped by the host") -> None:
    result = vm.stop()
    assert result is not None and (result.reason, result.message) == (hv.Reason.STOPPED, text)


def test_it_is_begun_waited_for_and_stopped() -> None:
    with bare(LOOP) as vm:
        vm.start()
        with pytest.raises(hv.ConfigError, match="is running already"):
            vm.start()
        with pytest.raises(hv.TrapError, match="cannot be"):
            vm.traps.hypercall(lambda vcpu, exit: hv.HANDLED)
        with pytest.raises(hv.TrapError, match="the VM runs in another thread"):
            vm.vcpu.rcx = 1
        assert vm.wait(timeout=0.01) is None
        until(lambda: vm.clock.now_ns > 1000)
        stopped(vm)
        assert vm.wait() is vm.result is vm.stop()
        vm.start(virtual_timeout=1e-3)
        result = vm.wait()
        assert result is not None and result.reason is hv.Reason.VIRTUAL_TIMEOUT
        vm.start(timeout=0.05)
        result = vm.wait()
        assert result is not None and result.message == "0.05 s of host time are over"


def test_what_has_not_been_run_cannot_be_waited_for() -> None:
    with bare(LOOP) as vm:
        with pytest.raises(hv.ConfigError, match="has not been run: there is nothing to wait for"):
            vm.wait()
        assert vm.stop() is None and vm.pause() is False
        vm.resume()


def test_a_second_thread_waits_for_the_run_of_a_first() -> None:
    with bare(LOOP) as vm:
        results: list[Any] = []
        threads = [threading.Thread(target=lambda: results.append(vm.run()))]
        threads[0].start()
        until(lambda: vm.runner)
        threads += [threading.Thread(target=lambda: results.append(vm.wait())) for _ in range(3)]
        for thread in threads[1:]:
            thread.start()
        stopped(vm)
        for thread in threads:
            thread.join(60)
        assert results == [vm.result] * 4


def test_what_a_handler_raised_reaches_who_waits() -> None:
    with bare("vmmcall; hlt") as vm:

        @vm.traps.hypercall()
        def leaves(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            raise SystemExit(3)

        vm.start()
        with pytest.raises(SystemExit):
            vm.wait()


def test_paused_it_is_as_between_runs() -> None:
    with bare(LOOP) as vm:
        vm.start()
        until(lambda: vm.clock.now_ns)
        with pytest.raises(hv.TrapError, match="the VM runs in another thread"):
            vm.vcpu.rcx = 1
        assert vm.pause() and vm.pause()
        before = vm.vcpu.rbx, vm.clock.now_ns
        time.sleep(0.02)
        assert (vm.vcpu.rbx, vm.clock.now_ns) == before and vm.wait(0) is None
        vm.vcpu.rcx = 5
        seen: list[int] = []
        vm.traps.execute(vm.vcpu.rip)(lambda vcpu, exit: seen.append(vcpu.rcx) or hv.stop("seen"))
        vm.resume()
        result = vm.wait()
        assert result is not None and (result.message, seen) == ("seen", [5])


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_pausing_at_random_changes_nothing(clock: str) -> None:
    codes = [WORK.format(20_000_000), "again: inc rbx; pause; cmp rbx, 3000; jb again; cli; hlt"]
    with long_mode(codes, clock=clock) as vm:
        alone = vm.run(timeout=60)
    generator = random.Random(5)
    with long_mode(codes, clock=clock) as vm:
        vm.start(timeout=60)
        pauses = 0
        while vm.wait(generator.random() * 0.001) is None:
            with vm.paused():
                pauses += 1
        result = vm.result
        assert result is not None and result.reason is hv.Reason.HALTED and pauses > 2
        assert [vcpu.rcx for vcpu in vm.vcpus] == [0, 0]
        if clock == "virtual":
            assert (result.virtual_s, result.exits, result.registers) == (alone.virtual_s, alone.exits, alone.registers)


def test_a_pause_and_its_end_from_many_threads() -> None:
    """Whoever has paused it sees it stand still, until somebody lets it go on."""
    moved: list[int] = []
    with bare(LOOP) as vm:
        vm.start()
        lock, over = threading.Lock(), threading.Event()

        def pause() -> None:
            while not over.is_set():
                with lock, vm.paused():
                    vm.vcpu.rdx = before = vm.vcpu.rbx
                    for _ in range(20):
                        if vm.vcpu.rbx != before:
                            moved.append(before)

        threads = [threading.Thread(target=pause) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(200):
            vm.look()
            time.sleep(0.001)
        over.set()
        for thread in threads:
            thread.join(60)
        before = vm.clock.now_ns
        until(lambda: vm.clock.now_ns > before)
        stopped(vm)
    assert not moved


def test_a_pause_leaves_the_pcpu_and_its_time_does_not_count() -> None:
    with hv.Host("8M", 1) as host, bare(LOOP, host=host) as paused, bare(WORK.format(400_000), host=host) as other:
        paused.start(timeout=0.3)
        assert paused.pause()
        assert other.run(timeout=60).reason is hv.Reason.HALTED
        time.sleep(0.4)
        assert paused.wait(0) is None
        paused.resume()
        result = paused.wait()
        assert result is not None and result.reason is hv.Reason.TIMEOUT and result.wall_s > 0.4


def test_a_pause_in_the_queue_and_one_in_a_sleep() -> None:
    with hv.Host("8M", 1) as host, bare(LOOP, host=host) as one, bare("sti; a: hlt; jmp a", host=host) as sleeper:
        sleeper.input_open = True
        sleeper.start()
        until(lambda: sleeper.vcpu.halted)
        assert sleeper.pause()
        one.start()
        for _ in range(20):
            assert one.pause() and sleeper.pause()
            one.resume()
            sleeper.resume()
        stopped(one)
        assert sleeper.pause()
        stopped(sleeper)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("by", ["pause", "debugger"])
def test_one_that_sleeps_and_is_woken_in_a_pause_goes_on(by: str, clock: str) -> None:
    code = "sti; hlt; again: inc rbx; jmp again"
    with bare(code, clock=clock) as vm:
        vm.input_open = True
        debugger = Attends(vm) if by == "debugger" else None
        if debugger is not None:
            debugger.go.set()
        vm.start()
        until(lambda: vm.vcpu.halted)
        if debugger is not None:
            until(lambda: not debugger.go.is_set())
            debugger.has.clear()
            vm.request_pause()
            assert debugger.has.wait(60)
        else:
            assert vm.pause()
        vm.vcpu.halted = False
        before = vm.clock.now_ns
        if debugger is not None:
            debugger.go.set()
        vm.resume()
        until(lambda: vm.clock.now_ns > before + 200_000_000 and vm.vcpu.rbx > 1000)
        count = vm.vcpu.rbx
        until(lambda: vm.vcpu.rbx > count)
        stopped(vm)


def test_a_handler_pauses_its_own_run() -> None:
    with bare("vmmcall; inc rbx; hlt") as vm:

        @vm.traps.hypercall()
        def pauses(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            vcpu.rip += exit.length
            assert vm.pause()
            return hv.HANDLED

        vm.start()
        until(lambda: vm.runner is None or vm.runner.stands_still)
        assert vm.vcpu.rbx == 0
        vm.resume()
        result = vm.wait()
        assert result is not None and result.rbx == 1


class Attends:
    """A debugger, which has the VM until it is let go."""

    def __init__(self, vm: hv.VM) -> None:
        self.has, self.go = threading.Event(), threading.Event()
        vm.debugger = self

    def attend(self, ended: Any) -> None:
        if ended is None:
            self.has.set()
            self.go.wait(60)
            self.go.clear()

    def wake(self) -> None:
        self.go.set()

    def close(self) -> None: ...


def test_a_pause_with_a_debugger() -> None:
    """It stands still while the debugger has it, and when that lets it go, and when that comes back."""
    with bare(LOOP) as vm:
        debugger = Attends(vm)
        vm.start()
        assert debugger.has.wait(60) and vm.pause()
        debugger.has.clear()
        debugger.go.set()
        until(lambda: vm.runner is not None and not vm.runner.paused)
        before = vm.vcpu.rbx
        vm.request_pause()
        assert debugger.has.wait(60) and vm.vcpu.rbx == before
        vm.resume()
        debugger.go.set()
        until(lambda: vm.clock.now_ns > 1000)
        debugger.has.clear()
        assert vm.pause()
        assert not debugger.has.is_set(), "a pause is not the debugger's"
        stopped(vm)


def test_a_handler_cannot_wait_for_itself() -> None:
    with bare("vmmcall; hlt") as vm:

        @vm.traps.hypercall()
        def waits(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            vm.wait()
            return hv.HANDLED

        result = vm.run(timeout=60)
        assert result.reason is hv.Reason.HOST_ERROR and "the wait would never end" in result.message


def test_two_handlers_cannot_wait_for_each_others_runs() -> None:
    with hv.Host("8M", 2) as host, bare("vmmcall; hlt", host=host) as one, bare("vmmcall; hlt", host=host) as two:
        both = threading.Barrier(2)
        for vm, other in ((one, two), (two, one)):

            def waits(vcpu: hv.Vcpu, exit: hv.Exit, other: hv.VM = other) -> hv.Verdict:
                vcpu.rip += exit.length
                both.wait(30)
                other.wait()
                return hv.HANDLED

            vm.traps.hypercall(waits)
        one.start(timeout=60)
        two.start(timeout=60)
        results = [one.wait(), two.wait()]
        assert sorted(result.reason.value for result in results if result) == ["halted", "host-error"], results


def test_a_handler_runs_a_vm_on_another_pcpu() -> None:
    with hv.Host("8M", 2) as host, bare("vmmcall; hlt", host=host) as one, bare(WORK.format(400_000), host=host) as two:

        @one.traps.hypercall()
        def runs(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            vcpu.rip += exit.length
            vcpu.rbx = two.run(timeout=60).rax
            return hv.HANDLED

        assert one.run(timeout=60).rbx == 400000


def test_closing_ends_what_was_begun() -> None:
    with hv.Host("8M", 2) as host:
        for clock in ("virtual", "wall"):
            with bare(LOOP, host=host, clock=clock) as vm:
                vm.start()
            assert vm.result is not None and vm.result.message == "the VM is closed"
        vm = host.create_vm(b"\xeb\xfe", memory="1M", format="flat", at=0x10000, mode=32)
        vm.start()
        vm.pause()
    assert vm.closed and vm.result is not None and vm.result.message == "the VM is closed"


def test_a_closed_host_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with hv.Host("8M", 2) as host, bare(LOOP, host=host, clock="wall") as one, bare(LOOP, host=host) as two:
        one.start(timeout=60)
        two.start(timeout=60)
        until(lambda: one.clock.now_ns and two.clock.now_ns)
    assert set(threading.enumerate()) == before


def test_a_run_goes_on_though_nobody_has_its_vm() -> None:
    seen: list[int] = []

    def begin(clock: str) -> None:
        code = assemble(
            "vmmcall; again: inc ecx; cmp ecx, 100000; jb again; vmmcall; cli; hlt", origin=0x10000, mode=32
        )
        vm = hv.boot(code.code, memory="1M", format="flat", at=0x10000, mode=32, clock=clock)

        @vm.traps.hypercall()
        def collects(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            seen.append(vcpu.ecx)
            gc.collect()
            return hv.HANDLED

        vm.start()

    before = threading.active_count()
    for clock in ("virtual", "wall"):
        begin(clock)
    until(lambda: len(seen) == 4)
    assert sorted(seen) == [0, 0, 100000, 100000]
    until(lambda: gc.collect() >= 0 and threading.active_count() <= before)


@pytest.mark.parametrize("then", ["", "vm.pause()", "raise SystemExit", "vm.wait()"])
def test_a_process_may_end_with_a_vm_in_the_background(then: str) -> None:
    program = f"""
import signal, threading, time, hypervisor as hv
from hypervisor.assembler import assemble
vm = hv.boot(assemble("a: out 0x80, al; inc eax; jmp a", origin=0x10000, mode=32).code, "1M", format="flat",
    at=0x10000, mode=32)
vm.start()
while not vm.clock.now_ns:
    time.sleep(0.001)
print("ends", flush=True)
if {then!r} == "vm.wait()":
    threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGTERM)).start()
    signal.signal(signal.SIGTERM, lambda *_: exit(0))
{then}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")


@pytest.mark.parametrize("pcpus", [1, 2])
def test_a_run_for_which_no_thread_can_be_started_has_not_begun(pcpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It raises what Python does; the VM can be run again, and closed."""
    with hv.Host("8M", pcpus) as host, bare("hlt", host=host) as vm:
        with monkeypatch.context() as without:
            refused = RuntimeError("can't start new thread")

            def start(thread: threading.Thread) -> None:
                raise refused

            without.setattr(threading.Thread, "start", start)
            for begin in (vm.run, vm.start, lambda: vm.step(1)):
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    begin()
                assert vm.runner is None
        assert vm.run(timeout=20).reason is hv.Reason.HALTED
