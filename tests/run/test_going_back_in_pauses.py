"""A machine becomes another one while its run is paused: the run goes on, to the end that it was begun for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble

WRITES = "again: lodsb; test al, al; jz over; out 0xe9, al; jmp again; over: cli; hlt"
TEXT = 0x20000


class Attends:
    """A debugger that does something each time it attends, in order; nothing when that has been done."""

    def __init__(self, vm: hv.VM, *what: Callable[[], object]) -> None:
        self._what = list(what)
        self.ends: list[hv.Reason] = []
        vm.debugger = self

    @property
    def finished(self) -> bool:
        """Whether all of it has been done."""
        return not self._what

    def attend(self, ended: Any) -> None:
        if ended is not None:
            self.ends.append(ended[0])
        if self._what:
            self._what.pop(0)()

    def wake(self) -> None:
        return None

    def close(self) -> None:
        return None


def nothing() -> None:
    return None


def writer(text: bytes) -> hv.VM:
    """A guest that writes a text to its debug console, and pauses at each exclamation mark."""
    code = assemble(WRITES, origin=0x10000, mode=32).code
    vm = hv.boot(code, memory="1M", format="flat", at=0x10000, mode=32)
    vm.memory.write(TEXT, text + b"\0")
    vm.vcpu.rsi = TEXT

    @vm.traps.port_out(0xE9, mode="observe")
    def look(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
        if exit.value == ord("!"):
            vm.request_pause()

    return vm


def test_text_is_looked_for_anew() -> None:
    with writer(b"GO") as vm:
        first = vm.snapshot()
        vm.run(timeout=60)
        written = vm.snapshot()
        vm.revert(first)
        vm.memory.write(TEXT, b"....................O!\0")

        def back() -> None:
            assert len(vm.debugcon.text) >= 21
            vm.revert(written)
            assert vm.debugcon.text == "GO"

        Attends(vm, nothing, back)
        assert vm.run(until="GO", timeout=60).reason is hv.Reason.UNTIL
        written.close()
        first.close()


def test_a_limit_is_the_same_virtual_time() -> None:
    text = b"." * 50 + b"!" + b"." * 100_000
    with writer(text) as vm:
        alone = vm.run(virtual_timeout=0.01)
        end, said = vm.clock.now_ns, vm.debugcon.text
    with writer(text) as vm:
        first = vm.snapshot()
        Attends(vm, nothing, lambda: vm.revert(first), lambda: vm.restore(first_state))
        first_state = vm.state()
        result = vm.run(virtual_timeout=0.01)
        assert (result.reason, vm.clock.now_ns, vm.debugcon.text) == (hv.Reason.VIRTUAL_TIMEOUT, end, said)
        assert result.virtual_s == alone.virtual_s
        first.close()


def test_an_end_that_the_guest_came_to_is_taken_back() -> None:
    with writer(b"abc") as vm:
        first = vm.snapshot()
        attends = Attends(vm, nothing, lambda: vm.revert(first))
        assert vm.run(timeout=60).reason is hv.Reason.HALTED
        assert attends.ends == [hv.Reason.HALTED] * 2
        assert vm.debugcon.text == "abc"
        first.close()


def test_before_the_runs_beginning_is_no_negative_time() -> None:
    with writer(b"abc!" + b"." * 1000 + b"!") as vm:
        first = vm.snapshot()
        vm.run(virtual_timeout=0.0005)
        Attends(vm, nothing, lambda: vm.revert(first))
        result = vm.run(timeout=60)
        assert result.virtual_s == pytest.approx(vm.clock.now_ns / 1e9)
        first.close()


def test_the_wall_clock_stands_still_where_it_went_back_to() -> None:
    times: list[int] = []
    with hv.boot("hello", memory="8M", clock="wall") as vm:
        first = vm.snapshot()

        def back() -> None:
            vm.revert(first)
            times.append(vm.clock.now_ns)
            time.sleep(0.02)
            times.append(vm.clock.now_ns)

        Attends(vm, back)
        assert vm.run(timeout=60).reason is hv.Reason.POWERED_OFF
        assert times[0] == times[1] == first.parts["machine"].now
        assert vm.clock.now_ns > times[0]
        first.close()


@pytest.mark.parametrize(("image", "cpus"), [("preempt", 1), ("smp", 3)])
def test_a_run_that_goes_back_often_ends_as_one_that_does_not(image: str, cpus: int) -> None:
    def watched(vm: hv.VM) -> None:
        @vm.traps.interrupt(mode="observe")
        @vm.traps.hlt(mode="observe")
        def look(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
            vm.request_pause()

    with hv.boot(image, memory="16M", cpus=cpus, prepare=watched) as vm:
        result = vm.run(timeout=60)
        alone = result.reason, vm.clock.now_ns, vm.console.text, dict(vm.stats)
    with hv.boot(image, memory="16M", cpus=cpus, prepare=watched) as vm:
        kept: list[hv.Snapshot] = []
        running: list[int] = []

        def keep() -> None:
            kept.append(vm.snapshot())
            running.append(vm.current.number)

        def back(number: int) -> Callable[[], object]:
            return lambda: vm.revert(kept[number])

        often = [keep, keep, keep, back(1), nothing, nothing, back(2), keep, back(0), nothing, back(3), back(2)]
        attends = Attends(vm, nothing, *often, *[keep, nothing] * 5, back(7), back(5), nothing, back(6))
        result = vm.run(timeout=60)
        assert attends.finished and len(set(running)) >= min(cpus, 2)
        assert (result.reason, vm.clock.now_ns, vm.console.text, dict(vm.stats)) == alone
        for one in kept:
            one.close()
