"""A PCI function: its configuration space, its interrupt pin, and what happens when its windows move.

It is a device with a register window of 256 bytes, which the bus reads and writes. It knows no bus and no board: who
maps the memory or the ports behind a window connects to it with `PciFunction.on_move`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from hypervisor.bus import Line
from hypervisor.devices.parts.device_state import adopt, refuse
from hypervisor.devices.pci import config_registers as r
from hypervisor.devices.pci.config_registers import Bar, ConfigRegister, Identity, Window
from hypervisor.state import InRecord, data, record

SIZE = r.SIZE

Move = Callable[[int | None], object]


@record
class PciFunctionState:
    """The configuration space."""

    config: bytearray = data(SIZE, exact=True)


@cache
def _table(
    identity: Identity,
    command: int,
    command_writable: int,
    status: int,
    own: tuple[ConfigRegister, ...],
) -> tuple[tuple[ConfigRegister, ...], tuple[bytes, bytes, bytes], int]:
    """All registers of a function, their `_images`, and which bits of the first never change, as a number: those of all
    machines' are the same.
    """
    registers = (*r.header(identity, command, command_writable, status), *own)
    images = _images(registers)
    return registers, images, ~(_number(images[1]) | _number(images[2]))


def _images(registers: tuple[ConfigRegister, ...]) -> tuple[bytes, bytes, bytes]:
    """Three images of configuration space: values after reset, bits that can be written, bits that a 1 clears."""
    default, writable, clears = (bytearray(SIZE) for _ in range(3))
    for row in registers:
        where = slice(row.offset, row.offset + row.width)
        default[where] = row.default.to_bytes(row.width, "little")
        writable[where] = row.writable.to_bytes(row.width, "little")
        clears[where] = row.clears.to_bytes(row.width, "little")
    return bytes(default), bytes(writable), bytes(clears)


def _number(config: bytes | bytearray) -> int:
    """An image of configuration space as one number, byte 0 at its lowest bits."""
    return int.from_bytes(config, "little")


class PciFunction(InRecord[PciFunctionState]):
    """One function.

    ``bars`` and ``own`` (the registers from 40h up, or beyond what every header has) are tables; ``windows`` are ranges
    that registers of ``own`` place. ``command`` is the command register after a reset and ``command_writable`` its
    bits that can be changed. A device behind the function drives ``intx``, its interrupt pin.
    """

    def __init__(
        self,
        name: str,
        identity: Identity,
        bars: Sequence[Bar] = (),
        own: Sequence[ConfigRegister] = (),
        windows: Sequence[Window] = (),
        *,
        command: int = 0,
        command_writable: int | None = None,
        status: int = r.STATUS_DEVSEL_MEDIUM,
    ) -> None:
        self.name = name
        self.identity = identity
        self.bars = tuple(bars)
        if command_writable is None:
            command_writable = r.COMMAND_IO | r.COMMAND_MEMORY | r.COMMAND_MASTER | r.COMMAND_SERR | r.COMMAND_NO_INTX
        self.registers, (self._default, self._writable, self._clears), self._constant = _table(
            identity, command, command_writable, status, (*(bar.register for bar in bars), *own)
        )
        """All registers, as a table, and images of configuration space that follow from it."""
        self.windows = {window.name: window for window in (*(bar.window for bar in bars), *windows)}
        self.places: dict[str, int | None] = dict.fromkeys(self.windows)
        """Where each window is now, by its name: an address, or None while it is not decoded."""
        self.intx = Line(f"{name}.int{'-abcd'[identity.pin]}", self._pin_changed)
        self.pin = Line(f"{name}.pin")
        """The pin as the bus sees it: ``intx``, unless the command register holds it off."""
        self._moves: dict[str, Move] = {}
        self._s = PciFunctionState(bytearray(self._default))

    # ---- device contract

    def read(self, offset: int, size: int) -> int:
        """``size`` bytes of configuration; what is behind the end reads as ones."""
        value = int.from_bytes(self._s.config[offset : offset + size].ljust(size, b"\xff"), "little")
        if self.intx.level and offset <= r.STATUS < offset + size:
            value |= r.STATUS_INTX << 8 * (r.STATUS - offset)
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Change what can be changed; windows that this moves are told."""
        config = self._s.config
        for at in range(offset, min(offset + size, SIZE)):
            byte = value & 0xFF
            value >>= 8
            mask = self._writable[at]
            config[at] = (config[at] & ~mask | byte & mask) & ~(byte & self._clears[at])
        self.changed(range(offset, offset + size))

    def reset(self) -> None:
        """Power-on values: nothing is decoded, unless the function decodes by default."""
        self._take(bytearray(self._default))

    def state(self) -> PciFunctionState:
        """A copy of all mutable state."""
        return PciFunctionState(bytearray(self._s.config))

    def restore(self, state: PciFunctionState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        new = adopt(self.name, PciFunctionState, state)
        wrong = (_number(new.config) ^ _number(self._default)) & self._constant
        if wrong:
            at = (wrong & -wrong).bit_length() - 1 >> 3
            raise refuse(self.name, f"state.config has another value in the read-only bits of byte {at:#x}")
        self._take(new.config)

    def _take(self, config: bytearray) -> None:
        self._s = PciFunctionState(config)
        self.changed(range(SIZE))

    # ---- what hangs on it

    def on_move(self, window: str, move: Move) -> None:
        """Call ``move(address)`` whenever the window of this name is placed, with None when it is not decoded.

        It is told at once where the window is, if that is anywhere.
        """
        self._moves[window] = move
        place = self.places[window]
        if place is not None:
            move(place)

    def changed(self, where: range) -> None:
        """Bytes ``where`` may have a new value: move windows, and drive the pin. Functions with registers of their own
        extend this.
        """
        for name, window in self.windows.items():
            place = window.place(self._s.config)
            if place != self.places[name]:
                self.places[name] = place
                if name in self._moves:
                    self._moves[name](place)
        self._pin_changed(self.intx.level)

    def _pin_changed(self, level: bool) -> None:
        held_off = self._s.config[r.COMMAND + 1] << 8 & r.COMMAND_NO_INTX
        self.pin.set(level and not held_off)
