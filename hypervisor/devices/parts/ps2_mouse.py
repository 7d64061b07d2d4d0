"""The mouse at the 8042's auxiliary port: a PS/2 mouse with a wheel (Microsoft IntelliMouse) and two more buttons.
from hypervisor.state import data, flag, number, numbers, record, u8

Sources: IBM PS/2 Hardware Interface Technical Reference, "Mouse": commands and data packet; Microsoft, "IntelliMouse
PS/2 protocol" as described in the Linux kernel's psmouse driver: the sample rates 200, 100, 80 set in this order turn
the wheel on, 200, 200, 80 after that the two more buttons.

Movement adds up until the guest has room for a packet, so nothing grows; a guest that never enables the mouse gets
the sum of what happened since it did.
"""

from __future__ import annotations

from hypervisor.state import data, flag, number, numbers, record, u8

ACK, RESEND, SELF_TEST_PASSED, ERROR = 0xFA, 0xFE, 0xAA, 0xFC
SCALING_1, SCALING_2, RESOLUTION, STATUS, STREAM, READ, UNWRAP, WRAP, REMOTE, IDENTIFY, RATE = (
    0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xEB, 0xEC, 0xEE, 0xF0, 0xF2, 0xF3,
)  # fmt: skip
ENABLE, DISABLE, DEFAULTS, SEND_AGAIN, RESET = 0xF4, 0xF5, 0xF6, 0xFE, 0xFF
RATES = (10, 20, 40, 60, 80, 100, 200)
PLAIN, WHEEL, FIVE_BUTTONS = 0, 3, 4
KNOCKS = {(200, 100, 80): WHEEL, (200, 200, 80): FIVE_BUTTONS}
LEFT, RIGHT, MIDDLE, FOURTH, FIFTH = 1, 2, 4, 8, 16
ALL_BUTTONS = 0x1F
PACKET_LIMIT, WHEEL_LIMIT, NARROW_WHEEL_LIMIT = 255, 127, 7
"""Most movement that one packet tells: 9 bits, 8 bits, and 4 bits beside the buttons."""
SUM_LIMIT = 1 << 20
REPLY_LIMIT = 16


@record
class MouseState:
    """All that the mouse remembers. Movement is to the right and up, as packets tell it."""

    enabled: bool = flag()
    remote: bool = flag()
    wrap: bool = flag()
    scaling: bool = flag()
    resolution: int = number(0, 3, 2)
    rate: int = u8(100)
    kind: int = number(0, 4)
    rates: list[int] = numbers(3, 0, 0xFF)
    waiting_for: int = u8()
    dx: int = number(-SUM_LIMIT, SUM_LIMIT)
    dy: int = number(-SUM_LIMIT, SUM_LIMIT)
    dz: int = number(-SUM_LIMIT, SUM_LIMIT)
    buttons: int = number(0, ALL_BUTTONS)
    told_buttons: int = number(0, ALL_BUTTONS)
    packet: bytearray = data(4)
    last: bytearray = data(4)
    replies: bytearray = data(REPLY_LIMIT)


class Mouse:
    """The mouse's side of the wire; its memory is ``state``."""

    def __init__(self, state: MouseState) -> None:
        self._s = state

    def move(self, dx: int, dy: int, dz: int, buttons: int) -> None:
        """Moved right, up and the wheel towards the user, by so many counts; ``buttons`` are held now."""
        s = self._s
        s.dx, s.dy, s.dz = (
            _bounded(s.dx + dx, SUM_LIMIT),
            _bounded(s.dy + dy, SUM_LIMIT),
            _bounded(s.dz + dz, SUM_LIMIT),
        )
        s.buttons = buttons & ALL_BUTTONS

    @property
    def idle(self) -> bool:
        """Whether the guest has been told of all that happened."""
        s = self._s
        return not s.packet and not self._has_news()

    @property
    def reports(self) -> bool:
        """Whether the mouse tells by itself what happens."""
        return self._s.enabled and not self._s.remote

    def next_byte(self) -> int | None:
        """The next byte on the wire, or None. Answers go before packets."""
        s = self._s
        if s.replies:
            source = s.replies
        else:
            if not s.packet and self.reports and self._has_news():
                s.packet += self._packet()
            source = s.packet
        if not source:
            return None
        byte = source[0]
        del source[:1]
        return byte

    def command(self, value: int) -> None:
        """A byte from the controller: a command, or the parameter of the one before."""
        s = self._s
        waiting, s.waiting_for = s.waiting_for, 0
        if s.wrap and value not in (UNWRAP, RESET):
            self._reply(value)
        elif waiting:
            self._parameter(waiting, value)
        elif value in _SIMPLE:
            name, setting = _SIMPLE[value]
            setattr(s, name, setting)
            self._reply(ACK)
        elif value in (RESOLUTION, RATE):
            s.waiting_for = value
            self._reply(ACK)
        elif value == STATUS:
            buttons = bool(s.buttons & LEFT) << 2 | bool(s.buttons & MIDDLE) << 1 | bool(s.buttons & RIGHT)
            self._reply(ACK, s.remote << 6 | s.enabled << 5 | s.scaling << 4 | buttons, s.resolution, s.rate)
        elif value == READ:
            self._reply(ACK, *self._packet())
        elif value == IDENTIFY:
            self._reply(ACK, s.kind)
        elif value == SEND_AGAIN:
            self._reply(*s.last)
        elif value in (DEFAULTS, RESET):
            self._defaults(everything=value == RESET)
        else:
            self._reply(RESEND)

    def _parameter(self, command: int, value: int) -> None:
        s = self._s
        if command == RESOLUTION and value <= 3:
            s.resolution = value
        elif command == RATE and value in RATES:
            s.rate = value
            s.rates = [*s.rates, value][-3:]
            s.kind = KNOCKS.get(tuple(s.rates), s.kind)  # type: ignore[arg-type]  # three numbers or fewer
        else:
            self._reply(RESEND)
            return
        self._reply(ACK)

    def _defaults(self, everything: bool) -> None:
        s = self._s
        s.enabled = s.remote = s.scaling = s.wrap = False
        s.resolution, s.rate = 2, 100
        s.dx = s.dy = s.dz = 0
        s.packet.clear()
        s.replies.clear()
        self._reply(ACK)
        if everything:
            s.kind = PLAIN
            s.rates.clear()
            self._reply(SELF_TEST_PASSED, s.kind)

    def _has_news(self) -> bool:
        s = self._s
        return bool(s.dx or s.dy or (s.dz and s.kind != PLAIN) or s.buttons != s.told_buttons)

    def _packet(self) -> bytes:
        """Tell as much of the movement as fits."""
        s = self._s
        dx, dy = _bounded(s.dx, PACKET_LIMIT), _bounded(s.dy, PACKET_LIMIT)
        dz = _bounded(s.dz, NARROW_WHEEL_LIMIT if s.kind == FIVE_BUTTONS else WHEEL_LIMIT)
        s.dx, s.dy, s.dz = s.dx - dx, s.dy - dy, s.dz - dz if s.kind != PLAIN else 0
        s.told_buttons = s.buttons
        packet = [s.buttons & 7 | 0x08 | (dx < 0) << 4 | (dy < 0) << 5, dx & 0xFF, dy & 0xFF]
        if s.kind == WHEEL:
            packet.append(dz & 0xFF)
        elif s.kind == FIVE_BUTTONS:
            packet.append(dz & 0xF | s.buttons >> 3 << 4)
        s.last = bytearray(packet)
        return bytes(packet)

    def _reply(self, *values: int) -> None:
        s = self._s
        if len(s.replies) + len(values) <= REPLY_LIMIT:
            s.replies += bytes(values)


_SIMPLE: dict[int, tuple[str, bool]] = {
    SCALING_1: ("scaling", False),
    SCALING_2: ("scaling", True),
    STREAM: ("remote", False),
    REMOTE: ("remote", True),
    WRAP: ("wrap", True),
    UNWRAP: ("wrap", False),
    ENABLE: ("enabled", True),
    DISABLE: ("enabled", False),
}
"""Commands that set one thing and are acknowledged."""


def _bounded(value: int, limit: int) -> int:
    return max(-limit, min(value, limit))
