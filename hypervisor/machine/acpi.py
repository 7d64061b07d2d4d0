"""The board's ACPI: the power-management device, and the tables that describe the board to the guest.

The RSDP, the other ACPI tables and the MP table lie together in the BIOS's 64 KiB, which every memory map of ours
reserves, so the guest needs no entry for them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from hypervisor.acpi import LegacyDevice, Pci, Platform, build, loader_script, mp_table
from hypervisor.arch import cpuid
from hypervisor.arch.address_map import PCI_HOLE
from hypervisor.bus import Line
from hypervisor.devices import acpi_pm
from hypervisor.devices.acpi_pm import AcpiPm
from hypervisor.devices.parts import hpet_registers
from hypervisor.devices.pci import PciFunction
from hypervisor.machine import apic, hpet_part, pci
from hypervisor.machine.pci_setup import PM_PORTS, SCI
from hypervisor.vm.board import Part, Parts
from hypervisor.vm.furnished import POWER_BUTTON

if TYPE_CHECKING:
    from hypervisor.vm.vm import VM

SMI_PORTS = 0xB2
TABLES = 0xF0000
"""Where the MP table and the ACPI tables begin: the RSDP is first, the tables `ACPI_AT` and the MP table follow."""
ACPI_AT = TABLES + 0x40
LIMIT = 0xFD000
"""Where the BIOS's own ROM begins (`hypervisor.firmware.bios.rom`)."""

LEGACY_DEVICES = {
    "rtc": LegacyDevice("RTC0", "PNP0B00", ((0x70, 2),), (8,)),
    "i8042": LegacyDevice("KBD0", "PNP0303", ((0x60, 1), (0x64, 1)), (1,)),
    "uart0": LegacyDevice("COM1", "PNP0501", ((0x3F8, 8),), (4,)),
    "uart1": LegacyDevice("COM2", "PNP0501", ((0x2F8, 8),), (3,)),
}
"""Parts that the DSDT names. COM3 and COM4 are left to be probed: their interrupts are those of COM1 and COM2."""
MOUSE = LegacyDevice("MOU0", "PNP0F13", (), (12,))


PARTS = (
    Part(
        "acpi-pm",
        lambda vm, _: AcpiPm(Line("sci"), vm.clock, vm.power_off),
        ((range(SMI_PORTS, SMI_PORTS + 2), SMI_PORTS - acpi_pm.SMI),),
    ),
)
"""The part of the board that is ACPI's fixed hardware."""


def wire(vm: VM, parts: Parts) -> None:
    """Put the power-management ports where the chip set's function decodes them, or where it would."""
    device = parts.get("acpi-pm", AcpiPm)
    if device is None:
        return
    vm.inbox.connect(POWER_BUTTON, lambda content: device.press_power_button())
    if vm.irq_lines is not None:
        device.sci.connect(pci.shared_irq(vm, parts, SCI).tap().set)
    function = parts.get("piix4-pm", PciFunction)
    if function is not None:
        pci.windows(vm, parts).device(function, "pm", device)
    else:
        vm.ports.attach(device, range(PM_PORTS, PM_PORTS + acpi_pm.PM_SIZE))


def platform(vm: VM, parts: Parts) -> Platform | None:
    """The board as its tables describe it; None for one without ACPI's devices."""
    if not all(name in parts for name in ("acpi-pm", "lapic", "ioapic", "pic")):
        return None
    devices = [device for name, device in LEGACY_DEVICES.items() if name in parts]
    if "i8042" in parts:
        devices.append(MOUSE)
    return Platform(
        cpus=vm.cpus,
        local_apic=apic.LOCAL_APIC,
        io_apic=apic.IO_APIC,
        io_apic_id=apic.IO_APIC_ID,
        timer_pin=apic.TIMER_PIN,
        sci=SCI,
        pm_ports=_pm_ports(parts),
        smi_command=SMI_PORTS,
        hpet=hpet_part.ADDRESS if "hpet" in parts else None,
        hpet_id=hpet_registers.ID,
        devices=tuple(devices),
        pci=Pci((PCI_HOLE, apic.IO_APIC)) if "pci" in parts and "piix3" in parts else None,
    )


def _pm_ports(parts: Parts) -> int:
    """Where the chip set's function has the power-management ports now; where firmware puts them, if nowhere."""
    function = parts.get("piix4-pm", PciFunction)
    return (function.places["pm"] if function is not None else None) or PM_PORTS


def files(vm: VM, parts: Parts) -> dict[str, Callable[[], bytes]]:
    """The board's ACPI tables for firmware that places them itself, as files of fw_cfg.

    They are built when they are selected: by then firmware has put the power-management ports where it wants them.
    """

    def contents(name: str) -> bytes:
        described = platform(vm, parts)
        assert described is not None, "a board does not lose its devices"
        return loader_script.files(build(described))[name]

    if platform(vm, parts) is None:
        return {}
    return {name: partial(contents, name) for name in loader_script.NAMES}


def install(vm: VM, parts: Parts) -> int:
    """Write the ACPI tables and the MP table as firmware does; the RSDP's address, or 0 if there are none.

    A board without ACPI's devices has none, and a VM with less than 1 MiB of memory has no place for them.
    """
    described = platform(vm, parts)
    if described is None or vm.memory.size < 1 << 20:
        return 0
    rsdp, others = build(described).at(ACPI_AT)
    mp_at = ACPI_AT + len(others) + 15 & ~15
    features = cpuid.leaves(vm.cpus)[cpuid.LEAF_FEATURES, 0]
    mp = mp_table(described, mp_at, features.eax, features.edx)
    assert mp_at + len(mp) <= LIMIT, "the BIOS's ROM is in the way of the tables"
    vm.memory.write(TABLES, rsdp)
    vm.memory.write(ACPI_AT, others)
    vm.memory.write(mp_at, mp)
    return TABLES
