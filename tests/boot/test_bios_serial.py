"""INT 14h, with UARTs of ours behind the ports."""

from __future__ import annotations

from typing import Any

import pytest

from hypervisor.bus import Line
from hypervisor.devices.uart16550 import Uart16550
from tests.boot.bios_fakes import FakePorts, Machine


class UartPorts(FakePorts):
    """COM1 and COM3 are there."""

    def __init__(self) -> None:
        super().__init__()
        self.uarts: dict[int, Uart16550] = {}
        self.sent: list[tuple[int, bytes]] = []

    def plug(self, machine: Any) -> None:
        for base in (0x3F8, 0x3E8):
            send = lambda data, base=base: self.sent.append((base, data))  # noqa: E731 - one for each port
            self.uarts[base] = Uart16550(Line(), machine.clock, send)

    def read(self, port: int, size: int) -> int:
        uart = self.uarts.get(port & ~7)
        if uart is not None:
            return uart.read(port & 7, size)
        return 0xFF if 0x2E8 <= port < 0x400 else super().read(port, size)

    def write(self, port: int, size: int, value: int) -> None:
        uart = self.uarts.get(port & ~7)
        if uart is not None:
            uart.write(port & 7, size, value)
        else:
            super().write(port, size, value)


@pytest.fixture
def machine() -> Machine:
    made = Machine()
    ports = UartPorts()
    ports.plug(made)
    made.ports = ports
    made.bios.serial.ports = ports
    made.memory.write(0x400, bytes(8))
    made.bios.serial.power_on()
    return made


def test_the_ports_that_are_there_are_listed(machine: Machine) -> None:
    assert machine.memory.read(0x400, 8) == b"\xf8\x03\xe8\x03" + bytes(4)
    machine.interrupt(0x11)
    assert machine.vcpu.ax >> 9 & 7 == 2


def test_initializing(machine: Machine) -> None:
    machine.interrupt(0x14, ax=0x00E3, dx=0)  # 9600 baud, 8 bits
    uart = machine.ports.uarts[0x3F8]  # type: ignore[attr-defined]
    assert (uart.state().divisor, uart.state().lcr, machine.vcpu.ax) == (12, 0x03, 0x60B0)
    machine.interrupt(0x14, ax=0x009F, dx=1)  # 1200 baud, even parity, two stop bits
    other = machine.ports.uarts[0x3E8]  # type: ignore[attr-defined]
    assert (other.state().divisor, other.state().lcr) == (96, 0x1F)


def test_sending(machine: Machine) -> None:
    for character in b"hi":
        machine.interrupt(0x14, ax=0x0100 | character, dx=1)
        assert machine.vcpu.ah == 0x60
    assert machine.ports.sent == [(0x3E8, b"h"), (0x3E8, b"i")]  # type: ignore[attr-defined]


def test_receiving_waits_and_gives_up_after_its_time(machine: Machine) -> None:
    machine.interrupt(0x14, ax=0x0200, dx=0)
    assert machine.waiting
    machine.ports.uarts[0x3F8].receive(b"x")  # type: ignore[attr-defined]
    machine.clock.advance(10_000_000)
    machine.interrupt(0x14, ax=0x0200, dx=0)
    assert not machine.waiting and machine.vcpu.ax == 0x6078
    for _ in range(2):
        machine.interrupt(0x14, ax=0x0200, dx=0)
        assert machine.waiting
    machine.clock.advance(1_000_000_000)
    machine.interrupt(0x14, ax=0x0200, dx=0)
    assert not machine.waiting and machine.vcpu.ah & 0x80


@pytest.mark.parametrize("number", [2, 3, 4, 0xFFFF])
def test_a_port_that_is_not_there_is_not_provided(machine: Machine, number: int) -> None:
    machine.interrupt(0x14, ax=0x0300, dx=number)
    assert (machine.carry, machine.vcpu.ah) == (True, 0x86)
    assert machine.log == ["guest called INT 14h AH=03h (status of a serial port): not provided"]
