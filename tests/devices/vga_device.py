"""A VGA with memory of its own, as devices for the contract suite: what is in the memory is part of their state."""

from __future__ import annotations

from typing import Any

from hypervisor.bus.clock import ManualClock
from hypervisor.devices.parts.device_state import adopt
from hypervisor.devices.vga import Vga
from hypervisor.devices.vga.dispi import DispiState
from hypervisor.devices.vga.planes import PlanesState
from hypervisor.devices.vga.vga_state import VgaState
from hypervisor.devices.vga.video_memory import PLANES_SIZE, TEXT_SIZE
from hypervisor.state import data, number, part, record


@record
class WithMemory:
    latch: int = number(0, 0xFFFFFFFF)
    vram: bytearray = data(PLANES_SIZE, exact=True)
    text: bytearray = data(TEXT_SIZE, exact=True)


class PlanesWithMemory:
    """The aperture in a planar mode: write mode 2 with a bit mask, so that the latches matter."""

    name = "vga-planes"
    SIZE = 0x100

    def __init__(self, clock: ManualClock) -> None:
        self.vga = Vga(clock)
        self.reset()

    def read(self, offset: int, size: int) -> int:
        return self.vga.planes.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self.vga.planes.write(offset, size, value)

    def reset(self) -> None:
        self.vga.memory.vram.zero(PLANES_SIZE)
        self.vga.reset()
        self.vga.planes.reset()
        graphics(self.vga, 5, 0x02)
        graphics(self.vga, 6, 0x05)
        graphics(self.vga, 8, 0x5A)
        sequencer(self.vga, 4, 0x06)
        sequencer(self.vga, 2, 0x0F)

    def state(self) -> WithMemory:
        memory = self.vga.memory
        return WithMemory(
            self.vga.planes.state().latch,
            bytearray(memory.vram.read(0, PLANES_SIZE)),
            bytearray(memory.text.read(0, TEXT_SIZE)),
        )

    def restore(self, state: Any) -> None:
        new = adopt(self.name, WithMemory, state)
        self.vga.planes.restore(PlanesState(new.latch))
        self.vga.memory.vram.write(0, bytes(new.vram))
        self.vga.memory.text.write(0, bytes(new.text))


@record
class Adapter:
    vga: VgaState = part(VgaState)
    dispi: DispiState = part(DispiState)


class MmioWithAdapter:
    """The registers in memory space, with what is behind them; offset 0 of this window is 400h of theirs."""

    name = "vga-mmio"
    SIZE = 0x120

    def __init__(self, clock: ManualClock) -> None:
        self.vga = Vga(clock)

    def read(self, offset: int, size: int) -> int:
        return self.vga.mmio.read(offset + 0x400, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self.vga.mmio.write(offset + 0x400, size, value)

    def reset(self) -> None:
        self.vga.reset()
        self.vga.dispi.reset()
        self.vga.mmio.reset()

    def state(self) -> Adapter:
        assert self.vga.mmio.state() == self.vga.mmio.state()
        return Adapter(self.vga.state(), self.vga.dispi.state())

    def restore(self, state: Any) -> None:
        new = adopt(self.name, Adapter, state)
        self.vga.restore(new.vga)
        self.vga.dispi.restore(new.dispi)


def graphics(vga: Vga, index: int, value: int) -> None:
    vga.write(0x1E, 2, value << 8 | index)


def sequencer(vga: Vga, index: int, value: int) -> None:
    vga.write(0x14, 2, value << 8 | index)


def crtc(vga: Vga, index: int, value: int) -> None:
    vga.write(0x24 if vga.read(0x1C, 1) & 1 else 0x04, 2, value << 8 | index)


def attribute(vga: Vga, index: int, value: int) -> None:
    vga.read(0x2A, 1)
    vga.write(0x10, 1, index | 0x20)
    vga.write(0x10, 1, value)


def set_mode(vga: Vga, number: int) -> None:
    """What a BIOS writes for a mode."""
    from hypervisor.arch.vga_modes import MODES, dac

    mode = MODES[number]
    vga.write(0x12, 1, mode.misc)
    for index, value in enumerate(mode.sequencer):
        sequencer(vga, index, value | (3 if index == 0 else 0))
    crtc(vga, 0x11, mode.crtc[0x11] & 0x7F)
    for index, value in enumerate(mode.crtc):
        crtc(vga, index, value)
    for index, value in enumerate(mode.graphics):
        graphics(vga, index, value)
    for index, value in enumerate(mode.attribute):
        attribute(vga, index, value)
    vga.write(0x18, 1, 0)
    for value in dac(mode.palette):
        vga.write(0x19, 1, value)
