"""The DMA controllers of a PC: two 8237A and the page registers that extend their addresses.

Sources: Intel 8237A data sheet (231466); Intel 82371SB (PIIX3) data sheet, 2.5.1 (where the second controller counts
words and its registers are two ports apart).

A device asks for its channel with `I8237Pair.channel` and moves bytes when it likes; how the bus is shared between
devices (single, demand and block mode) makes no difference here.
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.bus import Dma
from hypervisor.devices.parts.common import Register
from hypervisor.devices.parts.device_state import adopt
from hypervisor.state import InRecord, flag, number, numbers, parts, record, u8

SIZE = 48
"""Bytes of the window: 16 of the first controller (00h), 32 of the second (c0h), with the pages (80h) at `PAGES`."""
SECOND, PAGES = 16, 32
"""Offsets of the second controller's registers, by register number, and of the page registers."""

REGISTERS = (
    Register(0x0, "ADDRESS/COUNT", "rw", "two bytes each, low one first, of channels 0 to 3: address, count less one"),
    Register(0x8, "STATUS", "rc", "bits 3:0: terminal count reached; 7:4: requests"),
    Register(0x8, "COMMAND", "w", "bit 2: controller off"),
    Register(0x9, "REQUEST", "w", "a request by software"),
    Register(0xA, "MASK", "w", "bits 1:0: channel; bit 2: masked"),
    Register(
        0xB, "MODE", "w", "bits 1:0: channel; 3:2: direction; 4: start again; 5: downwards; 7:6: sharing of the bus"
    ),
    Register(0xC, "CLEAR BYTE POINTER", "w", "the next byte of an address or a count is the low one"),
    Register(0xD, "MASTER CLEAR", "w", "as a reset"),
    Register(0xE, "CLEAR MASK", "w", "no channel is masked"),
    Register(0xF, "ALL MASKS", "rw", "bits 3:0: channels that are masked"),
)
PAGE_OF = {0x1: 2, 0x2: 3, 0x3: 1, 0x7: 0, 0x9: 6, 0xA: 7, 0xB: 5, 0xF: 4}
"""The channel that each page register (81h to 8fh) extends; the other ones only remember."""

DISABLED = 1 << 2
DIRECTION, TO_MEMORY, FROM_MEMORY = 0x0C, 0x04, 0x08
AUTO_INIT, DOWNWARDS, CASCADE = 0x10, 0x20, 0xC0


@record
class ChannelState:
    """One channel. Counts are one less than the transfers that are left."""

    base_address: int = number(0, 0xFFFF)
    base_count: int = number(0, 0xFFFF)
    address: int = number(0, 0xFFFF)
    count: int = number(0, 0xFFFF)
    mode: int = u8()


@record
class ControllerState:
    """One 8237A."""

    channels: list[ChannelState] = parts(ChannelState, 4)
    command: int = u8()
    mask: int = number(0, 0x0F, 0x0F)
    done: int = number(0, 0x0F)
    """Channels that have reached terminal count since the status was read."""
    high_byte: bool = flag()


@record
class I8237State:
    """Both controllers and the sixteen page registers."""

    controllers: list[ControllerState] = parts(ControllerState, 2)
    pages: list[int] = numbers(16, 0, 0xFF, exact=True)


class DmaChannel:
    """A channel as the device on it sees it: DREQ, DACK and TC are the arguments and results of `give` and `take`."""

    def __init__(self, pair: I8237Pair, channel: int) -> None:
        self._pair = pair
        self._channel = channel

    @property
    def ready(self) -> bool:
        """Whether the channel would acknowledge a request now."""
        return self._pair.ready(self._channel)

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever the channel becomes able to acknowledge."""
        self._pair.listeners[self._channel] = callback

    def give(self, content: bytes) -> tuple[int, bool]:
        """Move bytes to memory: how many were taken, and whether terminal count was reached with the last."""
        return self._pair.give(self._channel, content)

    def take(self, size: int) -> tuple[bytes, bool]:
        """Move up to ``size`` bytes from memory, and whether terminal count was reached with the last."""
        return self._pair.take(self._channel, size)


class I8237Pair(InRecord[I8237State]):
    """Channels 0 to 3 move bytes, 5 to 7 words; channel 4 carries the first controller's requests."""

    def __init__(self, memory: Dma, name: str = "dma") -> None:
        self.name = name
        self.listeners: dict[int, Callable[[], None]] = {}
        self._memory = memory
        self._s = I8237State()

    def channel(self, number_: int) -> DmaChannel:
        """Channel ``number_``, 0 to 7."""
        return DmaChannel(self, number_)

    # ---- device contract

    def reset(self) -> None:
        """All channels are masked."""
        self._s = I8237State()

    def restore(self, state: I8237State) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._s = adopt(self.name, I8237State, state)

    def read(self, offset: int, size: int) -> int:
        """See `hypervisor.bus.Device.read`."""
        return sum(self._read(at) << 8 * n for n, at in enumerate(range(offset, offset + size)))

    def write(self, offset: int, size: int, value: int) -> None:
        """See `hypervisor.bus.Device.write`."""
        for at in range(offset, offset + size):
            self._write(at, value & 0xFF)
            value >>= 8

    # ---- registers

    def _read(self, offset: int) -> int:
        if offset >= PAGES:
            return self._s.pages[offset - PAGES] if offset < SIZE else 0xFF
        controller, register = self._s.controllers[offset // SECOND], offset % SECOND
        if register < 8:
            channel = controller.channels[register >> 1]
            value = channel.count if register & 1 else channel.address
            controller.high_byte = not controller.high_byte
            return value & 0xFF if controller.high_byte else value >> 8
        if register == 0x8:
            done, controller.done = controller.done, 0
            return done
        return controller.mask | 0xF0 if register == 0xF else 0xFF

    def _write(self, offset: int, value: int) -> None:
        if offset >= PAGES:
            if offset < SIZE:
                self._s.pages[offset - PAGES] = value
            return
        number_, register = divmod(offset, SECOND)
        controller = self._s.controllers[number_]
        before = [self.ready(channel) for channel in range(4 * number_, 4 * number_ + 4)]
        if register < 8:
            _write_half(controller, register, value)
        elif register == 0x8:
            controller.command = value
        elif register == 0xA:
            bit = 1 << (value & 3)
            controller.mask = controller.mask | bit if value & 4 else controller.mask & ~bit
        elif register == 0xB:
            controller.channels[value & 3].mode = value & ~3
        elif register == 0xC:
            controller.high_byte = False
        elif register == 0xD:
            controller.command = controller.done = 0
            controller.mask, controller.high_byte = 0x0F, False
        elif register == 0xE:
            controller.mask = 0
        elif register == 0xF:
            controller.mask = value & 0x0F
        for n in range(4):
            channel = 4 * number_ + n
            if not before[n] and self.ready(channel) and channel in self.listeners:
                self.listeners[channel]()

    # ---- transfers

    def ready(self, channel: int) -> bool:
        """Whether ``channel`` would acknowledge a request."""
        controller, n = self._s.controllers[channel >> 2], channel & 3
        return not (controller.command & DISABLED or controller.mask >> n & 1)

    def give(self, channel: int, content: bytes) -> tuple[int, bool]:
        """See `DmaChannel.give`. In another direction than to memory the bytes are counted and dropped."""
        if not self.ready(channel):
            return 0, False
        mode = self._channel(channel).mode
        size, address, ended = self._count(channel, len(content))
        if mode & DIRECTION == TO_MEMORY:
            part = content[:size]
            self._memory.write(address, part[::-1] if mode & DOWNWARDS else part)
        return size, ended

    def take(self, channel: int, size: int) -> tuple[bytes, bool]:
        """See `DmaChannel.take`. In another direction than from memory the bytes read as ones."""
        if not self.ready(channel):
            return b"", False
        mode = self._channel(channel).mode
        size, address, ended = self._count(channel, size)
        if mode & DIRECTION != FROM_MEMORY:
            return b"\xff" * size, ended
        content = self._memory.read(address, size)
        return content[::-1] if mode & DOWNWARDS else content, ended

    def _channel(self, channel: int) -> ChannelState:
        return self._s.controllers[channel >> 2].channels[channel & 3]

    def _count(self, channel: int, size: int) -> tuple[int, int, bool]:
        """Count a transfer of up to ``size`` bytes: its size, its lowest address, and whether it was the last.

        A transfer ends where the address wraps: it never leaves its 64 KiB (128 KiB for words).
        """
        s, controller = self._channel(channel), self._s.controllers[channel >> 2]
        width = 2 if channel > 4 else 1
        room = s.address + 1 if s.mode & DOWNWARDS else 0x10000 - s.address
        units = min(size // width, s.count + 1, room)
        page = next(self._s.pages[at] for at, whose in PAGE_OF.items() if whose == channel)
        base = (page & 0xFE) << 16 if width == 2 else page << 16
        lowest = s.address - units + 1 if s.mode & DOWNWARDS else s.address
        s.address = (s.address - units if s.mode & DOWNWARDS else s.address + units) & 0xFFFF
        ended = units == s.count + 1
        s.count = (s.count - units) & 0xFFFF
        if ended:
            controller.done |= 1 << (channel & 3)
            if s.mode & AUTO_INIT:
                s.address, s.count = s.base_address, s.base_count
            else:
                controller.mask |= 1 << (channel & 3)
        return units * width, base + lowest * width, ended


def _write_half(controller: ControllerState, register: int, value: int) -> None:
    """A byte of an address or a count, which sets the base and the current value."""
    channel = controller.channels[register >> 1]
    shift = 8 if controller.high_byte else 0
    controller.high_byte = not controller.high_byte
    for name in ("base_count", "count") if register & 1 else ("base_address", "address"):
        setattr(channel, name, getattr(channel, name) & ~(0xFF << shift) | value << shift)
