r"""The DSDT's contents: S5, the processors, the PCI bus with its interrupt routing, and the devices of the ISA bus.

In ASL it would begin like this::

    Name (\_S5, Package () {Zero, Zero, Zero, Zero})
    Scope (\_SB) {
        Device (C000) {Name (_HID, "ACPI0007") Name (_UID, Zero)}
        Device (PCI0) {Name (_HID, EisaId ("PNP0A03")) ... Device (ISA) {...}}
        Device (LNKA) {...}
    }

Source: ACPI specification 6.5, 6.2.13 "_PRT", 7.4.2 "\_Sx", 8.4 "Declaring Processors"; PCI Firmware Specification
3.3, 4.1.
"""

from __future__ import annotations

from hypervisor.acpi import aml
from hypervisor.acpi import resources as res
from hypervisor.acpi.platform import LegacyDevice, Pci, Platform

WIRES = "ABCD"
_PRESENT_DISABLED, _PRESENT_ENABLED = 0x09, 0x0B
_NOT_ROUTED = 0x80
_FIRST_INTERRUPT = 5
"""Offset of the first number in an interrupt descriptor."""


def dsdt(platform: Platform) -> bytes:
    """The AML behind the DSDT's header."""
    s5 = aml.integer(platform.sleep_type_s5)
    system = [_processor(number) for number in range(platform.cpus)]
    devices = [_legacy(device) for device in platform.devices]
    if platform.pci is None:
        system += devices
    else:
        system += [_root_bridge(platform.pci, devices), *(_link(platform.pci, n) for n in range(4))]
    return aml.name("\\_S5", aml.package(s5, s5, aml.ZERO, aml.ZERO)) + aml.scope("\\_SB", *system)


def _processor(number: int) -> bytes:
    return aml.device(f"C{number:03X}", aml.name("_HID", aml.string("ACPI0007")), aml.name("_UID", aml.integer(number)))


def _legacy(device: LegacyDevice) -> bytes:
    uses = [res.io(start, count) for start, count in device.ports]
    if device.irqs:
        uses.append(res.irq(*device.irqs))
    return aml.device(
        device.name,
        aml.name("_HID", aml.eisa_id(device.hid)),
        aml.name("_UID", aml.integer(int(device.name[-1]) if device.name[-1].isdigit() else 0)),
        aml.name("_STA", aml.integer(0x0F)),
        aml.name("_CRS", res.template(*uses)),
    )


def _root_bridge(pci: Pci, devices: list[bytes]) -> bytes:
    return aml.device(
        "PCI0",
        aml.name("_HID", aml.eisa_id("PNP0A03")),
        aml.name("_UID", aml.ZERO),
        aml.name(
            "_CRS",
            res.template(
                res.bus_numbers(0, 0x100),
                res.io(0xCF8, 8),
                res.io_range(0, 0xCF8),
                res.io_range(0xD00, 0x10000),
                res.memory_range(0xA0000, 0xC0000, cacheable=True),
                res.memory_range(*pci.memory),
            ),
        ),
        aml.name("_PRT", _routing()),
        _isa_bridge(pci, devices),
    )


def _routing() -> bytes:
    """Which link each pin of each slot is on: the pins rotate by slot, slot 1 beginning with LNKA."""
    return aml.package(
        *(
            aml.package(
                aml.integer(slot << 16 | 0xFFFF),
                aml.integer(pin),
                aml.path(f"LNK{WIRES[(slot - 1 + pin) % 4]}"),
                aml.ZERO,
            )
            for slot in range(32)
            for pin in range(4)
        )
    )


def _isa_bridge(pci: Pci, devices: list[bytes]) -> bytes:
    return aml.device(
        "ISA",
        aml.name("_ADR", aml.integer(1 << 16)),
        aml.region("PIRQ", aml.PCI_CONFIG, pci.routing, len(WIRES)),
        aml.byte_fields("PIRQ", *(f"PRQ{wire}" for wire in WIRES)),
        *devices,
    )


def _link(pci: Pci, number: int) -> bytes:
    """The interrupt link of one wire: the routing register of the ISA bridge (6.2.15 "_SRS", PNP0C0F)."""
    wire = WIRES[number]
    register = aml.path(f"\\_SB.PCI0.ISA.PRQ{wire}")
    return aml.device(
        f"LNK{wire}",
        aml.name("_HID", aml.eisa_id("PNP0C0F")),
        aml.name("_UID", aml.integer(number + 1)),
        aml.name("USED", res.template(res.level_interrupts(0))),
        aml.name("_PRS", res.template(res.level_interrupts(*pci.irqs))),
        aml.method(
            "_STA",
            0,
            aml.if_(aml.bit_and(register, aml.integer(_NOT_ROUTED)), aml.return_(aml.integer(_PRESENT_DISABLED))),
            aml.return_(aml.integer(_PRESENT_ENABLED)),
        ),
        aml.method("_DIS", 0, aml.bit_or(register, aml.integer(_NOT_ROUTED), register)),
        aml.method(
            "_CRS",
            0,
            aml.create_dword_field(aml.path("USED"), _FIRST_INTERRUPT, "IRQN"),
            aml.if_(aml.less(register, aml.integer(_NOT_ROUTED)), aml.store(register, aml.path("IRQN"))),
            aml.return_(aml.path("USED")),
            serialized=True,
        ),
        aml.method(
            "_SRS",
            1,
            aml.create_dword_field(aml.ARG0, _FIRST_INTERRUPT, "IRQN"),
            aml.store(aml.path("IRQN"), register),
            serialized=True,
        ),
    )
