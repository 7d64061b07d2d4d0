"""The wall clock beside a host that does not let the guest run: ticks and time stay together, and are made up for."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.engine.shared_words.scheduling import LOOK_NS
from hypervisor.run.threads.alarms import LATE_S, WallAlarm
from hypervisor.run.threads.watch import Alarm
from hypervisor.run.vm_clock import VmClock
from hypervisor.units import FOREVER_NS
from tests.core.bare import bare
from tests.core.smp import long_mode
from tests.meanwhile import again_and_again, kick

TICK = """
tick:
    push ax
    inc esi
    mov al, 0x20
    out 0x20, al
    pop ax
    iret
    .org 0x7dfe
    .byte 0x55, 0xaa
"""
"""What counts the ticks in ESI, and the end of a boot sector."""
STALL_PORT, END_PORT = 0x99, 0x9A
STALLS, STALL_S = 12, 0.05
PERIODIC = """
    cli
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7c00
    mov word ptr [0x20], tick
    mov word ptr [0x22], 0
    mov al, 0x34
    out 0x43, al
    mov ax, {count}
    out 0x40, al
    mov al, ah
    out 0x40, al
    xor esi, esi
"""
"""Counter 0 of the 8254 ticks each so many of its clocks."""
TICKS = f"""
{PERIODIC.format(count=4772)}
    xor ebp, ebp
    sti
    mov di, {STALLS}
again:
    mov al, 1
    out {STALL_PORT:#x}, al
    {{then}}
    mov ecx, 2000
look:
    rdtsc
    shl edx, 2
    shr eax, 30
    or eax, edx
    rdtsc
    cmp edx, ebx
    jb backwards
    ja later
    cmp eax, ebp
    jb backwards
later:
    mov ebx, edx
    mov ebp, eax
    dec ecx
    jnz look
    dec di
    jnz again
    out {END_PORT:#x}, al
    mov di, 100
rest:
    hlt
    dec di
    jnz rest
    cli
    hlt
backwards:
    mov esi, 0xdead0000
    cli
    hlt
{TICK}"""
TICK_NS = 4772 * 1_000_000_000 // 1_193_182


THEN = {
    "a block ends: there the guest is left, before it reads the time": "jmp begin; begin:",
    "it reads the TSC at once": "",
    "it reads the timer at once": "mov al, 0; out 0x43, al; in al, 0x40; in al, 0x40",
}


@pytest.mark.parametrize("then", THEN)
def test_a_stalled_host_loses_no_ticks_and_makes_up_for_it(then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up, move = 0, VmClock._move

    def seen(clock: VmClock, back_ns: int, pcpu: Any) -> None:
        nonlocal made_up
        made_up -= min(back_ns, 0)
        move(clock, back_ns, pcpu)

    monkeypatch.setattr(VmClock, "_move", seen)
    with hv.boot(assemble(TICKS.format(then=THEN[then]), origin=0x7C00, mode=16).code, "4M", clock="wall") as vm:
        ends: list[tuple[int, int, int]] = []

        @vm.traps.port_out(STALL_PORT)
        def stall(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            time.sleep(STALL_S)
            return hv.HANDLED

        @vm.traps.port_out(END_PORT)
        def end(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            ends.append((vcpu.rsi, vm.clock.now_ns, vm.clock.lag_ns))
            return hv.HANDLED

        begun = vm.clock.now_ns
        result = vm.run(timeout=60)
        assert result.reason is hv.Reason.HALTED, result.message
        ticks, now, lag = ends[0]
        assert vm.vcpu.rsi < 0xDEAD0000, "the TSC ran backwards"
        passed = (now - begun) // TICK_NS
        assert passed - 2 * STALLS <= ticks <= passed + 1  # each stall may cost the tick that it began in
        assert lag > STALLS * STALL_S * 1e9 / 2
        assert made_up > 20_000_000  # it sleeps less than it would, though a busy host may hold it up again meanwhile


FAST = f"""
{PERIODIC.format(count=12)}
    sti
again:
    cmp esi, 200
    jb again
    cli
    hlt
{TICK}"""


def test_a_timer_faster_than_the_host_lets_the_guest_get_on() -> None:
    with hv.boot(assemble(FAST, origin=0x7C00, mode=16).code, "4M", clock="wall") as vm:
        result = vm.run(timeout=60)
        assert result.reason is hv.Reason.HALTED, result.message
        assert vm.vcpu.rsi >= 200


def test_the_alarm_follows_a_timer_that_sets_itself_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said when a timer that has fired is set: it is later than what was due, and the guest would be left
    for it when the alarm looks again by itself.
    """
    told: list[float] = []
    monkeypatch.setattr(Alarm, "set", lambda self, when: told.append(when))
    with hv.boot(assemble(FAST, origin=0x7C00, mode=16).code, "4M", clock="wall") as vm:
        alarm = WallAlarm(vm, FOREVER_NS)
        alarm.entered()
        vm.clock.stop()  # the host's time alone passes from here on
        now = vm.clock.now_ns
        tick = vm.clock.timer("test", "tick", lambda: tick.set(now + 5_000_000))
        tick.set(now)
        alarm.follow()
        vm.clock.timers.run_due(now)
        told.clear()
        began = time.monotonic()
        alarm.follow()
        alarm.follow()
        due = [when - began for when in told]
        assert len(due) == 1
        assert due[0] >= 0.005
        tick.set(now)  # due: the guest gets some time nevertheless
        began = time.monotonic()
        alarm.follow()
        assert told[-1] >= began + LATE_S  # the engine comes first
        alarm.close()


COUNTED = f"""
{PERIODIC.format(count=1193)}
    sti
again:
    {{work}}
    cmp esi, {{ticks}}
    jb again
    cli
    out {END_PORT:#x}, al
    hlt
{TICK}"""
COUNTED_NS = 1193 * 1_000_000_000 // 1_193_182
WORK = {
    "it counts": "inc ebx",
    "it reads memory": "mov ecx, 256; mov bx, 0x8000; on: mov eax, [bx]; add bx, 4; dec ecx; jnz on",
    "now it accesses ports, which take less of the host's time than of its own, now it computes":
        "mov cx, 200; out 0x80, al; loop $ - 2; mov ecx, 20000; on: dec ecx; jnz on",
    "REP": "mov cx, 0x4000; mov di, 0x8000; cld; rep stosb",
}  # fmt: skip


@pytest.mark.parametrize("kicked", [False, True])
@pytest.mark.parametrize("work", WORK)
def test_the_engine_looks_for_timers_by_itself(work: str, kicked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody rings: every tick comes all the same, and none more than the time that has passed has."""
    monkeypatch.setattr(WallAlarm, "_ring", lambda self: None)
    ticks = 300
    code = assemble(COUNTED.format(work=WORK[work], ticks=ticks), origin=0x7C00, mode=16).code
    with hv.boot(code, "4M", clock="wall") as vm, ExitStack() as stack:
        came: list[int] = []

        @vm.traps.port_out(END_PORT)
        def end(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            came.append(vm.clock.now_ns)
            return hv.HANDLED

        begun = vm.clock.now_ns
        if kicked:
            stack.enter_context(again_and_again(lambda: kick(vm), 0.0005, random.Random(27)))
        result = vm.run(timeout=60)
        assert result.reason is hv.Reason.HALTED, result.message
        assert vm.vcpu.rsi >= ticks  # (another one may come before CLI)
        assert vm.vcpu.rsi - 1 <= (came[0] - begun) / COUNTED_NS


def test_the_engine_looks_for_timers_whoever_has_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two vCPUs that compute, on a pCPU that a neighbour wants, too."""
    monkeypatch.setattr(WallAlarm, "_ring", lambda self: None)
    codes = ["again: inc rbx; jmp again", "again: inc rbx; inc rbx; jmp again"]
    with hv.Host("8M", 1) as host, bare("again: inc rax; jmp again", host=host) as neighbour:
        with long_mode(codes, host, clock="wall") as vm:
            fired: list[int] = []

            def tick() -> None:
                fired.append(vm.clock.now_ns)
                if len(fired) == 100:
                    vm.stop()
                timer.set(fired[-1] + 500_000)

            timer = vm.clock.timer("test", "tick", tick)
            timer.set(vm.clock.now_ns)
            neighbour.start()
            result = vm.run(timeout=60)
            assert result.reason is hv.Reason.STOPPED, result.message
            assert len(fired) == 100
            assert all(later - one >= 500_000 for one, later in pairwise(fired))
            assert all(vcpu.rbx for vcpu in vm.vcpus)
            # Else it would have been when Python looks in, which a guest that computes for half a millisecond does not
            # come to.
            assert 5 * vm.vcpus[0].rbx < 50 * LOOK_NS


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_run_for_a_time_ends_when_it_has_passed(cpus: int) -> None:
    """And the next one goes on from there, with every count of the guest's, beside a neighbour on the same pCPU, whose
    slice is part of the time.
    """
    counts = "mov ecx, 100; work: loop work; inc rbx; out 0x80, al; jmp {at:#x}"
    codes = [counts.format(at=0x10000 + 0x1000 * number) for number in range(cpus)]
    with hv.Host("8M", 1) as host, bare("again: inc rax; jmp again", host=host) as neighbour:
        with long_mode(codes, host, clock="wall") as vm:
            seen = dict.fromkeys(range(cpus), 0)

            @vm.traps.port_out(0x80)
            def count(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
                seen[vcpu.number] += 1
                return hv.HANDLED

            neighbour.start()
            for _ in range(10):
                before, begun = vm.clock.now_ns, time.monotonic()
                result = vm.run(virtual_timeout=0.02, timeout=60)
                assert result.reason is hv.Reason.VIRTUAL_TIMEOUT, result.message
                assert vm.clock.now_ns - before >= 20_000_000
                assert time.monotonic() - begun >= 0.02
            assert all(vcpu.rbx - seen[vcpu.number] in (0, 1) for vcpu in vm.vcpus) and all(seen.values()), seen


@pytest.mark.parametrize("end", [{"virtual_timeout": 1e-6}, {"until": hv.after(1e-6)}])
def test_a_run_whose_time_was_over_before_it_had_a_pcpu_makes_progress(end: dict[str, Any]) -> None:
    """The wall clock passes while a neighbour has the pCPU: in pieces, a guest comes to its end all the same."""
    with hv.Host("8M", 1) as host, bare("again: inc rbx; jmp again", host=host) as neighbour:
        with bare("again: inc rbx; jmp again", host=host, clock="wall") as vm:
            neighbour.start()
            for _ in range(3):
                before = vm.vcpu.rbx
                assert vm.run(timeout=20, **end).reason in (hv.Reason.VIRTUAL_TIMEOUT, hv.Reason.UNTIL)
                assert vm.vcpu.rbx > before
            neighbour.stop()


@pytest.mark.parametrize("end", [{"virtual_timeout": 0.01}, {"until": hv.after(0.01)}])
@pytest.mark.parametrize("code", ["sti; again: hlt; jmp again", "again: inc rbx; jmp again"])
def test_a_run_ends_when_its_time_is_over(code: str, end: dict[str, Any]) -> None:
    """Whether its guest sleeps or computes."""
    with long_mode([code], clock="wall") as vm:
        vm.input_open = True
        began = vm.clock.now_ns
        assert vm.run(timeout=20, **end).reason in (hv.Reason.VIRTUAL_TIMEOUT, hv.Reason.UNTIL)
        assert vm.clock.now_ns - began >= 10_000_000
