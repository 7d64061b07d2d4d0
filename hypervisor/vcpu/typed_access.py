"""Numbers and texts in guest memory, by linear address."""

from __future__ import annotations

from abc import abstractmethod

from hypervisor.units import PAGE_MASK, PAGE_SIZE

LONGEST_TEXT = 4096
"""Bytes at which a text without an end is cut off."""


class TypedAccess:
    """What reads and writes bytes at linear addresses, with what follows from that. Numbers are little-endian and
    unsigned. All raise `GuestFault` where the guest's page tables map nothing.
    """

    __slots__ = ()

    @abstractmethod
    def read(self, gva: int, size: int) -> bytes:
        """``size`` bytes."""

    @abstractmethod
    def write(self, gva: int, data: bytes) -> None:
        """Store bytes."""

    def read_u8(self, gva: int) -> int:
        """The byte at a linear address."""
        return self.read(gva, 1)[0]

    def read_u16(self, gva: int) -> int:
        """The 16-bit number at a linear address."""
        return int.from_bytes(self.read(gva, 2), "little")

    def read_u32(self, gva: int) -> int:
        """The 32-bit number at a linear address."""
        return int.from_bytes(self.read(gva, 4), "little")

    def read_u64(self, gva: int) -> int:
        """The 64-bit number at a linear address."""
        return int.from_bytes(self.read(gva, 8), "little")

    def write_u8(self, gva: int, value: int) -> None:
        """Store a byte. Raises OverflowError, as the others do, for a number that is negative or too wide."""
        self.write(gva, value.to_bytes(1, "little"))

    def write_u16(self, gva: int, value: int) -> None:
        """Store a 16-bit number."""
        self.write(gva, value.to_bytes(2, "little"))

    def write_u32(self, gva: int, value: int) -> None:
        """Store a 32-bit number."""
        self.write(gva, value.to_bytes(4, "little"))

    def write_u64(self, gva: int, value: int) -> None:
        """Store a 64-bit number."""
        self.write(gva, value.to_bytes(8, "little"))

    def read_cstr(self, gva: int, limit: int = LONGEST_TEXT) -> str:
        """The text at a linear address up to its zero byte, which is not part of it, or of ``limit`` bytes.

        Bytes that are no UTF-8 are shown as ``\\xff``. Pages behind the zero byte need not be there.
        """
        content = bytearray()
        while len(content) < limit:
            at = gva + len(content)
            piece = self.read(at, min(PAGE_SIZE - (at & PAGE_MASK), limit - len(content)))
            end = piece.find(0)
            content += piece if end < 0 else piece[:end]
            if end >= 0:
                break
        return content.decode(errors="backslashreplace")


__all__ = ["LONGEST_TEXT", "TypedAccess"]
