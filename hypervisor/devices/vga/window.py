"""What the guest's accesses to A0000h to BFFFFh mean at the moment: plain memory, or work for the graphics controller.

Where every access simply reads or writes a byte, the guest gets memory; everything else goes to `planes.Planes`.
Source: IBM PS/2 Hardware Interface Technical Reference, "Video subsystem", memory maps and graphics controller.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from hypervisor.devices.vga import vga_registers as r
from hypervisor.devices.vga.vga_state import VgaState

APERTURE = 0x20000
"""Bytes from A0000h on in which the adapter may answer."""


class Kind(Enum):
    """How the guest reaches the memory."""

    DEVICE = auto()
    """Through the graphics controller, byte by byte."""
    TEXT = auto()
    """Planes 0 and 1 in turn, as memory."""
    LINEAR = auto()
    """All four planes in turn (chain 4), as memory."""


class Window(NamedTuple):
    """``where`` counts from A0000h, ``offset`` in bytes from the start of the video memory."""

    kind: Kind
    where: range = range(0)
    offset: int = 0


DEVICE = Window(Kind.DEVICE)


def may_be_memory(s: VgaState) -> bool:
    """Whether addresses are chained in a way that could be plain memory."""
    return bool(r.SEQ_CHAIN_4.of(s.sequencer) or not r.SEQ_SEQUENTIAL.of(s.sequencer))


def window(s: VgaState, bank: int) -> Window:
    """The window for a state; ``bank`` is the Bochs bank, in units of 64 KiB."""
    plain = (
        s.misc & r.MISC_RAM
        and not s.graphics[r.GR_ENABLE_SET_RESET]
        and not s.graphics[r.GR_ROTATE]
        and not r.GR_WRITE_MODE.of(s.graphics)
        and not r.GR_READ_MODE.of(s.graphics)
        and s.graphics[r.GR_BIT_MASK] == 0xFF
    )
    if not plain:
        return DEVICE
    which = r.GR_MEMORY_MAP.of(s.graphics)
    where, mask = r.MEMORY_MAPS[which], r.SEQ_MASK.of(s.sequencer)
    if r.SEQ_CHAIN_4.of(s.sequencer):
        return Window(Kind.LINEAR, where, bank << 16 if which == 1 else 0) if mask == 0xF else DEVICE
    if r.SEQ_SEQUENTIAL.of(s.sequencer) or not r.GR_ODD_EVEN.of(s.graphics) or which < 2:
        return DEVICE
    return Window(Kind.TEXT, where) if mask == 0x3 and not s.graphics[r.GR_READ_MAP] & 2 else DEVICE
