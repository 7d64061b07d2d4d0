"""What a configuration space is declared with: registers, base address registers, windows.

Source: PCI Local Bus Specification 3.0, 6.1 "Configuration Space Organization", 6.2.5 "Base Addresses".
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import NamedTuple

SIZE = 256
"""Bytes of a function's configuration space."""

VENDOR_ID, DEVICE_ID, COMMAND, STATUS, REVISION, CLASS_CODE = 0x00, 0x02, 0x04, 0x06, 0x08, 0x09
CACHE_LINE, LATENCY, HEADER_TYPE, BASE_ADDRESS = 0x0C, 0x0D, 0x0E, 0x10
SUBSYSTEM_VENDOR, SUBSYSTEM_ID, ROM_ADDRESS, INTERRUPT_LINE, INTERRUPT_PIN = 0x2C, 0x2E, 0x30, 0x3C, 0x3D

COMMAND_IO, COMMAND_MEMORY, COMMAND_MASTER, COMMAND_SERR, COMMAND_NO_INTX = (
    0x001, 0x002, 0x004, 0x100, 0x400,
)  # fmt: skip
STATUS_INTX, STATUS_DEVSEL_MEDIUM = 0x008, 0x200
MULTI_FUNCTION = 0x80
ROM_ENABLE = 1
BAR_IO, BAR_PREFETCHABLE = 1, 8

EMULATED = (0x1AF4, 0x1100)
"""Subsystem vendor and device that mark the parts of an emulated PC; SeaBIOS looks for them."""


class Space(Enum):
    """Where a window lies."""

    IO = "I/O ports"
    MEMORY = "memory"


class ConfigRegister(NamedTuple):
    """One row: ``width`` bytes at ``offset`` that read ``default`` after a reset.

    Bits of ``writable`` take what is written, bits of ``clears`` are cleared where a one is written.
    """

    offset: int
    width: int
    name: str
    default: int
    writable: int
    meaning: str
    clears: int = 0


class Window(NamedTuple):
    """A range of ``size`` bytes that the function decodes, where ``place`` finds its address in the 256 bytes of
    configuration; None while it is not decoded.
    """

    name: str
    size: int
    space: Space
    place: Callable[[bytearray], int | None]


class Bar(NamedTuple):
    """A base address register: its row of the table, and the window that it moves."""

    register: ConfigRegister
    window: Window


class Identity(NamedTuple):
    """What a function is: IDs and class code (base class, sub-class and interface as one number, 24 bits)."""

    vendor: int
    device: int
    class_code: int
    revision: int = 0
    subsystem: tuple[int, int] = EMULATED
    pin: int = 0
    """INTA# to INTD# as 1 to 4, 0 for none."""
    multi_function: bool = False


def header(identity: Identity, command: int, command_writable: int, status: int) -> tuple[ConfigRegister, ...]:
    """The registers that every function has (6.2): a header of type 0 without its base addresses."""
    kind = MULTI_FUNCTION if identity.multi_function else 0
    return (
        ConfigRegister(VENDOR_ID, 2, "VENDOR_ID", identity.vendor, 0, "who made it"),
        ConfigRegister(DEVICE_ID, 2, "DEVICE_ID", identity.device, 0, "what it is"),
        ConfigRegister(COMMAND, 2, "COMMAND", command, command_writable, "decoding, bus mastering, INTx off"),
        ConfigRegister(STATUS, 2, "STATUS", status, 0, "INTx pending, DEVSEL timing, errors", clears=0xF900),
        ConfigRegister(REVISION, 1, "REVISION", identity.revision, 0, "stepping"),
        ConfigRegister(CLASS_CODE, 3, "CLASS_CODE", identity.class_code, 0, "interface, sub-class, base class"),
        ConfigRegister(CACHE_LINE, 1, "CACHE_LINE", 0, 0xFF, "cache line size in dwords"),
        ConfigRegister(LATENCY, 1, "LATENCY", 0, 0xF8, "latency timer"),
        ConfigRegister(HEADER_TYPE, 1, "HEADER_TYPE", kind, 0, "bit 7: several functions in this slot"),
        ConfigRegister(SUBSYSTEM_VENDOR, 2, "SUBSYSTEM_VENDOR", identity.subsystem[0], 0, "who built it in"),
        ConfigRegister(SUBSYSTEM_ID, 2, "SUBSYSTEM_ID", identity.subsystem[1], 0, "as what"),
        ConfigRegister(INTERRUPT_LINE, 1, "INTERRUPT_LINE", 0, 0xFF, "where firmware routed the pin, for software"),
        ConfigRegister(INTERRUPT_PIN, 1, "INTERRUPT_PIN", identity.pin, 0, "1 to 4: INTA# to INTD#"),
    )


def io_bar(index: int, size: int, name: str) -> Bar:
    """Base address register ``index`` (0 to 5) of ``size`` I/O ports, a power of two of at least 4."""
    return _bar(BASE_ADDRESS + 4 * index, size, name, Space.IO, COMMAND_IO, BAR_IO, 3)


def memory_bar(index: int, size: int, name: str, *, prefetchable: bool = False) -> Bar:
    """Base address register ``index`` of ``size`` bytes of 32-bit memory space, a power of two of at least 16."""
    flags = BAR_PREFETCHABLE if prefetchable else 0
    return _bar(BASE_ADDRESS + 4 * index, size, name, Space.MEMORY, COMMAND_MEMORY, flags, 15)


def rom_bar(size: int, name: str) -> Bar:
    """The expansion ROM's base address (6.2.5.2): ``size`` is a power of two of at least 2 KiB."""
    return _bar(ROM_ADDRESS, size, name, Space.MEMORY, COMMAND_MEMORY, 0, 0x7FF)


@cache
def _bar(offset: int, size: int, name: str, space: Space, enable: int, flags: int, low: int) -> Bar:
    mask = ~(size - 1) & 0xFFFFFFFF
    top = 0x10000 if space is Space.IO else 1 << 32
    switch = ROM_ENABLE if offset == ROM_ADDRESS else 0

    def place(config: bytearray) -> int | None:
        value = int.from_bytes(config[offset : offset + 4], "little")
        address = value & mask
        if not config[COMMAND] & enable or value & switch != switch:
            return None
        # All ones is how software asks for the size; zero is where nothing has been assigned.
        return address if address and address + size < top else None

    if size & low or size & (size - 1) or size <= low:
        raise ValueError(f"a base address register of {size} bytes is not possible")
    meaning = f"{size:#x} bytes of {space.value}"
    return Bar(ConfigRegister(offset, 4, name.upper(), flags, mask | switch, meaning), Window(name, size, space, place))
