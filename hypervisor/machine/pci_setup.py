"""PCI as firmware leaves it: for guests that are booted without one.

The choices are those of SeaBIOS on the same chip set: wires A and B on IRQ 10, C and D on IRQ 11, both
level-triggered; ports from c000h up; memory below the IOAPIC, the largest window on top; ports of power management at
600h and of the SMBus at 700h.
"""

from __future__ import annotations

from hypervisor.devices.i8259 import I8259Pair
from hypervisor.devices.pci import PciBus, PciFunction, Space
from hypervisor.devices.pci import config_registers as r
from hypervisor.devices.pci.config_registers import Bar
from hypervisor.devices.pci.i440fx import PAM, READ_RAM, WRITE_RAM
from hypervisor.devices.pci.piix import IDETIM, PIRQRC, PMBA, PMREGMISC, SMBBA, SMBHSTCFG
from hypervisor.vm.board import Parts

IRQS = (10, 10, 11, 11)
"""Interrupt request of each of the four wires."""
ELCR2, LEVEL = 5, 0x0C
"""The interrupt controller's register for IRQ 8 to 15, and IRQ 10 and 11 in it."""
IO_START, MEMORY_END = 0xC000, 0xFEC00000
PM_PORTS, SMBUS_PORTS, SCI = 0x600, 0x700, 9
DECODE_BOTH = 1 << 31 | 1 << 15
"""Of IDETIM: both channels."""
DECODED, SMBUS_IRQ = 1 << 0, 4 << 1
"""Of PMREGMISC and SMBHSTCFG: the ports answer. Of the latter: the SMBus interrupts through IRQ 9."""
RAM = READ_RAM | WRITE_RAM


def set_up(parts: Parts) -> None:
    """Configure the PCI functions of a board that has just been reset; a board without a PCI bus is left alone."""
    bus = parts.get("pci", PciBus)
    if bus is None:
        return
    _assign(bus)
    bridge, pic = parts.get("piix3", PciFunction), parts.get("pic", I8259Pair)
    if bridge is not None:
        for n, irq in enumerate(IRQS):
            bridge.write(PIRQRC + n, 1, irq)
        if pic is not None:
            pic.write(ELCR2, 1, LEVEL)
    if (host := parts.get("i440fx", PciFunction)) is not None:
        host.write(PAM, 1, RAM << 4)
        for register in range(PAM + 1, PAM + 7):
            host.write(register, 1, RAM << 4 | RAM)
    if (ide := parts.get("piix3-ide", PciFunction)) is not None:
        ide.write(IDETIM, 4, DECODE_BOTH)
    if (power := parts.get("piix4-pm", PciFunction)) is not None:
        for register, width, value in (
            (PMBA, 4, PM_PORTS), (PMREGMISC, 1, DECODED), (SMBBA, 4, SMBUS_PORTS), (SMBHSTCFG, 1, SMBUS_IRQ | DECODED),
            (r.INTERRUPT_LINE, 1, SCI),
        ):  # fmt: skip
            power.write(register, width, value)


def _assign(bus: PciBus) -> None:
    """Place the windows of base address registers, route the pins, and switch decoding on."""
    bars: list[tuple[Bar, PciFunction]] = []
    for (device, _), function in bus.functions.items():
        if pin := function.identity.pin:
            function.write(r.INTERRUPT_LINE, 1, IRQS[bus.wire_of(device, pin)])
        bars += [(bar, function) for bar in function.bars if bar.register.offset != r.ROM_ADDRESS]
    ports, memory = IO_START, MEMORY_END
    for bar, function in sorted(bars, key=lambda pair: -pair[0].window.size):
        size = bar.window.size
        if bar.window.space is Space.IO:
            ports = -(-ports // size) * size
            place, ports = ports, ports + size
        else:
            place = memory = (memory - size) & -size
        function.write(bar.register.offset, 4, place)
    for function in bus.functions.values():
        on = r.COMMAND_IO | r.COMMAND_MEMORY | r.COMMAND_MASTER | r.COMMAND_SERR
        function.write(r.COMMAND, 2, function.read(r.COMMAND, 2) | on)
