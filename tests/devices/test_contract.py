"""Every device of the board passes the suite that users' devices pass; the long form has a million operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hypervisor.bus import Device, Line
from hypervisor.bus.clock import ManualClock
from hypervisor.devices import (
    acpi_pm,
    debug_ports,
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
from hypervisor.devices.pci import PciBus, function, i440fx, piix
from hypervisor.devices.pci import bus as pci_bus
from hypervisor.devices.vga import dispi, vga_registers
from hypervisor.errors import DeviceError
from hypervisor.testing.contract import check_device
from tests.devices import ide as ide_driver
from tests.devices import test_floppy
from tests.devices.vga_device import MmioWithAdapter, PlanesWithMemory

Maker = Callable[[ManualClock], Device]


def ignore(*_: object) -> None:
    pass


class NoMemory:
    """Guest memory that is not there."""

    def read(self, gpa: int, size: int) -> bytes:
        return b"\xff" * size

    def write(self, gpa: int, data: bytes) -> None:
        pass


def uart(clock: ManualClock) -> Device:
    return uart16550.Uart16550(Line(), clock, ignore)


def busy_uart(clock: ManualClock) -> Device:
    """A line with host input waiting, which the walk reads while time passes."""
    device = uart16550.Uart16550(Line(), clock, ignore)
    device.receive(bytes(range(256)) * 8)
    reset = device.reset

    def reset_and_refill() -> None:
        reset()
        device.receive(bytes(range(256)) * 8)

    device.reset = reset_and_refill  # type: ignore[method-assign]
    return device


def lapic(clock: ManualClock) -> Device:
    """A local APIC that takes what it sends itself, with a PIC at its LINT0."""
    intr = Line()
    pins = local_apic.Pins(intr, ignore, ignore, ignore)
    return local_apic.LocalApic(pins, clock, ApicBus(), external=i8259.I8259Pair(intr))


def ide_disk(clock: ManualClock) -> Device:
    return ide_driver.Driver(ide_driver.disk(), ide_driver.disk()).channel


def ide_cd(clock: ManualClock) -> Device:
    return ide_driver.Driver(ide_driver.cd(), ide_driver.disk()).channel


def bus_master(clock: ManualClock) -> Device:
    return ide.BusMaster(NoMemory(), [ide_driver.Driver(ide_driver.disk()).channel], clock)


def fdc(clock: ManualClock) -> Device:
    """A controller whose DMA channel is on, and starts again by itself."""
    pair = i8237.I8237Pair(NoMemory())
    pair.write(0xB, 1, 0x56)
    pair.write(0xA, 1, 2)
    return floppy.I82077(Line(), pair.channel(2), clock, [test_floppy.diskette()])


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


def running_hpet(clock: ManualClock) -> Device:
    """An HPET's 32-bit registers; the walk's small offsets meet configuration, status and all timers."""
    return Words(hpet.Hpet(clock, ignore, (Line(), Line()), ignore), 4)


DEVICES: dict[str, tuple[Maker, int]] = {
    "uart": (uart, uart16550.SIZE),
    "busy-uart": (busy_uart, uart16550.SIZE),
    "pic": (lambda clock: i8259.I8259Pair(Line()), i8259.SIZE),
    "pit": (lambda clock: i8254.I8254(Line(), clock), i8254.SIZE),
    "port61": (lambda clock: port61.Port61(i8254.I8254(Line(), clock), clock), port61.SIZE),
    "rtc": (lambda clock: mc146818.Mc146818(Line(), clock, 64 << 20), mc146818.SIZE),
    "i8042": (lambda clock: i8042.I8042(Line(), Line(), ignore, ignore), i8042.SIZE),
    "vga": (lambda clock: vga.Vga(clock), vga_registers.SIZE),
    "vga-dispi": (lambda clock: vga.Vga(clock).dispi, dispi.SIZE),
    "vga-mmio": (MmioWithAdapter, MmioWithAdapter.SIZE),
    "vga-planes": (PlanesWithMemory, PlanesWithMemory.SIZE),
    "post": (lambda clock: debug_ports.PostPort(), debug_ports.POST_SIZE),
    "debugcon": (lambda clock: debug_ports.DebugConsole(ignore), debug_ports.CONSOLE_SIZE),
    "debugexit": (lambda clock: debug_ports.DebugExit(ignore), debug_ports.EXIT_SIZE),
    "poweroff": (lambda clock: power_ports.PowerOffPort(ignore), power_ports.POWER_OFF_SIZE),
    "port92": (lambda clock: power_ports.Port92(ignore, ignore), power_ports.PORT92_SIZE),
    "pci": (lambda clock: PciBus(), pci_bus.SIZE),
    "i440fx": (lambda clock: i440fx.I440Fx(), function.SIZE),
    "piix3": (lambda clock: piix.Piix3(), function.SIZE),
    "piix3-ide": (lambda clock: piix.ide(), function.SIZE),
    "piix4-pm": (lambda clock: piix.power_management(), function.SIZE),
    "hpet": (lambda clock: hpet.Hpet(clock, ignore, (Line(), Line()), ignore), hpet.SIZE),
    "hpet-words": (running_hpet, 0x60),
    "lapic": (lapic, local_apic.SIZE),
    "lapic-words": (lambda clock: Words(lapic(clock)), 0x40),
    "ioapic-words": (lambda clock: Words(ioapic.IoApic(ApicBus())), 2),
    "ioapic": (lambda clock: ioapic.IoApic(ApicBus()), ioapic.SIZE),
    "acpi-pm": (lambda clock: acpi_pm.AcpiPm(Line(), clock, ignore), acpi_pm.SIZE),
    "fw_cfg": (lambda clock: fw_cfg.FwCfg(NoMemory(), {}, {"etc/one": b"1"}), fw_cfg.SIZE),
    "ide-disk": (ide_disk, ide_registers.SIZE),
    "ide-cd": (ide_cd, ide_registers.SIZE),
    "bus-master": (bus_master, ide.bus_master.SIZE),
    "dma": (lambda clock: i8237.I8237Pair(NoMemory()), i8237.SIZE),
    "fdc": (fdc, floppy.SIZE),
    "cf9": (lambda clock: power_ports.ResetControl(ignore), power_ports.RESET_SIZE),
}


def run(maker: Maker, size: int, seed: int, operations: int) -> None:
    clock = ManualClock()
    check_device(lambda: maker(clock), size, seed, operations, advance=clock.advance)


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
    device = DEVICES[name][0](ManualClock())
    before = device.state()
    for field in getattr(type(before), "__slots__", ()):
        for wrong in (None, "x", -(1 << 300), 1 << 300, [object()], bytearray(1 << 20)):
            state = device.state()
            setattr(state, field, wrong)
            with pytest.raises(DeviceError, match=f"{device.name}: .*{field}.*state\\(\\)"):
                device.restore(state)
    assert device.state() == before
