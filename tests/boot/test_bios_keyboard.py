from __future__ import annotations

from typing import Any

import pytest

from hypervisor.firmware.bios.input.typeahead import KeyQueue
from hypervisor.firmware.bios.rom import KEYBOARD_CALL
from hypervisor.traps.verdicts import HANDLED
from tests.boot.bios_fakes import ZF, Machine, Segment


def scan(machine: Machine, *codes: int) -> None:
    vcpu: Any = machine.vcpu
    for code in codes:
        vcpu.segments["cs"] = Segment(0xF000, 0xF0000)
        vcpu.rip, vcpu.al = KEYBOARD_CALL, code
        assert machine.traps.handler(vcpu, None) is HANDLED  # type: ignore[attr-defined]


def read(machine: Machine, function: int = 0x00) -> int | None:
    machine.interrupt(0x16, ax=function << 8)
    return None if machine.waiting else machine.vcpu.ax


def test_reading_waits_in_the_guest_until_there_is_a_key() -> None:
    machine = Machine()
    assert machine.interrupt(0x16, ax=0) is HANDLED
    assert machine.waiting and machine.vcpu.ax == 0
    machine.keys.type("a")
    assert machine.interrupt(0x16, ax=0) is HANDLED
    assert not machine.waiting and machine.vcpu.ax == 0x1E61


def test_peeking_keeps_the_key() -> None:
    machine = Machine(typed="Q")
    for _ in range(2):
        machine.interrupt(0x16, ax=0x0100, flags=ZF)
        assert (machine.flags & ZF, machine.vcpu.ax) == (0, 0x1051)
    read(machine)
    machine.interrupt(0x16, ax=0x0100)
    assert machine.flags & ZF


def test_the_ring_holds_15_keys_and_the_queue_the_rest() -> None:
    machine = Machine(typed="abcdefghijklmnopqrstuvwxyz")
    assert [chr((read(machine) or 0) & 0xFF) for _ in range(26)] == list("abcdefghijklmnopqrstuvwxyz")
    assert read(machine) is None
    for expected in [0] * 15 + [1]:
        machine.interrupt(0x16, ax=0x0500, cx=0x1C0D)
        assert machine.vcpu.al == expected
    assert read(machine) == 0x1C0D


@pytest.mark.parametrize(
    ("codes", "key"),
    [
        ([0x1E], 0x1E61),
        ([0x2A, 0x1E], 0x1E41),
        ([0x2A, 0xAA, 0x1E], 0x1E61),
        ([0x3A, 0xBA, 0x1E], 0x1E41),
        ([0x3A, 0x36, 0x1E], 0x1E61),
        ([0x3A, 0x03], 0x0332),
        ([0x36, 0x03], 0x0340),
        ([0x1D, 0x2E], 0x2E03),
        ([0x38, 0x2E], 0x2E00),
        ([0x3B], 0x3B00),
        ([0x48], 0x4800),
        ([0x45, 0x48], 0x4838),
        ([0xE0, 0x48], 0x4800),
        ([0xE0, 0x2A, 0xE0, 0x53], 0x5300),
        ([0xE0, 0x1C], 0x1C0D),
        ([0xE0, 0x35], 0x352F),
        ([0xE0, 0x37], None),
        ([0x39], 0x3920),
        ([0x1C], 0x1C0D),
        ([0x0E], 0x0E08),
        ([0x35], 0x352F),
        ([0x9E], None),
        ([0x2A], None),
        ([0xFA], None),
        ([0x00], None),
    ],
)
def test_scan_codes(codes: list[int], key: int | None) -> None:
    machine = Machine()
    scan(machine, *codes)
    assert read(machine) == key


def test_the_extended_functions_show_extended_keys() -> None:
    machine = Machine()
    scan(machine, 0xE0, 0x48)
    assert read(machine, 0x10) == 0x48E0


def test_shift_flags() -> None:
    machine = Machine()
    scan(machine, 0x2A, 0x1D)
    machine.interrupt(0x16, ax=0x0200)
    assert machine.vcpu.al == 0b110
    machine.interrupt(0x16, ax=0x1200)
    assert machine.vcpu.ax == 0b0000_0001_0000_0110
    scan(machine, 0x38)
    machine.interrupt(0x16, ax=0x1200)
    assert machine.vcpu.ax == 0b0000_0011_0000_1110
    scan(machine, 0xAA, 0x9D, 0xB8)
    machine.interrupt(0x16, ax=0x1200)
    assert machine.vcpu.ax == 0


def test_left_and_right_are_told_apart() -> None:
    machine = Machine()
    for codes, held in [
        ((0xE0, 0x1D), 0x04),
        ((0x1D,), 0x05),
        ((0xE0, 0x9D), 0x01),
        ((0x9D,), 0),
        ((0xE0, 0x38), 0x08),
    ]:
        scan(machine, *codes)
        machine.interrupt(0x16, ax=0x1200)
        assert machine.vcpu.ah == held
        assert bool(machine.vcpu.al & 0b0100) == bool(held & 0x05) and bool(machine.vcpu.al & 0b1000) == bool(
            held & 0x08
        )


@pytest.mark.parametrize(
    ("before", "toggles"),
    [
        ((), True),
        ((0x1D,), False),
        ((0x38,), False),
        ((0x2A,), False),
        ((0x45, 0xC5), False),
        ((0x45, 0xC5, 0x2A), True),
    ],
)
def test_insert_has_a_flag_of_its_own(before: tuple[int, ...], toggles: bool) -> None:
    machine = Machine()
    scan(machine, *before, 0x52)
    machine.interrupt(0x16, ax=0x0200)
    assert bool(machine.vcpu.al & 0x80) is toggles


def test_the_pause_key_is_neither_ctrl_nor_num_lock() -> None:
    machine = Machine()
    scan(machine, 0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5)
    machine.interrupt(0x16, ax=0x0200)
    assert machine.vcpu.al == 0 and read(machine) is None
    scan(machine, 0x1E)
    assert read(machine) == 0x1E61


def test_ctrl_break_empties_the_ring_and_asks_for_int_1b() -> None:
    machine = Machine()
    scan(machine, 0x1E, 0x1D, 0xE0, 0x46)
    assert machine.vcpu.rflags & 1  # what makes the ROM call INT 1Bh
    assert machine.memory.read(0x471, 1) == b"\x80"
    assert read(machine) == 0 and read(machine) is None
    scan(machine, 0xE0, 0xC6)
    assert not machine.vcpu.rflags & 1


def test_ctrl_alt_del_resets() -> None:
    machine = Machine()
    scan(machine, 0x1D, 0x38, 0x53)
    assert machine.requests == ["reset"]


def test_a_ring_that_the_guest_broke_is_emptied() -> None:
    machine = Machine(typed="ab")
    machine.memory.write(0x41A, b"\xff\xff\x03\x00")
    machine.memory.write(0x480, b"\xff\xff\x00\x00")
    assert read(machine) == 0x1E61


def test_typed_text_becomes_keys() -> None:
    keys = KeyQueue("aB\n\x7f\x03é€")
    assert [keys.pop() for _ in range(7)] == [0x1E61, 0x3042, 0x1C0D, 0x0E08, 0x2E03, 0x00E9, None]


def test_a_queue_has_a_bound() -> None:
    keys = KeyQueue("x" * (KeyQueue.LIMIT + 3))
    assert keys.dropped == 3
