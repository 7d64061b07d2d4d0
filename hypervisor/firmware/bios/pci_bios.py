"""INT 1Ah AH=B1h: the PCI BIOS, over configuration mechanism 1.

Source: PCI SIG, PCI BIOS Specification 2.1, section 4 "PCI BIOS Function Descriptions". There is no 32-bit entry: EDI
is zero in the answer to the installation check.
"""

from __future__ import annotations

from collections.abc import Iterator

from hypervisor.firmware.bios.call import UNSERVED, Call, Outcome, Ports
from hypervisor.firmware.bios.service import service

SUCCESSFUL, BAD_VENDOR, NOT_FOUND, BAD_REGISTER = 0x00, 0x83, 0x86, 0x87
SIGNATURE = int.from_bytes(b"PCI ", "little")
VERSION, MECHANISM_1 = 0x0210, 0x01
ADDRESS, DATA, ENABLE = 0xCF8, 0xCFC, 1 << 31
MULTI_FUNCTION = 0x80


class PciBios:
    """The PCI services; without ``ports``, or without a bus behind them, there is no PCI BIOS."""

    def __init__(self, ports: Ports | None) -> None:
        self.ports = ports

    @service(0x1A, 0xB101, "PCI: is there a PCI BIOS?")
    def _check(self, call: Call) -> Outcome:
        if self._read(0, 0, 4) == 0xFFFFFFFF:
            return UNSERVED
        regs = call.regs
        regs.edx, regs.edi = SIGNATURE, 0
        regs.bx, regs.cl, regs.al = VERSION, 0, MECHANISM_1
        return self._done(call, SUCCESSFUL)

    @service(0x1A, 0xB102, "PCI: find a device")
    def _find_device(self, call: Call) -> Outcome:
        regs = call.regs
        if regs.dx == 0xFFFF:
            return self._done(call, BAD_VENDOR)
        wanted = regs.cx << 16 | regs.dx
        return self._find(call, (who for who in self._functions() if self._read(who, 0, 4) == wanted))

    @service(0x1A, 0xB103, "PCI: find a class")
    def _find_class(self, call: Call) -> Outcome:
        wanted = call.regs.ecx & 0xFFFFFF
        return self._find(call, (who for who in self._functions() if self._read(who, 8, 4) >> 8 == wanted))

    @service(0x1A, 0xB108, "PCI: read a byte")
    @service(0x1A, 0xB109, "PCI: read a word")
    @service(0x1A, 0xB10A, "PCI: read a dword")
    def _read_register(self, call: Call) -> Outcome:
        regs, size = call.regs, 1 << call.regs.al - 0x08
        if self.ports is None or not _is_register(regs.di, size):
            return self._done(call, BAD_REGISTER)
        value = self._read(regs.bx, regs.di, size)
        if size == 1:
            regs.cl = value
        elif size == 2:
            regs.cx = value
        else:
            regs.ecx = value
        return self._done(call, SUCCESSFUL)

    @service(0x1A, 0xB10B, "PCI: write a byte")
    @service(0x1A, 0xB10C, "PCI: write a word")
    @service(0x1A, 0xB10D, "PCI: write a dword")
    def _write_register(self, call: Call) -> Outcome:
        regs, size = call.regs, 1 << call.regs.al - 0x0B
        if self.ports is None or not _is_register(regs.di, size):
            return self._done(call, BAD_REGISTER)
        self.ports.write(ADDRESS, 4, ENABLE | regs.bx << 8 | regs.di & 0xFC)
        self.ports.write(DATA + (regs.di & 3), size, regs.ecx & (1 << 8 * size) - 1)
        return self._done(call, SUCCESSFUL)

    def _read(self, who: int, register: int, size: int) -> int:
        return (1 << 8 * size) - 1 if self.ports is None else read_config(self.ports, who, register, size)

    def _functions(self) -> Iterator[int]:
        """Every function of bus 0, in order."""
        for device in range(32):
            if self._read(device << 3, 0, 4) == 0xFFFFFFFF:
                continue
            many = self._read(device << 3, 0x0E, 1) & MULTI_FUNCTION
            for function in range(8 if many else 1):
                if self._read(device << 3 | function, 0, 4) != 0xFFFFFFFF:
                    yield device << 3 | function

    def _find(self, call: Call, matching: Iterator[int]) -> Outcome:
        """The match number SI, in BX."""
        found = list(matching)
        if call.regs.si >= len(found):
            return self._done(call, NOT_FOUND)
        call.regs.bx = found[call.regs.si]
        return self._done(call, SUCCESSFUL)

    @staticmethod
    def _done(call: Call, code: int) -> Outcome:
        if code != SUCCESSFUL:
            return call.fail(code)
        call.regs.ah = SUCCESSFUL
        return call.ok()


def read_config(ports: Ports, who: int, register: int, size: int) -> int:
    """``size`` bytes of configuration; ``who`` is bus, device and function as 16 bits."""
    ports.write(ADDRESS, 4, ENABLE | who << 8 | register & 0xFC)
    return ports.read(DATA + (register & 3), size)


def _is_register(register: int, size: int) -> bool:
    return register < 0x100 and register % size == 0
