"""The machine that tables describe, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LegacyDevice:
    """A device of the ISA bus: its name in the namespace (four characters), its Plug and Play id, and what it uses.

    ``ports`` are pairs of the first port and their number, ``irqs`` its interrupt requests.
    """

    name: str
    hid: str
    ports: tuple[tuple[int, int], ...] = ()
    irqs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pci:
    """The PCI bus: bus 0 with an ISA bridge as device 1 that routes four wires to interrupt requests."""

    memory: tuple[int, int]
    """Addresses, first and end, where device memory can be."""
    irqs: tuple[int, ...] = (5, 10, 11)
    """Interrupt requests that the wires can be routed to; all level-triggered."""
    routing: int = 0x60
    """The ISA bridge's register of the first wire, one byte for each (PIRQRC in the 82371SB)."""


@dataclass(frozen=True)
class Platform:
    """A PC with ``cpus`` processors, whose local APIC ids are 0 to ``cpus`` - 1. Addresses are guest-physical."""

    cpus: int = 1
    local_apic: int = 0xFEE00000
    io_apic: int = 0xFEC00000
    io_apic_id: int = 0
    io_apic_version: int = 0x11
    timer_pin: int = 2
    """The I/O APIC's input that IRQ 0 is on."""
    sci: int = 9
    """The system control interrupt, level-triggered."""
    pm_ports: int = 0x600
    """PM1 events here, PM1 control 4 and the PM timer 8 above."""
    smi_command: int = 0xB2
    acpi_enable: int = 0xF1
    acpi_disable: int = 0xF0
    reset_port: int = 0xCF9
    reset_value: int = 0x06
    century: int = 0x32
    """The RTC's register with the century, 0 if it has none."""
    sleep_type_s5: int = 0
    hpet: int | None = None
    """Where the HPET's registers are, with `hpet_id` in the first."""
    hpet_id: int = 0
    devices: tuple[LegacyDevice, ...] = ()
    pci: Pci | None = None

    @property
    def level_irqs(self) -> tuple[int, ...]:
        """ISA interrupts that are level-triggered."""
        return tuple(sorted({self.sci, *(self.pci.irqs if self.pci else ())}))
