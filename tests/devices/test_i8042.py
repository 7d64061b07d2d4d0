"""The keyboard controller and its keyboard, as kernels talk to them."""

from __future__ import annotations

import pytest

from hypervisor.bus import Line
from hypervisor.devices.i8042 import I8042
from hypervisor.errors import ConfigError


class Kbc:
    """A controller with its wires, read and written as ports 60h and 64h."""

    def __init__(self) -> None:
        self.irq1: list[bool] = []
        self.irq12: list[bool] = []
        self.a20: list[bool] = []
        self.resets = 0
        self.device = I8042(
            Line("irq1", self.irq1.append), Line("irq12", self.irq12.append), self.a20.append, self.restart
        )

    def restart(self) -> None:
        self.resets += 1

    def status(self) -> int:
        return self.device.read(1, 1)

    def data(self) -> int:
        assert self.status() & 1, "the output buffer is empty"
        return self.device.read(0, 1)

    def drain(self) -> list[int]:
        answers = []
        while self.status() & 1:
            answers.append(self.data())
        return answers

    def command(self, value: int, *parameters: int) -> list[int]:
        self.device.write(1, 1, value)
        for parameter in parameters:
            self.device.write(0, 1, parameter)
        return self.drain()

    def keyboard(self, *values: int) -> list[int]:
        for value in values:
            self.device.write(0, 1, value)
        return self.drain()


@pytest.fixture
def kbc() -> Kbc:
    return Kbc()


def raw(kbc: Kbc) -> Kbc:
    """Without translation, as kernels have it that speak set 2 themselves."""
    kbc.command(0x60, 0x25)
    return kbc


def test_power_on_is_what_firmware_leaves(kbc: Kbc) -> None:
    assert kbc.status() == 0x14
    assert kbc.command(0x20) == [0x65]


@pytest.mark.parametrize(
    ("command", "answer"), [(0xAA, [0x55]), (0xAB, [0x00]), (0xA9, [0x00]), (0xA4, [0xF1]), (0xC0, [0x80]), (0xE0, [0])]
)
def test_commands_answer(kbc: Kbc, command: int, answer: list[int]) -> None:
    assert kbc.command(command) == answer


def test_controller_memory(kbc: Kbc) -> None:
    kbc.command(0x65, 0xAB)
    assert kbc.command(0x25) == [0xAB]
    kbc.command(0x60, 0x00)
    assert kbc.command(0x20) == [0x00]
    assert kbc.status() & 0x04 == 0


def test_status_tells_command_from_data(kbc: Kbc) -> None:
    kbc.device.write(1, 1, 0xAE)
    assert kbc.status() & 0x08
    kbc.device.write(0, 1, 0xEE)
    assert not kbc.status() & 0x08


def test_ports_enable_and_disable(kbc: Kbc) -> None:
    kbc.command(0xAD)
    assert kbc.command(0x20) == [0x75]
    kbc.device.press(b"\x1c")
    assert not kbc.status() & 1
    kbc.device.write(1, 1, 0xAE)
    assert kbc.drain() == [0x1E]
    kbc.command(0xA8)
    assert kbc.command(0x20) == [0x45]
    kbc.command(0xA7)
    assert kbc.command(0x20) == [0x65]


def test_keys_are_translated_and_interrupt_once_per_byte(kbc: Kbc) -> None:
    assert kbc.device.press(b"\x1c\xf0\x1c\xe0\x75\xe0\xf0\x75") == 8
    assert kbc.irq1 == [True]
    assert kbc.drain() == [0x1E, 0x9E, 0xE0, 0x48, 0xE0, 0xC8]
    assert kbc.irq1 == [True, False] * 6


def test_no_interrupt_unless_enabled(kbc: Kbc) -> None:
    kbc.command(0x60, 0x64)
    kbc.irq1.clear()
    kbc.device.press(b"\x1c")
    assert kbc.irq1 == [] and kbc.status() & 1


def test_every_set_1_make_code_comes_from_one_key(kbc: Kbc) -> None:
    raw(kbc)
    kbc.command(0x60, 0x65)
    made = []
    for code in range(1, 0x85):
        kbc.device.press(bytes((code,)))
        made += kbc.drain()
    assert set(range(1, 0x59)) <= set(made)


def test_typing(kbc: Kbc) -> None:
    assert kbc.device.type_text("aB\n") == 3
    assert kbc.drain() == [0x1E, 0x9E, 0x2A, 0x30, 0xB0, 0xAA, 0x1C, 0x9C]
    assert kbc.device.type_text("x" * 10_000) == 4096 // 3
    with pytest.raises(ConfigError, match="No key of a US keyboard types 'ß'"):
        kbc.device.type_text("aß")


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ((0xFF,), [0xFA, 0xAA]),
        ((0xF2,), [0xFA, 0xAB, 0x83]),
        ((0xEE,), [0xEE]),
        ((0xED, 0x07), [0xFA, 0xFA]),
        ((0xF3, 0x20), [0xFA, 0xFA]),
        ((0xF4,), [0xFA]),
        ((0xF5,), [0xFA]),
        ((0xF6,), [0xFA]),
        ((0xF0, 0x00), [0xFA, 0xFA, 0x02]),
        ((0xF0, 0x03), [0xFA, 0xFE]),
        ((0xED, 0xF4), [0xFA, 0xFA]),
        ((0xFB, 0x1C), [0xFA, 0xFA]),
        ((0xF8,), [0xFA]),
        ((0xEF,), [0xFE]),
        ((0x12,), [0xFE]),
        ((0xEE, 0xFE), [0xEE, 0xEE]),
    ],
)
def test_keyboard_commands(kbc: Kbc, values: tuple[int, ...], answer: list[int]) -> None:
    raw(kbc)
    answers = []
    for value in values:
        answers += kbc.keyboard(value)
    assert answers == answer


def test_translation_reaches_the_keyboards_id(kbc: Kbc) -> None:
    assert kbc.keyboard(0xF2) == [0xFA, 0xAB, 0x41]  # what a translated keyboard is known by


def test_scan_set_1_from_the_keyboard(kbc: Kbc) -> None:
    raw(kbc)
    kbc.keyboard(0xF0, 0x01)
    kbc.device.press(b"\x1c\xf0\x1c")
    assert kbc.drain() == [0x1E, 0x9E]
    assert kbc.keyboard(0xF0, 0x00) == [0xFA, 0xFA, 0x01]


def test_leds_are_kept(kbc: Kbc) -> None:
    kbc.keyboard(0xED, 0x02)
    assert kbc.device.state().keyboard.leds == 2


def test_a_disabled_keyboard_does_not_scan(kbc: Kbc) -> None:
    kbc.keyboard(0xF5)
    assert kbc.device.press(b"\x1c") == 0 and kbc.device.type_text("a") == 0
    kbc.keyboard(0xF4)
    assert kbc.device.press(b"\x1c") == 1


def test_output_buffers_can_be_written(kbc: Kbc) -> None:
    assert kbc.command(0xD2, 0x77) == [0x77]
    kbc.command(0x60, 0x47)
    kbc.device.write(1, 1, 0xD3)
    kbc.device.write(0, 1, 0x5A)
    assert kbc.status() & 0x21 == 0x21 and kbc.irq12 == [True]
    assert kbc.data() == 0x5A and kbc.irq12 == [True, False]


def test_a20_by_output_port_and_by_command(kbc: Kbc) -> None:
    assert kbc.command(0xD0) == [0xCF]
    kbc.command(0xD1, 0xDD)
    assert kbc.a20 == [False] and kbc.command(0xD0) == [0xCD]
    kbc.command(0xD1, 0xDF)
    kbc.command(0xDD)
    kbc.command(0xDF)
    assert kbc.a20 == [False, True, False, True]


def test_reset_by_pulse_and_by_output_port(kbc: Kbc) -> None:
    kbc.command(0xFE)
    assert kbc.resets == 1
    kbc.command(0xFF)  # pulses nothing
    assert kbc.resets == 1
    kbc.command(0xD1, 0xDE)
    assert kbc.resets == 2


def test_a_flood_of_commands_is_bounded(kbc: Kbc) -> None:
    for _ in range(1000):
        kbc.device.write(1, 1, 0x20)
        kbc.device.write(0, 1, 0xF2)
    assert len(kbc.drain()) < 64


def test_restore_keeps_what_waits(kbc: Kbc) -> None:
    kbc.device.type_text("hi")
    kbc.device.write(1, 1, 0xDD)
    twin = Kbc()
    twin.device.restore(kbc.device.state())
    assert twin.irq1 == [True] and twin.a20 == [False]
    assert twin.drain() == kbc.drain()


def test_reset_turns_a20_on_and_drops_keys(kbc: Kbc) -> None:
    kbc.device.type_text("hi")
    kbc.device.write(1, 1, 0xDD)
    kbc.device.reset()
    assert kbc.a20 == [False, True] and kbc.status() == 0x14 and kbc.irq1 == [True, False]
