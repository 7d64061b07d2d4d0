"""The host bridge: Intel 82441FX (PMC), with the registers that decide what is at C0000h to FFFFFh and A0000h.

Source: Intel 82441FX data sheet (290549), 3.2 "PCI Configuration Space Registers": 3.2.18 "PAM", 3.2.21 "SMRAM".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hypervisor.devices.pci import config_registers as r
from hypervisor.devices.pci.config_registers import ConfigRegister, Identity
from hypervisor.devices.pci.function import PciFunction
from hypervisor.units import KIB

IDENTITY = Identity(0x8086, 0x1237, 0x060000, revision=2)
PAM, SMRAM = 0x59, 0x72

OWN = (
    ConfigRegister(0x50, 2, "PMCCFG", 0x0000, 0xFFFF, "PMC configuration"),
    ConfigRegister(0x52, 1, "DETURBO", 0x00, 0xFF, "deturbo counter"),
    ConfigRegister(0x53, 1, "DBC", 0x80, 0xFF, "data buffer control"),
    ConfigRegister(0x54, 1, "AXC", 0x00, 0xFF, "auxiliary control"),
    ConfigRegister(0x55, 2, "DRT", 0x0000, 0xFFFF, "DRAM row types"),
    ConfigRegister(0x57, 1, "DRAMC", 0x01, 0xFF, "DRAM control"),
    ConfigRegister(0x58, 1, "DRAMT", 0x10, 0xFF, "DRAM timing"),
    ConfigRegister(0x59, 1, "PAM0", 0x00, 0x30, "F0000h-FFFFFh in bits 5:4: bit 0 reads RAM, bit 1 writes it"),
    *(
        ConfigRegister(
            PAM + n, 1, f"PAM{n}", 0x00, 0x33, f"{start:X}h and {start + 0x4000:X}h, 16 KiB each: bits 1:0 and 5:4"
        )
        for n, start in enumerate(range(0xC0000, 0xF0000, 0x8000), 1)
    ),
    *(ConfigRegister(0x60 + n, 1, f"DRB{n}", 0x01, 0xFF, f"end of DRAM row {n}, in 8 MiB") for n in range(8)),
    ConfigRegister(0x68, 1, "FDHC", 0x00, 0xFF, "fixed DRAM hole"),
    ConfigRegister(0x70, 1, "MTT", 0x00, 0xF8, "multi-transaction timer"),
    ConfigRegister(0x71, 1, "CLT", 0x10, 0xFF, "CPU latency timer"),
    ConfigRegister(0x72, 1, "SMRAM", 0x02, 0x48, "where SMRAM is; locked open for nobody: there is no SMM"),
    ConfigRegister(0x90, 1, "ERRCMD", 0x00, 0xFF, "error reporting"),
    ConfigRegister(0x91, 1, "ERRSTS", 0x00, 0x00, "errors", clears=0x11),
    ConfigRegister(0x93, 1, "TRC", 0x00, 0x0E, "turbo and reset control"),
)


class Segment(NamedTuple):
    """A range below 1 MiB whose accesses a PAM register directs: two bits of ``register`` from bit ``shift`` up."""

    start: int
    size: int
    register: int
    shift: int


SEGMENTS = (
    *(
        Segment(0xC0000 + 16 * KIB * n, 16 * KIB, PAM + 1 + n // 2, 4 * (n % 2))  # nibbles, low one first
        for n in range(12)
    ),
    Segment(0xF0000, 64 * KIB, PAM, 4),
)
READ_RAM, WRITE_RAM = 1, 2


class I440Fx(PciFunction):
    """The host bridge.

    ``on_pam(segment, access)`` is told of each segment whose access changes: `READ_RAM`, `WRITE_RAM`, both or
    neither; what does not go to RAM goes to the ROM on the bus.
    """

    def __init__(self, on_pam: Callable[[Segment, int], object] | None = None, name: str = "i440fx") -> None:
        self.on_pam = on_pam
        self._access = dict.fromkeys(SEGMENTS, 0)
        super().__init__(
            name, IDENTITY, own=OWN, command=r.COMMAND_MEMORY | r.COMMAND_MASTER, command_writable=0x0140, status=0x0280
        )

    def access(self, segment: Segment) -> int:
        """What the PAM registers say of a segment."""
        return self._access[segment]

    def changed(self, where: range) -> None:
        """PAM registers direct accesses from now on."""
        super().changed(where)
        for segment in SEGMENTS:
            access = self._s.config[segment.register] >> segment.shift & 3
            if access != self._access[segment]:
                self._access[segment] = access
                if self.on_pam is not None:
                    self.on_pam(segment, access)
