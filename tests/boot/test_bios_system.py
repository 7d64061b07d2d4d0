"""Memory size and map, A20, waiting, moving, time."""

from __future__ import annotations

import struct

import pytest

from hypervisor.traps.verdicts import HANDLED, PASS
from tests.boot.bios_fakes import CF, MEMORY_MAP, Machine, Segment


def test_e820_walks_the_map() -> None:
    machine = Machine()
    found, ebx = [], 0
    while True:
        machine.interrupt(0x15, CF, eax=0xE820, ebx=ebx, ecx=24, edx=0x534D4150, es=0x600, di=0)
        assert (machine.carry, machine.vcpu.eax, machine.vcpu.ecx) == (False, 0x534D4150, 20)
        found.append(machine.memory.unpack("QQI", 0x6000))
        ebx = machine.vcpu.ebx
        if not ebx:
            break
    assert found == MEMORY_MAP


@pytest.mark.parametrize(("ebx", "ecx", "edx"), [(4, 20, 0x534D4150), (0, 19, 0x534D4150), (0, 20, 0)])
def test_e820_refuses(ebx: int, ecx: int, edx: int) -> None:
    machine = Machine()
    machine.interrupt(0x15, eax=0xE820, ebx=ebx, ecx=ecx, edx=edx)
    assert (machine.carry, machine.vcpu.ah) == (True, 0x86)


def test_the_older_memory_sizes() -> None:
    machine = Machine()
    machine.interrupt(0x15, ax=0xE801)
    assert [machine.vcpu.ax, machine.vcpu.bx, machine.vcpu.cx, machine.vcpu.dx] == [0x3C00, 0x100, 0x3C00, 0x100]
    machine.interrupt(0x15, ax=0x8800)
    assert (machine.carry, machine.vcpu.ax) == (False, 31 << 10)
    machine.interrupt(0x12)
    assert machine.vcpu.ax == 639
    machine.interrupt(0x11)
    assert machine.vcpu.ax == 0x0822
    machine.interrupt(0x15, ax=0xC100)
    assert machine.vcpu.es.selector == 0x9FC0


def test_a20_goes_through_port_92h() -> None:
    machine = Machine()
    for function, value in [(0x2400, 0), (0x2401, 1)]:
        machine.interrupt(0x15, ax=function)
        assert (machine.carry, machine.vcpu.ah, machine.ports.last[0x92]) == (False, 0, value << 1)
        machine.interrupt(0x15, ax=0x2402)
        assert machine.vcpu.al == value
    machine.interrupt(0x15, ax=0x2403)
    assert machine.vcpu.bx == 3


def test_the_configuration_table() -> None:
    machine = Machine()
    machine.interrupt(0x15, ax=0xC000)
    table = machine.memory.read(machine.vcpu.es.base + machine.vcpu.bx, 10)
    assert (machine.carry, machine.vcpu.ah, table[:3]) == (False, 0, b"\x08\x00\xfc")


def test_no_more_than_63_mib_are_told_by_function_88h() -> None:
    machine = Machine()
    machine.bios.system.memory_map = [(0, 0x9FC00, 1), (1 << 20, 255 << 20, 1)]
    machine.interrupt(0x15, ax=0x8800)
    assert machine.vcpu.ax == 63 << 10
    machine.interrupt(0x15, ax=0xE801)
    assert (machine.vcpu.ax, machine.vcpu.bx) == (0x3C00, 240 << 4)


def test_waiting_takes_the_guests_time() -> None:
    machine = Machine()
    for _ in range(2):
        machine.interrupt(0x15, ax=0x8600, cx=0x0001, dx=0x0000)
        assert machine.waiting
    machine.clock.advance(65_535_999)
    machine.interrupt(0x15, ax=0x8600)
    assert machine.waiting
    machine.clock.advance(1)
    machine.interrupt(0x15, CF, ax=0x8600)
    assert not machine.waiting and not machine.carry
    machine.interrupt(0x15, ax=0x8600, cx=0, dx=1)
    assert machine.waiting


def test_moving_a_block() -> None:
    machine = Machine()
    machine.memory.write(0x8000, b"payload!")
    descriptor = [
        struct.pack("<HHBBBB", 0xFFFF, at & 0xFFFF, at >> 16 & 0xFF, 0x93, 0, at >> 24) for at in (0x8000, 0x1234560)
    ]
    machine.memory.write(0x6000, bytes(16) + b"".join(descriptor) + bytes(16))
    machine.interrupt(0x15, ax=0x8700, cx=4, es=0x600, si=0)
    assert (machine.carry, machine.vcpu.ah) == (False, 0)
    assert machine.memory.read(0x1234560, 8) == b"payload!"
    machine.interrupt(0x15, ax=0x8700, cx=0x8001)
    assert (machine.carry, machine.vcpu.ah) == (True, 2)


def test_apm_switches_off() -> None:
    machine = Machine()
    machine.interrupt(0x15, ax=0x5300, bx=0)
    assert (machine.carry, machine.vcpu.ax, machine.vcpu.bx) == (False, 0x0102, 0x504D)
    machine.interrupt(0x15, ax=0x5301, bx=0)
    machine.interrupt(0x15, ax=0x5307, bx=1, cx=3)
    assert not machine.carry and machine.requests == ["off"]
    for device, state, code in [(0, 3, 0x09), (1, 4, 0x0A)]:
        machine.interrupt(0x15, ax=0x5307, bx=device, cx=state)
        assert (machine.carry, machine.vcpu.ah, machine.requests) == (True, code, ["off"])


def test_apm_from_protected_mode_is_a_far_call() -> None:
    machine = Machine()
    machine.interrupt(0x15, ax=0x5303)
    assert (machine.carry, machine.vcpu.ax, machine.vcpu.cx, machine.vcpu.dx) == (False, 0xF000, 0xF000, 0xF000)
    vcpu = machine.vcpu
    vcpu.cr0, vcpu.rip, vcpu.rflags = 1, vcpu.ebx, 3
    assert machine.memory.read(0xF0000 + vcpu.rip, 4) == b"\x0f\x01\xd9\xcb"
    handler = machine.traps.handler  # type: ignore[attr-defined]
    for selector, base, verdict in [(0x0B, 0xF0000, PASS), (0x08, 0, PASS), (0x08, 0xF0000, HANDLED)]:
        vcpu.segments["cs"] = Segment(selector, base)
        vcpu.rax, vcpu.rbx, vcpu.rcx = 0x5307, 1, 3
        assert handler(vcpu, object()) is verdict
    assert machine.requests == ["off"] and not vcpu.rflags & 1
    vcpu.rax = 0x530B
    assert handler(vcpu, object()) is HANDLED and (vcpu.ah, vcpu.rflags & 1) == (0x80, 1)


def test_idle_waits_for_one_interrupt() -> None:
    machine = Machine()
    waited = []
    for _ in range(4):
        machine.interrupt(0x15, ax=0x5305)
        waited.append(machine.waiting)
    assert waited == [True, False, True, False]


def test_the_end_of_a_wait_is_timed_by_the_rtc() -> None:
    machine = Machine()
    machine.interrupt(0x15, ax=0x8600, cx=0x0007, dx=0xA120)  # half a second
    assert machine.waiting and not machine.ports.rtc[0x0B] & 0x40
    machine.clock.advance(450_000_000)
    machine.interrupt(0x15, ax=0x8600)
    assert machine.waiting and machine.ports.rtc[0x0B] & 0x40
    machine.clock.advance(50_000_000)
    machine.interrupt(0x15, ax=0x8600)
    assert not machine.waiting and not machine.ports.rtc[0x0B] & 0x40


def test_ticks_start_at_the_time_of_day() -> None:
    machine = Machine()
    machine.interrupt(0x1A, ax=0x0000)
    ticks = machine.vcpu.cx << 16 | machine.vcpu.dx
    assert ticks == (12 * 3600 + 34 * 60 + 56) * 0x1800B0 // 86400
    machine.memory.write(0x470, b"\x01")
    machine.interrupt(0x1A, ax=0x0100, cx=1, dx=2)
    assert machine.memory.unpack("IB", 0x46C) == (0x10002, 0)


def test_the_midnight_flag_is_read_once() -> None:
    machine = Machine()
    machine.memory.write(0x470, b"\x01")
    for expected in (1, 0):
        machine.interrupt(0x1A, ax=0)
        assert machine.vcpu.al == expected


@pytest.mark.parametrize("binary", [False, True])
def test_the_real_time_clock(binary: bool) -> None:
    machine = Machine()
    if binary:
        machine.ports.rtc |= {0x00: 56, 0x02: 34, 0x04: 12, 0x07: 31, 0x08: 12, 0x09: 24, 0x0B: 0x06}
    machine.interrupt(0x1A, CF, ax=0x0200)
    assert (machine.carry, machine.vcpu.cx, machine.vcpu.dx) == (False, 0x1234, 0x5600)
    machine.interrupt(0x1A, ax=0x0400)
    assert (machine.vcpu.cx, machine.vcpu.dx) == (0x2024, 0x1231)
    machine.interrupt(0x1A, ax=0x0300, cx=0x2359, dx=0x5800)
    machine.interrupt(0x1A, ax=0x0500, cx=0x1999, dx=0x0101)
    machine.interrupt(0x1A, ax=0x0200)
    assert (machine.vcpu.cx, machine.vcpu.dh) == (0x2359, 0x58)
    machine.interrupt(0x1A, ax=0x0400)
    assert (machine.vcpu.cx, machine.vcpu.dx) == (0x1999, 0x0101)


def test_without_ports_there_is_no_rtc_and_no_a20_gate() -> None:
    machine = Machine(ports=False)
    for vector, ax in [(0x1A, 0x0200), (0x15, 0x2401)]:
        machine.interrupt(vector, ax=ax)
        assert (machine.carry, machine.vcpu.ah) == (True, 0x86)
