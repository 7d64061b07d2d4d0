"""Reads of the board's timers that the engine serves: the same as the devices', bit for bit and at every time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.arch.exits import ExitKind
from hypervisor.assembler import assemble
from hypervisor.bus import Clock, TimedRegister
from hypervisor.devices.acpi_pm import TIMER_HZ
from hypervisor.run.serving.accesses import InPlace
from hypervisor.units import NS_PER_S
from tests.core import apic_guest, timer_guest
from tests.counting import ways
from tests.engine.test_plain import in_form

TIMERS = ("pit", "hpet", "acpi-pm")


def in_python(vm: hv.VM) -> None:
    """Let the devices serve each access."""
    vm.tables.set_timed([], [])


def watched(vm: hv.VM) -> None:
    """Let observers see each access, which the engine cannot serve then."""
    seen: list[int] = []
    vm.traps.port_in(range(0x10000), lambda vcpu, exit: seen.append(exit.port), mode="observe")
    vm.traps.mmio_read(range(timer_guest.HPET, timer_guest.HPET + 0x400), lambda vcpu, exit: None, mode="observe")


def outcome(cpus: int, seed: int, operations: int, how: Callable[[hv.VM], None] | None = None) -> dict[str, Any]:
    """All that two equal runs of random accesses have in common."""
    with apic_guest.guest(timer_guest.RANDOM, cpus, seed, operations) as vm:
        if how is not None:
            how(vm)
        result = vm.run(timeout=300, virtual_timeout=60)
        assert result.reason is hv.Reason.DEBUG_EXIT, (result.reason, result.message)
        return apic_guest.outcome(vm, result) | {name: vm.devices[name].state() for name in TIMERS}


def _compare(cpus: int, seed: int, operations: int, how: Callable[[hv.VM], None]) -> None:
    there, here = outcome(cpus, seed, operations), outcome(cpus, seed, operations, how)
    assert there == here, {name for name in there if there[name] != here[name]}


@pytest.mark.parametrize("how", [in_python, watched])
@pytest.mark.parametrize("cpus", [1, 2])
def test_what_the_engine_serves_is_what_the_devices_say(cpus: int, how: Callable[[hv.VM], None]) -> None:
    _compare(cpus, cpus, 6000, how)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(10, 20))
@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_thousands_of_accesses_are_the_same_in_python(cpus: int, seed: int) -> None:
    _compare(cpus, seed, 40_000, in_python)


def test_a_state_goes_on_in_another_machine() -> None:
    """Which of a count's bytes comes next is in it, whoever has served the reads."""
    run = {"timeout": 300, "virtual_timeout": 60}
    with (
        apic_guest.guest(timer_guest.RANDOM, 2, 9, 3000) as vm,
        apic_guest.guest(timer_guest.RANDOM, 2, 1, 1) as twin,
    ):
        assert vm.run(virtual_timeout=0.00165).reason is hv.Reason.VIRTUAL_TIMEOUT
        assert any(counter.read_high for counter in vm.devices["pit"].state().counters)
        twin.restore(vm.state())
        there, here = (apic_guest.outcome(one, one.run(**run)) for one in (vm, twin))
        assert there == here and [vm.devices[name].state() for name in TIMERS] == [
            twin.devices[name].state() for name in TIMERS
        ]


def test_the_uncompiled_kernels_serve_the_same() -> None:
    code = "from tests.core.test_engine_timers import outcome; print(outcome(2, 3, 150))"
    outputs = [in_form(form, "-c", code) for form in ("compiled", "plain")]
    assert [done.returncode for done in outputs] == [0, 0], outputs[-1].stderr[-2000:]
    assert outputs[0].stdout == outputs[1].stdout


def test_the_engine_serves_alone_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this the comparisons would hold if it served nothing. Writes and what is not simple are left."""
    asked = [0, 0]

    def count(self: InPlace, kind: int, serve: Callable[[InPlace, int], int] = InPlace.__call__) -> int:
        asked[kind in (ExitKind.PORT_IN, ExitKind.MMIO_READ)] += 1
        return serve(self, kind)

    monkeypatch.setattr(InPlace, "__call__", count)
    exits = outcome(2, 1, 6000)["exits"]
    reads = exits["port_in"] + exits["mmio_read"]
    assert reads > 10_000 and asked[1] < reads // 2 and asked[0] > 1000


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("cpus", [1, 2])
def test_the_timers_and_the_tsc_are_one_clock(cpus: int, clock: str) -> None:
    """A timer that is read between two reads of the TSC shows a time between theirs, by either clock, whatever
    disturbs the guest. The TSC counts the clock's nanoseconds.
    """
    wrong: list[tuple[int, ...]] = []
    looked = 0

    with apic_guest.guest(timer_guest.TIMES, cpus, 5, 3000, clock=clock) as vm:

        def look(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
            nonlocal looked
            words = vcpu.read(apic_guest.DATA + 4096 * vcpu.number + timer_guest.READS, 24)
            first, pm, hpet, last = (
                int.from_bytes(words[a:b], "little") for a, b in ((0, 8), (8, 12), (12, 16), (16, 24))
            )
            state = vm.devices["hpet"].state()
            counted = [time * TIMER_HZ // NS_PER_S & 0xFFFFFF for time in (first, last)]
            if (pm - counted[0] & 0xFFFFFF) > (counted[1] - counted[0] & 0xFFFFFF):
                wrong.append((first, pm, last))
            low, high = (state.counter + (time - state.since_ns) // 10 for time in (first, last))
            if not low <= hpet <= high:
                wrong.append((low, hpet, high))
            looked += 1

        vm.traps.port_out(0x80, look, mode="observe")
        with ways.kicks(vm, random.Random(cpus)):
            result = vm.run(timeout=120)
        assert result.reason is hv.Reason.DEBUG_EXIT, (result.reason, result.message)
    assert looked == 3000 * cpus and wrong == []


def test_the_guests_own_breakpoints_see_such_reads() -> None:
    """A breakpoint of DR7 on the port, and one on the memory: each access is trapped once."""
    source = f"""
        mov eax, cr4
        or eax, 8
        mov cr4, eax
        mov eax, {timer_guest.PM_TIMER}
        mov dr0, eax
        mov eax, {timer_guest.HPET + 0xF0}
        mov dr1, eax
        mov eax, {1 | 2 << 16 | 3 << 18 | 4 | 3 << 20 | 3 << 22}
        mov dr7, eax
        mov dx, {timer_guest.PM_TIMER}
        in eax, dx
        in eax, dx
        mov eax, [{timer_guest.HPET + 0xF0}]
        cli
        hlt
    """
    code = assemble(source, origin=0x1000, mode=32).code
    seen = []
    with hv.boot(code, format="flat", at=0x1000, entry=0x1000, mode=32) as vm:

        @vm.traps.exception(1)
        def debug(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            seen.append(vcpu.dr6 & 0xF)
            vcpu.dr6 = 0
            return hv.HANDLED

        assert vm.run(timeout=60).reason is hv.Reason.HALTED
    assert seen == [1, 1, 2]


class Beat:
    """A user's device with a register that only time changes."""

    name = "beat"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        register = TimedRegister(4)
        register.counts(1_000_000, mask=0xFFFF_FFFF)
        self.timed_registers = {4: register}
        self.asked = 0

    def read(self, offset: int, size: int) -> int:
        self.asked += 1
        return self._clock.now_ns // 1000 & 0xFFFF_FFFF if (offset, size) == (4, 4) else 0

    def write(self, offset: int, size: int, value: int) -> None:
        pass

    def reset(self) -> None:
        pass

    def state(self) -> None:
        return None

    def restore(self, state: object) -> None:
        pass


@pytest.mark.parametrize("heard", [False, True], ids=["by the engine", "through a handler"])
def test_a_device_of_the_users_can_have_one(heard: bool) -> None:
    source = """
        mov ecx, 1000
        mov dx, 0x1004
    again:
        mov eax, [0xd0000004]
        in eax, dx
        loop again
        mov ebx, [0xd0000000]
        cli
        hlt
    """
    code = assemble(source, origin=0x1000, mode=32).code
    with hv.boot(code, format="flat", at=0x1000, entry=0x1000, mode=32) as vm:
        device = vm.attach(Beat, ports=range(0x1000, 0x1008), mmio=range(0xD0000000, 0xD0000008))
        if heard:
            vm.traps.port_in(range(0x10000), lambda vcpu, exit: hv.PASS)
            vm.traps.mmio_read(range(0xD0000000, 0xD0000008), lambda vcpu, exit: hv.PASS)
        result = vm.run(timeout=60)
        assert result.reason is hv.Reason.HALTED and result.exits["port_in"] == 1000
        assert 0 <= vm.clock.now_ns // 1000 - vm.vcpu.get("rax") < 100
        assert device.asked == (2001 if heard else 1)
