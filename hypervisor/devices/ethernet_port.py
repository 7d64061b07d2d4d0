"""A network interface for kernels that have no driver yet: one frame at a time each way, in the guest's memory.

docs/networks.md is its data sheet. Registers are 32 bits wide and written as such; narrower writes are ignored.
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.arch.device_registers import Register
from hypervisor.bus import Dma, Line
from hypervisor.devices.parts.device_state import adopt
from hypervisor.network.ethernet import ADDRESS_SIZE, HEADER_SIZE, MAX_FRAME, destination, is_group, padded
from hypervisor.state import blob, copied, number, record, several

SIZE = 0x24
"""Bytes of the register window."""

ID, MAC_LOW, MAC_HIGH, STATUS, CONTROL = 0x00, 0x04, 0x08, 0x0C, 0x10
TX_ADDRESS, TX_LENGTH, RX_ADDRESS, RX_LENGTH = 0x14, 0x18, 0x1C, 0x20

REGISTERS = (
    Register(ID, "ID", "r", "the letters ENET"),
    Register(MAC_LOW, "MAC_LOW", "r", "the first four bytes of the station's address"),
    Register(MAC_HIGH, "MAC_HIGH", "r", "its last two, in bits 15:0"),
    Register(STATUS, "STATUS", "rw", "0 received, 1 missed, 2 refused; write 1 to clear"),
    Register(CONTROL, "CONTROL", "rw", "0 receive, 1 interrupt, 2 promiscuous"),
    Register(TX_ADDRESS, "TX_ADDRESS", "rw", "guest-physical address of the frame to be sent"),
    Register(TX_LENGTH, "TX_LENGTH", "rw", "its bytes, 14 to 1514; writing it sends the frame"),
    Register(RX_ADDRESS, "RX_ADDRESS", "rw", "guest-physical address of 1514 bytes for a frame that comes"),
    Register(RX_LENGTH, "RX_LENGTH", "r", "the bytes of the frame that is there"),
)

SIGNATURE = int.from_bytes(b"ENET", "little")
RECEIVED, MISSED, REFUSED = 1 << 0, 1 << 1, 1 << 2
"""STATUS: a frame is in memory, and its place is the guest's until this is cleared; frames came and there was no room;
what was to be sent is no frame.
"""
RECEIVE, INTERRUPT, PROMISCUOUS = 1 << 0, 1 << 1, 1 << 2
"""CONTROL: take frames; the interrupt line is high while a frame is there; take those for other stations, too."""

QUEUE = 32
"""Frames that wait until the guest has looked at the one before."""
_WORD = (1 << 32) - 1


@record
class QueuedState:
    """A frame that waits."""

    frame: bytes = blob(MAX_FRAME)


@record
class EthernetPortState:
    """What was written to the registers, and the frames that wait."""

    status: int = number(0, RECEIVED | MISSED | REFUSED)
    control: int = number(0, RECEIVE | INTERRUPT | PROMISCUOUS)
    tx_address: int = number(0, _WORD)
    tx_length: int = number(0, _WORD)
    rx_address: int = number(0, _WORD)
    rx_length: int = number(0, MAX_FRAME)
    queue: list[QueuedState] = several(QueuedState, QUEUE)


class EthernetPort:
    """The interface. ``send(frame)`` puts a frame on the wire; who is at its other end calls `receive`."""

    def __init__(
        self, line: Line, memory: Dma, send: Callable[[bytes], object], mac: bytes, name: str = "ethernet"
    ) -> None:
        """``mac`` is the station's address, of six bytes."""
        self.name = name
        self._line, self._memory, self._send, self._mac = line, memory, send, mac
        self._s = EthernetPortState()

    # ---- the wire

    def receive(self, frame: bytes) -> None:
        """A frame has come."""
        s, to = self._s, destination(frame)
        if not s.control & RECEIVE or not (s.control & PROMISCUOUS or to == self._mac or is_group(to)):
            return
        if not s.status & RECEIVED:
            self._put(frame)
        elif len(s.queue) < QUEUE:
            s.queue.append(QueuedState(frame))
        else:
            s.status |= MISSED
        self._drive()

    def _put(self, frame: bytes) -> None:
        self._memory.write(self._s.rx_address, frame)
        self._s.rx_length = len(frame)
        self._s.status |= RECEIVED

    def _transmit(self) -> None:
        s = self._s
        if not HEADER_SIZE <= s.tx_length <= MAX_FRAME:
            s.status |= REFUSED
            return
        self._send(padded(bytes(self._memory.read(s.tx_address, s.tx_length))))

    # ---- device contract

    def read(self, offset: int, size: int) -> int:
        """See `hypervisor.bus.Device.read`."""
        value = self._register(offset & ~3) | self._register((offset & ~3) + 4) << 32
        return value >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """See `hypervisor.bus.Device.write`."""
        if size < 4 or offset % 4:
            return
        self._write(offset, value & _WORD)
        if size == 8 and offset + 4 < SIZE:
            self._write(offset + 4, value >> 32)

    def reset(self) -> None:
        """Power-on state: it takes no frames."""
        self._s = EthernetPortState()
        self._drive()

    def state(self) -> EthernetPortState:
        """A copy of all mutable state."""
        return copied(self._s)

    def restore(self, state: EthernetPortState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._s = adopt(self.name, EthernetPortState, state)
        self._drive()

    # ---- registers

    def _register(self, offset: int) -> int:
        s = self._s
        return {
            ID: SIGNATURE,
            MAC_LOW: int.from_bytes(self._mac[:4], "little"),
            MAC_HIGH: int.from_bytes(self._mac[4:ADDRESS_SIZE], "little"),
            STATUS: s.status,
            CONTROL: s.control,
            TX_ADDRESS: s.tx_address,
            TX_LENGTH: s.tx_length,
            RX_ADDRESS: s.rx_address,
            RX_LENGTH: s.rx_length,
        }.get(offset, _WORD)

    def _write(self, offset: int, value: int) -> None:
        s = self._s
        if offset == STATUS:
            s.status &= ~value
            if value & RECEIVED:
                self._drive()  # low, also when the next frame is there already: a controller may want to see an edge
                if s.queue:
                    self._put(s.queue.pop(0).frame)
        elif offset == CONTROL:
            s.control = value & (RECEIVE | INTERRUPT | PROMISCUOUS)
        elif offset == TX_ADDRESS:
            s.tx_address = value
        elif offset == TX_LENGTH:
            s.tx_length = value
            self._transmit()
        elif offset == RX_ADDRESS:
            s.rx_address = value
        self._drive()

    def _drive(self) -> None:
        self._line.set(bool(self._s.status & RECEIVED and self._s.control & INTERRUPT))


__all__ = ["REGISTERS", "SIZE", "EthernetPort", "EthernetPortState"]
