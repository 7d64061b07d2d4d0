"""The graphics controller written bit by bit from the manual, to compare `hypervisor.devices.vga.planes` with.

Source: IBM PS/2 Hardware Interface Technical Reference, "Graphics controller", registers 0 to 8 and "Write mode".
"""

from __future__ import annotations


class Oracle:
    """Four planes of bits, four latches, and registers by name."""

    def __init__(self, size: int) -> None:
        self.planes = [bytearray(size) for _ in range(4)]
        self.latches = [0, 0, 0, 0]
        self.set_reset = self.enable_set_reset = self.compare = self.rotate = self.function = 0
        self.read_map = self.write_mode = self.read_mode = 0
        self.dont_care = self.map_mask = 0xF
        self.bit_mask = 0xFF

    def read(self, at: int) -> int:
        self.latches = [plane[at] for plane in self.planes]
        if self.read_mode == 0:
            return self.latches[self.read_map]
        result = 0
        for bit in range(8):
            cares = [plane for plane in range(4) if self.dont_care >> plane & 1]
            if all(self.latches[plane] >> bit & 1 == self.compare >> plane & 1 for plane in cares):
                result |= 1 << bit
        return result

    def write(self, at: int, value: int) -> None:
        turned = [value >> (bit + self.rotate) % 8 & 1 for bit in range(8)]  # bit n of the rotated value
        for plane in range(4):
            if not self.map_mask >> plane & 1:
                continue
            byte = 0
            for bit in range(8):
                byte |= self._bit(plane, bit, value, turned) << bit
            self.planes[plane][at] = byte

    def _bit(self, plane: int, bit: int, value: int, turned: list[int]) -> int:
        latch = self.latches[plane] >> bit & 1
        if self.write_mode == 1:
            return latch
        masked = self.bit_mask >> bit & 1
        if self.write_mode == 0:
            new = self.set_reset >> plane & 1 if self.enable_set_reset >> plane & 1 else turned[bit]
        elif self.write_mode == 2:
            new = value >> plane & 1
        else:
            masked &= turned[bit]
            new = self.set_reset >> plane & 1
        new = (new, new & latch, new | latch, new ^ latch)[self.function]
        return new if masked else latch
