"""The display adapter on the board: its memory, the aperture below 1 MiB, the frame buffer in its PCI window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.console.screen import Screen
from hypervisor.devices.pci import PciFunction
from hypervisor.devices.pci.config_registers import Identity, memory_bar
from hypervisor.devices.vga import Kind, Vga, Window, dispi, mmio, vga_registers
from hypervisor.devices.vga.video_memory import TEXT_SIZE
from hypervisor.devices.vga.window import APERTURE
from hypervisor.errors import ConfigError
from hypervisor.machine import pci
from hypervisor.units import MIB
from hypervisor.vm.board import Part, Parts

if TYPE_CHECKING:
    from hypervisor.vm.device_memory import MemoryBlock
    from hypervisor.vm.vm import VM

VRAM_SIZE = 16 * MIB
"""As QEMU's standard VGA has by default."""
APERTURE_AT = 0xA0000
FRAME_BUFFER_AT = 0xFD000000
"""Where firmware places the frame buffer, and where it is on a board without PCI."""
IDENTITY = Identity(0x1234, 0x1111, 0x030000, revision=2)
FRAME_BUFFER, REGISTERS = "vram", "registers"
"""The windows of the PCI function: base addresses 0 and 2."""
_FRAME_BUFFER = "frame buffer"


class Aperture:
    """Shows the guest, at A0000h to BFFFFh, the memory that the adapter's registers say."""

    def __init__(self, vram: MemoryBlock, text: MemoryBlock) -> None:
        self._vram, self._text = vram, text
        self._shown: tuple[MemoryBlock, int] | None = None

    def show(self, window: Window) -> None:
        """The adapter's `Vga` callback; accesses that hit no memory reach its planes."""
        if self._shown is not None:
            block, at = self._shown
            block.unmap(at)
            self._shown = None
        if window.kind is Kind.DEVICE:
            return
        block = self._text if window.kind is Kind.TEXT else self._vram
        at = APERTURE_AT + window.where.start
        block.map(at, window.offset, min(len(window.where), block.size - window.offset))
        self._shown = block, at


class FrameBuffer:
    """The frame buffer's place in the guest-physical address space."""

    def __init__(self, vram: MemoryBlock) -> None:
        self._vram = vram
        self._at: int | None = None

    def move(self, address: int | None) -> None:
        """The PCI window has moved; None: it is not decoded."""
        if self._at is not None:
            self._vram.unmap(self._at)
        self._at = address
        if address is not None:
            self._vram.map(address)


def _vga(vm: VM, parts: Parts) -> Vga:
    vm.hide_memory(range(APERTURE_AT, APERTURE_AT + APERTURE))
    vram = vm.add_memory(None, VRAM_SIZE, "vga")
    text = vm.add_memory(None, TEXT_SIZE, "vga-text")
    vga = Vga(vm.clock, vram, text, Aperture(vram, text).show, blank=vm.goes_on)
    parts.once(_FRAME_BUFFER, FrameBuffer, lambda: FrameBuffer(vram))
    vm.screen = Screen(vm, vga)
    vm.searched.append(vm.screen)
    return vga


def function() -> PciFunction:
    """The adapter as a PCI function: QEMU's standard VGA, by its IDs."""
    bars = (memory_bar(0, VRAM_SIZE, FRAME_BUFFER, prefetchable=True), memory_bar(2, mmio.SIZE, REGISTERS))
    return PciFunction("vga-pci", IDENTITY, bars, status=0)


def wire(vm: VM, parts: Parts) -> None:
    """Put the frame buffer where PCI says, or in a fixed place on a board without PCI."""
    vga, adapter = parts.get("vga", Vga), parts.get("vga-pci", PciFunction)
    if vga is None:
        return
    shown = parts.once(_FRAME_BUFFER, FrameBuffer, _no_frame_buffer)
    if adapter is not None and "pci" in parts:
        adapter.on_move(FRAME_BUFFER, shown.move)
        pci.windows(vm, parts).device(adapter, REGISTERS, vga.mmio)
    else:
        shown.move(FRAME_BUFFER_AT)


def _no_frame_buffer() -> FrameBuffer:
    raise ConfigError("the board's part 'vga' is another adapter; make its frame buffer in the board's wire, too.")


def _ports(start: int, stop: int) -> tuple[range, int]:
    return range(start, stop), vga_registers.PORT_BASE


PARTS = (
    Part("vga", _vga, (_ports(0x3B4, 0x3B6), _ports(0x3BA, 0x3BB), _ports(0x3C0, 0x3E0))),
    Part(
        "vga-planes",
        lambda vm, p: p.need("vga", Vga).planes,
        mmio=((range(APERTURE_AT, APERTURE_AT + APERTURE), APERTURE_AT),),
    ),
    Part("vga-dispi", lambda vm, p: p.need("vga", Vga).dispi, ((range(0x1CE, 0x1CE + dispi.SIZE), 0x1CE),)),
    Part("vga-pci", lambda vm, p: function(), slot=(2, 0)),
)
"""The parts of the board that are its display adapter."""
