"""The keyboard at the other end of the 8042's first port: an MF2 keyboard that speaks scan code sets 2 and 1.

Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-key)": commands, scan code sets.
"""

from __future__ import annotations

from hypervisor.devices.scan_codes import BREAK, strokes, to_set_1
from hypervisor.state import data, flag, number, record, u8

ACK, RESEND, SELF_TEST_PASSED, ECHO = 0xFA, 0xFE, 0xAA, 0xEE
ID = b"\xab\x83"
SET_LEDS, SCAN_SET, IDENTIFY, TYPEMATIC, ENABLE, DISABLE, DEFAULTS, SEND_AGAIN, RESET = (
    0xED, 0xF0, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xFE, 0xFF,
)  # fmt: skip
SET_ALL_KEYS = range(0xF7, 0xFB)
SET_ONE_KEY = range(0xFB, 0xFE)
FIRST_COMMAND = SET_LEDS
REPLY_LIMIT = 16
KEYS_LIMIT = 4096
"""Bytes of scan codes that may wait; a real keyboard has 16, but nobody types ahead of a guest's script on one."""


@record
class KeyboardState:
    """All that the keyboard remembers."""

    scanning: bool = flag(True)
    scan_set: int = number(1, 2, 2)
    leds: int = u8()
    typematic: int = u8(0x2B)
    waiting_for: int = u8()
    last_sent: int = u8()
    break_next: bool = flag()
    replies: bytearray = data(REPLY_LIMIT)
    keys: bytearray = data(KEYS_LIMIT)


class Keyboard:
    """The keyboard's side of the wire; its memory is ``state``."""

    def __init__(self, state: KeyboardState) -> None:
        self._s = state

    def press(self, scancodes: bytes) -> int:
        """Set 2 bytes of whole keys; all are taken, or none."""
        s = self._s
        if not s.scanning or len(s.keys) + len(scancodes) > KEYS_LIMIT:
            return 0
        s.keys += scancodes
        return len(scancodes)

    def type_text(self, text: str) -> int:
        """Type; returns how many characters were taken."""
        keys = [strokes(char) for char in text]  # all of them, so that a bad character types nothing
        for count, stroke in enumerate(keys):
            if not self.press(stroke):
                return count
        return len(keys)

    def next_byte(self) -> int | None:
        """The next byte on the wire, or None. Answers go before keys."""
        s = self._s
        if s.replies:
            byte = s.replies[0]
            del s.replies[:1]
        else:
            while True:
                if not s.keys:
                    return None
                byte = s.keys[0]
                del s.keys[:1]
                if s.scan_set == 2:
                    break
                if byte != BREAK:
                    byte = to_set_1(byte) | (0x80 if s.break_next else 0)
                    s.break_next = False
                    break
                s.break_next = True
        s.last_sent = byte
        return byte

    def command(self, value: int) -> None:
        """A byte from the controller: a command, or the parameter of the one before."""
        s = self._s
        waiting, s.waiting_for = s.waiting_for, 0
        if waiting and value < FIRST_COMMAND:
            self._parameter(waiting, value)
        elif value in (SET_LEDS, SCAN_SET, TYPEMATIC) or value in SET_ONE_KEY:
            s.waiting_for = value
            self._reply(ACK)
        elif value == ECHO:
            self._reply(ECHO)
        elif value == IDENTIFY:
            self._reply(ACK, *ID)
        elif value == SEND_AGAIN:
            self._reply(s.last_sent)
        elif value in (ENABLE, DISABLE, DEFAULTS, RESET):
            self._defaults(scanning=value != DISABLE, everything=value != ENABLE)
            self._reply(ACK)
            if value == RESET:
                self._reply(SELF_TEST_PASSED)
        elif value in SET_ALL_KEYS:
            self._reply(ACK)
        else:
            self._reply(RESEND)

    def _parameter(self, command: int, value: int) -> None:
        s = self._s
        if command == SCAN_SET:
            if value > 2:
                self._reply(RESEND)
                return
            self._reply(ACK)
            if value == 0:
                self._reply(s.scan_set)
            else:
                s.scan_set = value
            return
        if command == SET_LEDS:
            s.leds = value & 7
        elif command == TYPEMATIC:
            s.typematic = value
        self._reply(ACK)

    def _defaults(self, scanning: bool, everything: bool) -> None:
        s = self._s
        s.scanning = scanning
        s.keys.clear()
        s.break_next = False
        if everything:
            s.scan_set, s.typematic, s.leds = 2, 0x2B, 0
            s.replies.clear()

    def _reply(self, *values: int) -> None:
        s = self._s
        if len(s.replies) + len(values) <= REPLY_LIMIT:
            s.replies += bytes(values)
