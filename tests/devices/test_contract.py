"""Every device of the board passes the suite that users' devices pass; the long form has a million operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hypervisor.bus import Device, Line
from hypervisor.bus.clock import ManualClock
from hypervisor.devices import (
    acpi_pm,
    debug_ports,
    ethernet_port,
    floppy,
    fw_cfg,
    hpet,
    i8042,
    i8237,
    i8254,
    i8259,
    ide,
    ioapic,
    local_apic,
    mc146818,
    port61,
    power_ports,
    uart16550,
    vga,
)
from hypervisor.devices.apic_bus import ApicBus
from hypervisor.devices.ide import ata_registers as ide_registers
from hypervisor.devices.parts import uart_registers
from hypervisor.devices.pci import PciBus, function, i440fx, piix
from hypervisor.devices.pci import bus as pci_bus
from hypervisor.devices.vga import dispi, vga_registers
from hypervisor.errors import DeviceError
from hypervisor.testing.contract import check_device
from tests.devices import ide as ide_driver
from tests.devices import test_floppy
from tests.devices.vga_device import MmioWithAdapter, PlanesWithMemory


class Bench(ManualClock):
    """A clock, and ends for what devices put out, which it counts."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs = 0

    def out(self, *_: object) -> None:
        self.outputs += 1

    def line(self) -> Line:
        return Line("", self.out)


Maker = Callable[[Bench], Device]


class NoMemory:
    """Guest memory that is not there."""

    def read(self, gpa: int, size: int) -> bytes:
        return b"\xff" * size

    def write(self, gpa: int, data: bytes) -> None:
        pass


def uart(clock: Bench) -> Device:
    return uart16550.Uart16550(clock.line(), clock, clock.out)


def busy_uart(clock: Bench) -> Device:
    """A line with host input waiting, which the walk reads while time passes."""
    device = uart16550.Uart16550(clock.line(), clock, clock.out)
    device.receive(bytes(range(256)) * 8)
    reset = device.reset

    def reset_and_refill() -> None:
        reset()
        device.receive(bytes(range(256)) * 8)

    device.reset = reset_and_refill  # type: clock.out[method-assign]
    return device


def lapic(clock: Bench) -> Device:
    """A local APIC that takes what it sends itself, with a PIC at its LINT0."""
    intr = clock.line()
    pins = local_apic.Pins(intr, clock.out, clock.out, clock.out)
    return local_apic.LocalApic(pins, clock, ApicBus(), external=i8259.I8259Pair(intr))


def ide_disk(clock: Bench) -> Device:
    return ide_driver.Driver(ide_driver.disk(), ide_driver.disk()).channel


def ide_cd(clock: Bench) -> Device:
    return ide_driver.Driver(ide_driver.cd(), ide_driver.disk()).channel


def bus_master(clock: Bench) -> Device:
    return ide.BusMaster(NoMemory(), [ide_driver.Driver(ide_driver.disk()).channel], clock)


def fdc(clock: Bench) -> Device:
    """A controller whose DMA channel is on, and starts again by itself."""
    pair = i8237.I8237Pair(NoMemory())
    pair.write(0xB, 1, 0x56)
    pair.write(0xA, 1, 2)
    return floppy.I82077(clock.line(), pair.channel(2), clock, [test_floppy.diskette()])


MAC = bytes((2, 0, 0, 0, 0, 1))


def ethernet(clock: Bench) -> Device:
    return ethernet_port.EthernetPort(clock.line(), NoMemory(), clock.out, MAC)


def busy_ethernet(clock: Bench) -> Device:
    """An interface with frames waiting, which the walk gives back and switches off and on."""
    device = ethernet_port.EthernetPort(clock.line(), NoMemory(), clock.out, MAC)
    reset = device.reset

    def reset_and_refill() -> None:
        reset()
        device.write(ethernet_port.CONTROL, 4, ethernet_port.RECEIVE | ethernet_port.INTERRUPT)
        for size in range(60, 160):
            device.receive(MAC + bytes(size - len(MAC)))

    reset_and_refill()
    device.reset = reset_and_refill  # type: ignore[method-assign]
    return Words(device, 4)


class Words:
    """A device with 32-bit registers ``apart`` bytes apart, one offset for each: a random walk meets them all."""

    def __init__(self, device: Device, apart: int = 16) -> None:
        self._device = device
        self._apart = apart
        self.name = device.name
        self.reset, self.state, self.restore = device.reset, device.state, device.restore

    def read(self, offset: int, size: int) -> int:
        return self._device.read(self._apart * offset, 4) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        self._device.write(self._apart * offset, 4, value & 0xFFFFFFFF)


def running_hpet(clock: Bench) -> Device:
    """An HPET's 32-bit registers; the walk's small offsets meet configuration, status and all timers."""
    return Words(hpet.Hpet(clock, clock.out, (clock.line(), clock.line()), clock.out), 4)


DEVICES: dict[str, tuple[Maker, int]] = {
    "uart": (uart, uart_registers.SIZE),
    "busy-uart": (busy_uart, uart_registers.SIZE),
    "pic": (lambda clock: i8259.I8259Pair(clock.line()), i8259.SIZE),
    "pit": (lambda clock: i8254.I8254(clock.line(), clock), i8254.SIZE),
    "port61": (lambda clock: port61.Port61(i8254.I8254(clock.line(), clock), clock), port61.SIZE),
    "rtc": (lambda clock: mc146818.Mc146818(clock.line(), clock, 64 << 20), mc146818.SIZE),
    "i8042": (lambda clock: i8042.I8042(clock.line(), clock.line(), clock.out, clock.out), i8042.SIZE),
    "vga": (lambda clock: vga.Vga(clock, show=clock.out), vga_registers.SIZE),
    "vga-dispi": (lambda clock: vga.Vga(clock, show=clock.out).dispi, dispi.SIZE),
    "vga-mmio": (MmioWithAdapter, MmioWithAdapter.SIZE),
    "vga-planes": (PlanesWithMemory, PlanesWithMemory.SIZE),
    "post": (lambda clock: debug_ports.PostPort(), debug_ports.POST_SIZE),
    "debugcon": (lambda clock: debug_ports.DebugConsole(clock.out), debug_ports.CONSOLE_SIZE),
    "debugexit": (lambda clock: debug_ports.DebugExit(clock.out), debug_ports.EXIT_SIZE),
    "poweroff": (lambda clock: power_ports.PowerOffPort(clock.out), power_ports.POWER_OFF_SIZE),
    "port92": (lambda clock: power_ports.Port92(clock.out, clock.out), power_ports.PORT92_SIZE),
    "pci": (lambda clock: PciBus(None, clock.out), pci_bus.SIZE),
    "i440fx": (lambda clock: i440fx.I440Fx(clock.out), function.SIZE),
    "piix3": (lambda clock: piix.Piix3(clock.out), function.SIZE),
    "piix3-ide": (lambda clock: piix.ide(), function.SIZE),
    "piix4-pm": (lambda clock: piix.power_management(), function.SIZE),
    "hpet": (lambda clock: hpet.Hpet(clock, clock.out, (clock.line(), clock.line()), clock.out), hpet.SIZE),
    "hpet-words": (running_hpet, 0x60),
    "lapic": (lapic, local_apic.SIZE),
    "lapic-words": (lambda clock: Words(lapic(clock)), 0x40),
    "ioapic-words": (lambda clock: Words(ioapic.IoApic(ApicBus(), clock.out)), 2),
    "ioapic": (lambda clock: ioapic.IoApic(ApicBus(), clock.out), ioapic.SIZE),
    "acpi-pm": (lambda clock: acpi_pm.AcpiPm(clock.line(), clock, clock.out), acpi_pm.SIZE),
    "fw_cfg": (lambda clock: fw_cfg.FwCfg(NoMemory(), {}, {"etc/one": b"1"}), fw_cfg.SIZE),
    "ide-disk": (ide_disk, ide_registers.SIZE),
    "ide-cd": (ide_cd, ide_registers.SIZE),
    "bus-master": (bus_master, ide.bus_master.SIZE),
    "dma": (lambda clock: i8237.I8237Pair(NoMemory()), i8237.SIZE),
    "fdc": (fdc, floppy.SIZE),
    "ethernet": (ethernet, ethernet_port.SIZE),
    "busy-ethernet": (busy_ethernet, ethernet_port.SIZE // 4),
    "cf9": (lambda clock: power_ports.ResetControl(clock.out), power_ports.RESET_SIZE),
}


def run(maker: Maker, size: int, seed: int, operations: int) -> None:
    bench = Bench()
    check_device(
        lambda: maker(bench), size, seed, operations,
        advance=bench.advance, outputs=lambda: bench.outputs, pending=lambda: bench.pending,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", DEVICES)
def test_device_keeps_the_contract(name: str, seed: int) -> None:
    run(*DEVICES[name], seed, 3_000)


@pytest.mark.stress
@pytest.mark.parametrize("name", DEVICES)
def test_device_keeps_the_contract_for_a_million_operations(name: str) -> None:
    run(*DEVICES[name], 20_000, 1_000_000)


@pytest.mark.parametrize("name", DEVICES)
def test_states_with_wrong_fields_are_refused(name: str) -> None:
    device = DEVICES[name][0](Bench())
    before = device.state()
    for field in getattr(type(before), "__slots__", ()):
        for wrong in (None, "x", -(1 << 300), 1 << 300, [object()], bytearray(1 << 20)):
            state = device.state()
            setattr(state, field, wrong)
            with pytest.raises(DeviceError, match=f"{device.name}: .*{field}.*state\\(\\)"):
                device.restore(state)
    assert device.state() == before
