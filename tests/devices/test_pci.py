from __future__ import annotations

import random

import pytest

from hypervisor.devices.pci import (
    ConfigRegister,
    Identity,
    PciBus,
    PciFunction,
    Space,
    io_bar,
    memory_bar,
    rom_bar,
)
from hypervisor.devices.pci import config_registers as r
from hypervisor.devices.pci.i440fx import PAM, SEGMENTS, I440Fx, Segment
from hypervisor.devices.pci.piix import Piix3, power_management
from hypervisor.devices.power_ports import ResetControl
from hypervisor.errors import DeviceError

CARD = Identity(0x1234, 0x1111, 0x030000, revision=2, pin=1)


def card() -> PciFunction:
    return PciFunction(
        "card",
        CARD,
        bars=(
            memory_bar(0, 16 << 20, "frame buffer", prefetchable=True),
            io_bar(1, 32, "ports"),
            memory_bar(2, 0x1000, "registers"),
            rom_bar(0x10000, "rom"),
        ),
        own=(ConfigRegister(0x40, 2, "OWN", 0x1200, 0x0F00, "half of it is writable", clears=0x0003),),
    )


def sized(function: PciFunction, offset: int) -> int:
    function.write(offset, 4, 0xFFFFFFFF)
    return function.read(offset, 4)


def test_a_header_says_what_the_function_is() -> None:
    function = card()
    assert function.read(0, 4) == 0x11111234
    assert function.read(0x08, 4) == 0x03000002
    assert function.read(0x0E, 1) == 0
    assert function.read(0x2C, 4) == 0x11001AF4
    assert function.read(0x3D, 1) == 1


def test_base_addresses_tell_their_size() -> None:
    function = card()
    assert [sized(function, offset) for offset in (0x10, 0x14, 0x18, 0x1C, 0x30)] == [
        0xFF000008, 0xFFFFFFE1, 0xFFFFF000, 0, 0xFFFF0001,
    ]  # fmt: skip


def test_windows_move_as_command_and_addresses_say() -> None:
    function = card()
    moves: list[tuple[str, int | None]] = []
    for name in function.windows:
        function.on_move(name, lambda place, name=name: moves.append((name, place)))  # type: ignore[misc]
    function.write(0x10, 4, 0xE0123456)
    function.write(0x14, 4, 0x0000C123)
    assert moves == []
    function.write(r.COMMAND, 2, r.COMMAND_IO)
    assert moves == [("ports", 0xC120)]
    function.write(r.COMMAND, 2, r.COMMAND_MEMORY)
    assert moves[1:] == [("frame buffer", 0xE0000000), ("ports", None)]
    function.write(0x13, 1, 0xE1)
    assert moves[3:] == [("frame buffer", 0xE1000000)]
    sized(function, 0x10)
    assert moves[4:] == [("frame buffer", None)]
    function.write(0x30, 4, 0xFD000000)
    assert function.places["rom"] is None
    function.write(0x30, 1, 1)
    assert function.places["rom"] == 0xFD000000
    function.reset()
    assert set(function.places.values()) == {None}


def test_who_connects_late_is_told_where_the_window_is() -> None:
    function = card()
    function.write(0x18, 4, 0xFEB00000)
    function.write(r.COMMAND, 1, r.COMMAND_MEMORY)
    told: list[int | None] = []
    function.on_move("registers", told.append)
    assert told == [0xFEB00000]


def test_masks_are_obeyed_at_every_width() -> None:
    """Against a bit-by-bit model of the rows, with random accesses."""
    rng = random.Random(5)
    for size in (1, 2, 4):
        function = card()
        rows = {row.offset: row for row in function.registers}
        model = {row.offset: row.default for row in function.registers}
        for _ in range(2000):
            at, value = rng.randrange(0, 0x100 - size), rng.getrandbits(8 * size)
            function.write(at, size, value)
            for offset, row in rows.items():
                for bit in range(8 * row.width):
                    place = 8 * offset + bit - 8 * at
                    if not 0 <= place < 8 * size:
                        continue
                    if row.writable >> bit & 1:
                        model[offset] = model[offset] & ~(1 << bit) | (value >> place & 1) << bit
                    elif row.clears >> bit & value >> place & 1:
                        model[offset] &= ~(1 << bit)
            for offset, row in rows.items():
                got = sum(function.read(offset + n, 1) << 8 * n for n in range(row.width))
                assert got == model[offset], row


def test_the_pin_shows_in_status_and_can_be_held_off() -> None:
    function = card()
    assert not function.read(r.STATUS, 2) & r.STATUS_INTX
    function.intx.raise_()
    assert function.pin.level
    assert function.read(r.STATUS, 2) & r.STATUS_INTX
    assert function.read(r.COMMAND, 4) >> 16 & r.STATUS_INTX
    function.write(r.COMMAND, 2, r.COMMAND_NO_INTX)
    assert not function.pin.level
    assert function.read(r.STATUS, 1) & r.STATUS_INTX
    function.write(r.COMMAND, 2, 0)
    assert function.pin.level


def test_a_state_cannot_change_what_the_function_is() -> None:
    function = card()
    state = function.state()
    state.config[0] ^= 1
    with pytest.raises(DeviceError, match="read-only bits of byte 0x0"):
        function.restore(state)


def test_impossible_base_addresses_are_refused() -> None:
    for size in (0, 8, 48):
        with pytest.raises(ValueError, match="not possible"):
            memory_bar(0, size, "x")


# ---- the bus


def select(bus: PciBus, device: int, function: int, register: int) -> None:
    bus.write(0, 4, 1 << 31 | device << 11 | function << 8 | register)


def test_configuration_cycles_reach_the_selected_function() -> None:
    bus = PciBus()
    one, other = card(), I440Fx()
    bus.attach(other, 0)
    bus.attach(one, 2)
    select(bus, 0, 0, 0)
    assert bus.read(4, 4) == 0x12378086
    assert (bus.read(4, 2), bus.read(6, 2), bus.read(5, 1)) == (0x8086, 0x1237, 0x80)
    select(bus, 2, 0, 0x3C)
    bus.write(4, 1, 0x2B)
    assert bus.read(4, 2) == 0x012B
    for device, function in ((1, 0), (2, 1), (31, 7)):
        select(bus, device, function, 0)
        assert bus.read(4, 4) == 0xFFFFFFFF
    bus.write(0, 4, 1 << 31 | 1 << 16)
    assert bus.read(4, 4) == 0xFFFFFFFF
    bus.write(0, 4, 0)
    assert bus.read(4, 4) == 0xFFFFFFFF
    with pytest.raises(DeviceError, match=r"02\.0 is not free"):
        bus.attach(card(), 2)


def test_the_address_takes_dwords_only() -> None:
    resets: list[None] = []
    bus = PciBus(ResetControl(lambda: resets.append(None)))
    bus.write(0, 4, 0xFFFFFFFF)
    assert bus.read(0, 4) == 0x80FFFFFC
    bus.write(0, 2, 0x0000)
    bus.write(0, 1, 0)
    assert bus.read(0, 4) == 0x80FFFFFC
    assert bus.read(1, 1) == 0
    bus.write(1, 1, 0x06)
    assert (len(resets), bus.read(1, 1)) == (1, 0x06)


def test_interrupts_share_the_four_wires() -> None:
    levels: list[tuple[int, bool]] = []
    bus = PciBus(route=lambda wire, level: levels.append((wire, level)))
    cards = [card() for _ in range(3)]
    for one, device in zip(cards, (1, 2, 5), strict=True):
        bus.attach(one, device)
    for one in cards:
        one.intx.raise_()
    assert levels == [(0, True), (1, True)]
    cards[0].intx.lower()
    assert len(levels) == 2
    cards[2].intx.lower()
    assert levels[2:] == [(0, False)]


# ---- the chips


def test_the_isa_bridge_routes_wires_to_requests() -> None:
    seen: list[tuple[int, bool]] = []
    bridge = Piix3(lambda irq, level: seen.append((irq, level)))
    bridge.wire(0, True)
    assert seen == []  # not routed after a reset
    bridge.write(0x60, 1, 11)
    assert seen == [(11, True)]
    bridge.write(0x61, 1, 11)
    bridge.wire(1, True)
    bridge.wire(0, False)
    assert seen == [(11, True)]
    bridge.write(0x61, 1, 5)
    assert seen[1:] == [(11, False), (5, True)]
    bridge.write(0x61, 1, 0x80 | 5)
    assert seen[3:] == [(5, False)]
    for irq in (0, 1, 2, 8, 13):
        bridge.write(0x61, 1, irq)
    assert len(seen) == 4
    bridge.write(0x61, 1, 10)
    bridge.reset()
    assert seen[4:] == [(10, True), (10, False)]


def test_pam_registers_direct_segments() -> None:
    told: list[tuple[Segment, int]] = []
    bridge = I440Fx(lambda segment, access: told.append((segment, access)))
    assert [segment.start for segment in SEGMENTS] == [*range(0xC0000, 0xF0000, 0x4000), 0xF0000]
    bridge.write(PAM, 1, 0xFF)
    assert told == [(SEGMENTS[12], 3)]
    bridge.write(PAM + 1, 2, 0x1321)
    assert [(hex(segment.start), access) for segment, access in told[1:]] == [
        ("0xc0000", 1), ("0xc4000", 2), ("0xc8000", 3), ("0xcc000", 1),
    ]  # fmt: skip
    bridge.reset()
    assert {bridge.access(segment) for segment in SEGMENTS} == {0}


def test_power_management_ports_are_placed_by_their_own_registers() -> None:
    function = power_management()
    function.write(0x40, 4, 0x601)
    function.write(0x90, 4, 0x701)
    assert set(function.places.values()) == {None}
    function.write(0x80, 1, 1)
    function.write(0xD2, 1, 9)
    assert function.places == {"pm": 0x600, "smbus": 0x700}
    assert function.windows["pm"].space is Space.IO
