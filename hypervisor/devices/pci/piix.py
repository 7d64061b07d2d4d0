"""The south bridge: 82371SB (PIIX3) ISA bridge and IDE, and the power management function of the 82371AB (PIIX4).

Sources: Intel 82371FB/82371SB data sheet (290550), 2.2 and 2.3; Intel 82371AB data sheet (290562), 7.1. Emulated PCs
have long had this mixture, and firmware and guests know it.
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.devices.pci import config_registers as r
from hypervisor.devices.pci.config_registers import ConfigRegister, Identity, Space, Window, io_bar
from hypervisor.devices.pci.function import PciFunction

ISA = Identity(0x8086, 0x7000, 0x060100, multi_function=True)
IDE = Identity(0x8086, 0x7010, 0x010180)
PM = Identity(0x8086, 0x7113, 0x068000, revision=3, pin=1)

PIRQRC = 0x60
PIRQRC_OFF, PIRQRC_IRQ = 0x80, 0x0F
ROUTABLE = frozenset((3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15))
"""Interrupt requests that a PIRQ may be routed to (82371SB, 2.2.10)."""

ISA_OWN = (
    ConfigRegister(0x4C, 1, "IORT", 0x4D, 0xFF, "ISA recovery times"),
    ConfigRegister(0x4E, 2, "XBCS", 0x0003, 0xFFFF, "X-bus chip selects"),
    *(
        ConfigRegister(PIRQRC + n, 1, f"PIRQRC{'ABCD'[n]}", 0x80, 0x8F, "bit 7: not routed; bits 3:0: to this IRQ")
        for n in range(4)
    ),
    ConfigRegister(0x69, 1, "TOM", 0x02, 0xFE, "top of memory for ISA masters"),
    ConfigRegister(0x6A, 2, "MSTAT", 0x0000, 0x0000, "errors", clears=0x8000),
    ConfigRegister(0x70, 2, "MBIRQ", 0x8080, 0xEFEF, "motherboard device IRQ routing"),
    ConfigRegister(0x76, 2, "MBDMA", 0x0C0C, 0x8F8F, "motherboard device DMA routing"),
    ConfigRegister(0x78, 2, "PCSC", 0x0002, 0xFFFF, "programmable chip select"),
    ConfigRegister(0x80, 1, "APICBASE", 0x00, 0x7F, "where the IOAPIC is"),
    ConfigRegister(0x82, 1, "DLC", 0x00, 0x0F, "deterministic latency"),
    ConfigRegister(0xA0, 1, "SMICNTL", 0x08, 0x1F, "SMI control"),
    ConfigRegister(0xA2, 2, "SMIEN", 0x0000, 0x00FF, "SMI enables"),
    ConfigRegister(0xA4, 4, "SEE", 0x00000000, 0xA000FBFF, "system events"),
    ConfigRegister(0xA8, 1, "FTMR", 0x0F, 0xFF, "fast-off timer"),
    ConfigRegister(0xAA, 2, "SMIREQ", 0x0000, 0x0000, "SMI requests", clears=0x00FF),
    ConfigRegister(0xAC, 1, "CTLTMR", 0x00, 0xFF, "clock throttle low timer"),
    ConfigRegister(0xAE, 1, "CTHTMR", 0x00, 0xFF, "clock throttle high timer"),
)

IDE_OWN = (
    ConfigRegister(0x40, 4, "IDETIM", 0x00000000, 0xFFFFFFFF, "timings; bits 15 and 31 decode a channel"),
    ConfigRegister(0x44, 1, "SIDETIM", 0x00, 0xFF, "timings of the slaves"),
)

IDETIM = 0x40
PMBA, PMREGMISC, SMBBA, SMBHSTCFG = 0x40, 0x80, 0x90, 0xD2
PM_OWN = (
    ConfigRegister(0x40, 4, "PMBA", 0x00000001, 0x0000FFC0, "base of 64 ports of power management"),
    *(
        ConfigRegister(at, 4, f"DEV{at:02X}", 0, 0xFFFFFFFF, "counters, activity and resources of devices")
        for at in (*range(0x44, 0x58, 4), *range(0x5C, 0x80, 4))
    ),
    # APMC_EN is set: that is how firmware is told that SMM has been set up, and here there is none to set up.
    ConfigRegister(0x58, 4, "DEVACTB", 0x02000000, 0xFFFFFFFF, "device activity B; bit 25: an SMI at writes to b2h"),
    ConfigRegister(0x80, 1, "PMREGMISC", 0x00, 0x01, "bit 0: PMBA is decoded"),
    ConfigRegister(0x90, 4, "SMBBA", 0x00000001, 0x0000FFF0, "base of 16 ports of the SMBus"),
    ConfigRegister(0xD2, 1, "SMBHSTCFG", 0x00, 0x0F, "bit 0: SMBBA is decoded; bits 3:1: its interrupt"),
    ConfigRegister(0xD3, 3, "SMBSLV", 0x000000, 0xFFFFFF, "slave command and shadow addresses"),
)


def ide() -> PciFunction:
    """Function 1: the IDE controller; window ``bmide`` is the bus master's 16 ports."""
    return PciFunction(
        "piix3-ide",
        IDE,
        bars=(io_bar(4, 16, "bmide"),),
        own=IDE_OWN,
        command_writable=r.COMMAND_IO | r.COMMAND_MASTER,
        status=0x0280,
    )


def _ports(base: int, enable: int, mask: int) -> Callable[[bytearray], int | None]:
    def place(config: bytearray) -> int | None:
        address = int.from_bytes(config[base : base + 2], "little") & mask
        return address if config[enable] & 1 and address else None

    return place


def power_management() -> PciFunction:
    """Function 3: power management; window ``pm`` is its 64 ports, ``smbus`` the 16 of the SMBus host."""
    return PciFunction(
        "piix4-pm",
        PM,
        own=PM_OWN,
        windows=(
            Window("pm", 64, Space.IO, _ports(PMBA, PMREGMISC, 0xFFC0)),
            Window("smbus", 16, Space.IO, _ports(SMBBA, SMBHSTCFG, 0xFFF0)),
        ),
        command_writable=r.COMMAND_IO,
        status=0x0280,
    )


class Piix3(PciFunction):
    """Function 0: the ISA bridge, which routes the four PCI interrupt wires to interrupt requests.

    ``irq(number, level)`` is told when one of the requests changes that the wires drive.
    """

    def __init__(self, irq: Callable[[int, bool], object] | None = None, name: str = "piix3") -> None:
        self.irq = irq
        self._wires = [False] * 4
        self._driven: frozenset[int] = frozenset()
        super().__init__(name, ISA, own=ISA_OWN, command=0x0007, command_writable=0x0108)

    def wire(self, number: int, level: bool) -> None:
        """PCI interrupt wire ``number`` (0 to 3) changes."""
        self._wires[number] = level
        self._route()

    def changed(self, where: range) -> None:
        """The routing may have changed."""
        super().changed(where)
        self._route()

    def _route(self) -> None:
        driven = set()
        for number, level in enumerate(self._wires):
            routed = self._s.config[PIRQRC + number]
            if level and not routed & PIRQRC_OFF and routed & PIRQRC_IRQ in ROUTABLE:
                driven.add(routed & PIRQRC_IRQ)
        before, self._driven = self._driven, frozenset(driven)
        if self.irq is not None:
            for number in sorted(before - driven):
                self.irq(number, False)
            for number in sorted(driven - before):
                self.irq(number, True)
