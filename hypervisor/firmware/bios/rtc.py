"""The real-time clock as the BIOS reaches it: through ports 70h and 71h (MC146818A data sheet, "Register B")."""

from __future__ import annotations

from hypervisor.firmware.bios.call import Ports

INDEX_PORT, DATA_PORT = 0x70, 0x71
SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR, REGISTER_B, CENTURY = 0x00, 0x02, 0x04, 0x07, 0x08, 0x09, 0x0B, 0x32
DAYLIGHT, BINARY, PERIODIC, SET = 1 << 0, 1 << 2, 1 << 6, 1 << 7


class Rtc:
    """The registers, and the fields of its date and time in BCD, whatever format the guest has set it to."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def read(self, register: int) -> int:
        """A register as it is."""
        self._ports.write(INDEX_PORT, 1, register)
        return self._ports.read(DATA_PORT, 1)

    def write(self, register: int, value: int) -> None:
        """Store a register as it is."""
        self._ports.write(INDEX_PORT, 1, register)
        self._ports.write(DATA_PORT, 1, value)

    def field(self, register: int) -> int:
        """A field of the date or time."""
        value = self.read(register)
        return value // 10 << 4 | value % 10 if self._converts(register) else value

    def set_fields(self, fields: dict[int, int]) -> None:
        """Store fields by register, while updates are held off."""
        mode = self.read(REGISTER_B)
        self.write(REGISTER_B, mode | SET)
        for register, value in fields.items():
            self.write(register, from_bcd(value) if self._converts(register) else value)
        self.write(REGISTER_B, mode & ~SET)

    def _converts(self, register: int) -> bool:
        return bool(self.read(REGISTER_B) & BINARY) and register != CENTURY


def from_bcd(raw: int) -> int:
    """The number that two packed decimal digits mean."""
    return (raw >> 4) * 10 + (raw & 0xF)
