"""The firmware configuration device: numbered items and named files that firmware reads, by port or by DMA.

Source: QEMU ``docs/specs/fw_cfg.rst``, "Guest-side Hardware Interface" (x86 I/O ports). Items are read-only here: what
a guest writes is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hypervisor.bus import Dma
from hypervisor.devices.parts.common import Register
from hypervisor.devices.parts.device_state import adopt
from hypervisor.state import InRecord, blob, flag, number, record

SIZE = 12
"""Bytes of the register window (ports 510h-51bh)."""

REGISTERS = (
    Register(0, "SELECTOR", "w", "510h, words: chooses an item and goes to its start; bytes read as DATA"),
    Register(1, "DATA", "r", "511h: the item's next byte, zero behind its end"),
    Register(4, "DMA_ADDRESS", "rw", "514h, big-endian: high half, then low half, which starts the transfer"),
)

SIGNATURE, ID, UUID, RAM_SIZE, NO_GRAPHICS, CPUS, NUMA = 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x0D
BOOT_MENU, MAX_CPUS, DIRECTORY, FIRST_FILE = 0x0E, 0x0F, 0x19, 0x20
ACPI_TABLES, SMBIOS, IRQ0_OVERRIDE, E820 = 0x8000, 0x8001, 0x8002, 0x8003
"""Numbers of items. Files have numbers from `FIRST_FILE` on, in the order in which they were given."""

HAS_DMA = 3
"""Item `ID`: the ports (bit 0) and DMA (bit 1)."""
DMA_SIGNATURE = b"QEMU CFG"
DMA_ERROR, DMA_READ, DMA_SKIP, DMA_SELECT, DMA_WRITE = 0x01, 0x02, 0x04, 0x08, 0x10
DMA_REQUEST = 16
"""Bytes of a request: control, length, address, big-endian."""
MAX_TRANSFER = 16 << 20
"""Bytes that one request may ask for; more is refused, so that a guest cannot keep the host busy."""
NAME_SIZE = 56
MAX_OFFSET = 1 << 32


@record
class FwCfgState:
    """Where reading goes on, and the half of the DMA address that has been written.

    ``contents`` is what is read now, once it has been ``found``: it stays until another item is selected.
    """

    selector: int = number(0, 0xFFFF)
    offset: int = number(0, MAX_OFFSET)
    dma_high: int = number(0, 0xFFFFFFFF)
    found: bool = flag()
    contents: bytes = blob(MAX_TRANSFER)


Contents = bytes | Callable[[], bytes]
"""A file's bytes; or what makes them, always as many, when it is selected: they may tell what firmware has set."""


class FwCfg(InRecord[FwCfgState]):
    """The device. ``items`` are bytes by number, ``files`` contents by name (at most 55 characters of ASCII)."""

    def __init__(
        self, memory: Dma, items: Mapping[int, bytes], files: Mapping[str, Contents], name: str = "fw_cfg"
    ) -> None:
        self.name = name
        self._memory = memory
        self.files = dict(files)
        """The files, by name."""
        self._items: dict[int, Contents] = {SIGNATURE: b"QEMU", ID: HAS_DMA.to_bytes(4, "little"), **items}
        directory = [len(files).to_bytes(4, "big")]
        for select, (path, contents) in enumerate(sorted(files.items()), FIRST_FILE):
            self._items[select] = contents
            directory.append(
                len(_made(contents)).to_bytes(4, "big")
                + select.to_bytes(2, "big")
                + bytes(2)
                + path.encode("ascii")[: NAME_SIZE - 1].ljust(NAME_SIZE, b"\0")
            )
        self._items[DIRECTORY] = b"".join(directory)
        self._s = FwCfgState()

    # ---- device contract

    def read(self, offset: int, size: int) -> int:
        """IN: data bytes, or the signature that tells of DMA."""
        if offset in (0, 1) and size == 1:
            return self._next(1)[0]
        if offset >= 4:
            return int.from_bytes(DMA_SIGNATURE[offset - 4 : offset - 4 + size].ljust(size, b"\xff"), "little")
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """OUT: select an item, or start a transfer. Other widths do nothing, as QEMU's device has it."""
        if offset == 0 and size == 2:
            self._select(value)
        elif offset == 4 and size == 4:
            self._s.dma_high = _swapped(value, 4)
        elif offset == 8 and size == 4:
            self._transfer(self._s.dma_high << 32 | _swapped(value, 4))
        elif offset == 4 and size == 8:
            self._transfer(_swapped(value, 8))

    def reset(self) -> None:
        """Item 0 from its start."""
        self._s = FwCfgState()

    def restore(self, state: FwCfgState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._s = adopt(self.name, FwCfgState, state)

    # ---- items

    def _select(self, item: int) -> None:
        self._s.selector, self._s.offset, self._s.found, self._s.contents = item, 0, False, b""

    def _next(self, count: int) -> bytes:
        """The next ``count`` bytes of the selected item: zeros behind its end."""
        s = self._s
        if not s.found:
            s.found, s.contents = True, _made(self._items.get(s.selector, b""))
        found = s.contents[s.offset : s.offset + count]
        self._skip(count)
        return found.ljust(count, b"\0")

    def _skip(self, count: int) -> None:
        self._s.offset = min(self._s.offset + count, MAX_OFFSET)

    def _transfer(self, address: int) -> None:
        """Do what the request at guest-physical ``address`` asks for, and tell there how it went."""
        self._s.dma_high = 0
        request = self._memory.read(address, DMA_REQUEST)
        control, length = int.from_bytes(request[:4], "big"), int.from_bytes(request[4:8], "big")
        target = int.from_bytes(request[8:], "big")
        if control & DMA_SELECT:
            self._select(control >> 16)
        done = 0
        if control & DMA_READ and length <= MAX_TRANSFER and target + length <= 1 << 52:
            self._memory.write(target, self._next(length))
        elif control & (DMA_READ | DMA_WRITE):
            done = DMA_ERROR
        elif control & DMA_SKIP:
            self._skip(length)
        self._memory.write(address, done.to_bytes(4, "big"))


def _made(contents: Contents) -> bytes:
    return contents if isinstance(contents, bytes) else contents()


def _swapped(value: int, size: int) -> int:
    return int.from_bytes(value.to_bytes(size, "little"), "big")
