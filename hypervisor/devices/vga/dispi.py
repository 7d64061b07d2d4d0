"""The Bochs display interface: 16-bit registers behind ports 1CEh (index) and 1CFh (data), for linear modes.

Source: Bochs, "VBE Display API" (iodev/display, vbe display interface); QEMU docs/specs/standard-vga, whose
limits and whose corrections of what a guest asks for are the ones here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hypervisor.devices.parts.common import Register
from hypervisor.devices.parts.device_state import adopt, refuse
from hypervisor.state import InRecord, number, numbers, record

if TYPE_CHECKING:
    from hypervisor.devices.vga.adapter import Vga

SIZE = 3
"""Bytes of the register window: the index at 0, the data at 1 (16 bits each, so they overlap)."""

ID, XRES, YRES, BPP, ENABLE, BANK, VIRT_WIDTH, VIRT_HEIGHT, X_OFFSET, Y_OFFSET, MEMORY_64K = range(11)
REGISTERS = (
    Register(ID, "ID", "rw", "interface version, B0C0h to B0C5h"),
    Register(XRES, "XRES", "rw", "width in pixels, a multiple of 8"),
    Register(YRES, "YRES", "rw", "height in pixels"),
    Register(BPP, "BPP", "rw", "bits per pixel: 4, 8, 15, 16, 24 or 32"),
    Register(ENABLE, "ENABLE", "rw", "see the ENABLE_ bits"),
    Register(BANK, "BANK", "rw", "64 KiB of the memory that A0000h shows"),
    Register(VIRT_WIDTH, "VIRT_WIDTH", "rw", "pixels from one line to the next"),
    Register(VIRT_HEIGHT, "VIRT_HEIGHT", "r", "lines that fit into the memory"),
    Register(X_OFFSET, "X_OFFSET", "rw", "first pixel shown"),
    Register(Y_OFFSET, "Y_OFFSET", "rw", "first line shown"),
    Register(MEMORY_64K, "VIDEO_MEMORY_64K", "r", "size of the memory in 64 KiB"),
)
COUNT = MEMORY_64K
VERSION = 0xB0C5
VERSIONS = range(0xB0C0, 0xB0C6)
ENABLED, GET_CAPABILITIES, EIGHT_BIT_DAC, LINEAR, KEEP_MEMORY = 0x01, 0x02, 0x20, 0x40, 0x80
MAX_WIDTH, MAX_HEIGHT, MAX_BPP = 16000, 12000, 32
DEPTHS = {4: 4, 8: 8, 15: 16, 16: 16, 24: 24, 32: 32}
"""Bits that a pixel takes in memory."""


class LinearMode(NamedTuple):
    """What the interface shows: all in pixels but ``pitch`` and ``start``, which are in bytes."""

    width: int
    height: int
    depth: int
    pitch: int
    start: int


@record
class DispiState:
    """The index and the registers."""

    index: int = number(0, 0xFFFF)
    registers: list[int] = numbers(COUNT, 0, 0xFFFF, (VERSION, *[0] * (COUNT - 1)), exact=True)


class Dispi(InRecord[DispiState]):
    """The interface of one adapter."""

    def __init__(self, vga: Vga, name: str = "vga-dispi") -> None:
        self.name = name
        self._vga = vga
        self._s = DispiState()

    # ---- for the adapter

    @property
    def enabled(self) -> bool:
        """Whether it, and not the VGA, is shown."""
        return bool(self._s.registers[ENABLE] & ENABLED)

    @property
    def bank(self) -> int:
        """The bank that A0000h shows."""
        return self._s.registers[BANK] if self.enabled else 0

    @property
    def eight_bit_dac(self) -> bool:
        """Whether colours have 8 bits for each of red, green and blue."""
        return bool(self._s.registers[ENABLE] & EIGHT_BIT_DAC)

    @property
    def mode(self) -> LinearMode:
        """What it shows while it is enabled."""
        registers = self._s.registers
        bits = DEPTHS[registers[BPP]]
        pitch = registers[VIRT_WIDTH] * bits >> 3
        start = registers[Y_OFFSET] * pitch + (registers[X_OFFSET] * bits >> 3)
        return LinearMode(registers[XRES], registers[YRES], registers[BPP], pitch, start)

    # ---- device contract

    def read(self, offset: int, size: int) -> int:
        """See `hypervisor.bus.Device.read`. Only 16-bit accesses mean something."""
        if size != 2:
            return (1 << 8 * size) - 1
        return self._s.index if offset == 0 else self.get(self._s.index)

    def write(self, offset: int, size: int, value: int) -> None:
        """See `hypervisor.bus.Device.write`."""
        if size != 2:
            return
        if offset == 0:
            self._s.index = value
        else:
            self.set(self._s.index, value)

    def get(self, index: int) -> int:
        """The register of this index; 0 for what does not exist."""
        registers = self._s.registers
        if index == MEMORY_64K:
            return self._vga.memory.banks
        if index >= COUNT:
            return 0
        limits = {XRES: MAX_WIDTH, YRES: MAX_HEIGHT, BPP: MAX_BPP}
        if registers[ENABLE] & GET_CAPABILITIES and index in limits:
            return limits[index]
        return registers[index]

    def set(self, index: int, value: int) -> None:
        """Write the register of this index; those that do not exist ignore it."""
        registers = self._s.registers
        if index == ID:
            if value in VERSIONS:
                registers[ID] = value
        elif index == ENABLE:
            self._enable(value)
        elif index == BANK:
            registers[BANK] = value % self._vga.memory.banks
            self._vga.refresh()
        elif index in (XRES, YRES, BPP, VIRT_WIDTH, X_OFFSET, Y_OFFSET):
            registers[index] = value
            self._correct()

    def reset(self) -> None:
        """Disabled, as at power-on."""
        self._s = DispiState()
        self._vga.refresh()

    def state(self) -> DispiState:
        """A copy of all mutable state."""
        return DispiState(self._s.index, list(self._s.registers))

    def restore(self, state: DispiState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        new = adopt(self.name, DispiState, state)
        old, self._s = self._s, new
        if new.registers[BANK] >= self._vga.memory.banks or (self.enabled and not self._fits()):
            self._s = old
            raise refuse(self.name, "registers show what lies beyond the video memory")
        self._vga.refresh(restored=True)

    # ---- modes

    def _enable(self, value: int) -> None:
        registers = self._s.registers
        before = self.enabled
        if value & ENABLED and not before:
            registers[VIRT_WIDTH] = registers[X_OFFSET] = registers[Y_OFFSET] = 0
            registers[ENABLE] = value
            self._correct()
            mode = self.mode
            self._vga.enter_linear(mode)
            if not value & KEEP_MEMORY:
                self._vga.memory.vram.zero(mode.height * mode.pitch)
        registers[ENABLE] = value
        if not value & ENABLED:
            registers[BANK] = 0
        elif before:
            self._correct()
        self._vga.refresh()

    def _correct(self) -> None:
        """Make what the guest asked for possible, while the interface is enabled."""
        if not self.enabled:
            return
        registers = self._s.registers
        if registers[BPP] not in DEPTHS:
            registers[BPP] = 8
        bits = DEPTHS[registers[BPP]]
        size = self._vga.memory.vram.size
        registers[XRES] = min(max(registers[XRES] & ~7, 8), MAX_WIDTH)
        registers[VIRT_WIDTH] = max(min(registers[VIRT_WIDTH] & ~7, MAX_WIDTH), registers[XRES])
        pitch = registers[VIRT_WIDTH] * bits >> 3
        lines = min(size // pitch, 0xFFFF)
        registers[YRES] = min(max(registers[YRES], 1), MAX_HEIGHT, lines)
        registers[VIRT_HEIGHT] = lines
        registers[X_OFFSET] = min(registers[X_OFFSET], MAX_WIDTH)
        registers[Y_OFFSET] = min(registers[Y_OFFSET], MAX_HEIGHT)
        if not self._fits():
            registers[Y_OFFSET] = 0
            if not self._fits():
                registers[X_OFFSET] = 0

    def _fits(self) -> bool:
        registers = self._s.registers
        if registers[BPP] not in DEPTHS or not 8 <= registers[XRES] <= registers[VIRT_WIDTH] or not registers[YRES]:
            return False
        mode = self.mode
        return mode.start + mode.height * mode.pitch <= self._vga.memory.vram.size
