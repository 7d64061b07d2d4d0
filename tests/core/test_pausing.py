"""A debugger has the VM between two instructions, on the VM's thread, and the run goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import hypervisor as hv
from tests.core.bare import addresses, bare
from tests.meanwhile import again_and_again

COUNT = "mov ecx, 1000; again: inc rax; dec ecx; jnz again; hlt"


class Attends:
    """A debugger that does what it is told each time it attends."""

    def __init__(self, vm: hv.VM, *actions: Callable[[hv.VM], object]) -> None:
        self.vm = vm
        self.actions = list(actions)
        self.ended: list[Any] = []
        self.woken = threading.Event()
        self.closed = False
        vm.debugger = self

    def attend(self, ended: Any) -> None:
        if ended is not None:
            self.ended.append(ended)
        elif self.actions:
            self.actions.pop(0)(self.vm)

    def wake(self) -> None:
        self.woken.set()

    def close(self) -> None:
        self.closed = True


def test_a_debugger_attends_before_the_first_instruction_and_at_the_end() -> None:
    with bare(COUNT) as vm:
        debugger = Attends(vm, lambda vm: vm.vcpu.set("rax", 5))
        result = vm.run()
        assert result.reason is hv.Reason.HALTED
        assert result.rax == 1005
        assert [reason for reason, _ in debugger.ended] == [hv.Reason.HALTED]
    assert debugger.closed


def test_handlers_come_and_go_while_the_debugger_attends() -> None:
    _, loop, *_ = addresses(COUNT)
    with bare(COUNT) as vm:
        seen = []

        def stop(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            vm.request_pause()
            return hv.RETRY

        def look(vm: hv.VM) -> None:
            seen.append((vm.vcpu.rip, vm.vcpu.rax))
            vm.traps.remove("stop")

        debugger = Attends(vm, lambda vm: vm.traps.execute(loop, stop, name="stop"), look)
        assert vm.run().rax == 1000
        assert seen == [(loop, 0)]
        assert not debugger.actions


def test_a_step_while_the_debugger_attends() -> None:
    with bare(COUNT) as vm:
        steps = []
        Attends(vm, lambda vm: steps.append((vm.vcpu.step(1), vm.vcpu.rcx, vm.vcpu.step(2), vm.vcpu.rcx)))
        assert vm.run().rax == 1000
        assert steps == [(1, 1000, 2, 999)]


def test_what_a_step_ends_is_the_end_of_the_run() -> None:
    with bare("out 0x80, al; hlt") as vm:

        @vm.traps.port_out(0x80)
        def refuse(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            return hv.stop("enough")

        Attends(vm, lambda vm: vm.vcpu.step(5))
        result = vm.run()
        assert (result.reason, result.message) == (hv.Reason.STOPPED, "enough")


def test_a_debugger_that_raises_ends_the_run() -> None:
    with bare("hlt") as vm:
        Attends(vm, lambda vm: vm.vcpu.read(1 << 40, 1))
        result = vm.run()
        assert result.reason is hv.Reason.HOST_ERROR
        assert isinstance(result.error, hv.GuestFault)


def test_pausing_from_another_thread_repeats_and_changes_nothing() -> None:
    loop = "mov rcx, 3000000; again: inc rax; dec rcx; jnz again; hlt"
    with bare(loop) as vm:
        alone = vm.run()
    with bare(loop) as vm:
        pauses = [0]
        debugger = Attends(vm)

        def attend(ended: Any) -> None:
            pauses[0] += ended is None

        debugger.attend = attend  # type: ignore[method-assign]
        with again_and_again(vm.request_pause, 0.001):
            result = vm.run()
        assert pauses[0] > 1
        assert (result.rax, result.virtual_s, result.exits) == (alone.rax, alone.virtual_s, alone.exits)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_time_stands_still_while_the_debugger_attends(clock: str) -> None:
    with hv.boot("hello", memory="16M", clock=clock) as vm:
        times = []

        def look(vm: hv.VM) -> None:
            times.append(vm.clock.now_ns)
            time.sleep(0.02)
            times.append(vm.clock.now_ns)

        Attends(vm, look)
        assert vm.run().reason is hv.Reason.POWERED_OFF
        assert times[0] == times[1]


def test_the_host_can_end_a_run_that_a_debugger_holds() -> None:
    with bare("hlt") as vm:

        def hold(vm: hv.VM) -> None:
            threading.Thread(target=vm.request_stop).start()
            assert debugger.woken.wait(10)

        debugger = Attends(vm, hold)
        assert vm.run().reason is hv.Reason.STOPPED
