"""The keyboard at the other end of the 8042's first port: an MF2 keyboard that speaks scan code sets 2 and 1.

Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-key)": commands, scan code sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypervisor.devices._state import data, flag, number, u8
from hypervisor.errors import ConfigError

ACK, RESEND, SELF_TEST_PASSED, ECHO = 0xFA, 0xFE, 0xAA, 0xEE
ID = b"\xab\x83"
SET_LEDS, SCAN_SET, IDENTIFY, TYPEMATIC, ENABLE, DISABLE, DEFAULTS, SEND_AGAIN, RESET = (
    0xED, 0xF0, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xFE, 0xFF,
)  # fmt: skip
SET_ALL_KEYS = range(0xF7, 0xFB)
SET_ONE_KEY = range(0xFB, 0xFE)
FIRST_COMMAND = SET_LEDS
BREAK = 0xF0
REPLY_LIMIT = 16
KEYS_LIMIT = 4096
"""Bytes of scan codes that may wait; a real keyboard has 16, but nobody types ahead of a guest's script on one."""

SET_2 = bytes.fromhex(
    "76"  # set 1 code 01h: escape
    + "161e26252e363d3e46454e55660d"  # 02h: 1 to 0, minus, equals, backspace, tab
    + "151d242d2c353c43444d545b5a14"  # 10h: q to p, brackets, enter, control
    + "1c1b232b34333b424b4c520e125d"  # 1eh: a to l, semicolon, quote, grave, shift, backslash
    + "1a22212a32313a41494a597c1129"  # 2ch: z to slash, right shift, keypad *, alt, space
    + "580506040c030b830a0109777e"  # 3ah: caps lock, F1 to F10, num lock, scroll lock
    + "6c757d7b6b73747969727a7071"  # 47h: keypad
    + "8460617807"  # 54h: system request, two unnamed, F11, F12
)
"""Scan code set 2 of the keys in the order of their set 1 codes, from 01h to 58h."""

_TO_SET_1 = bytearray(range(256))
_TO_SET_1[:0x80] = bytes.fromhex(
    "ff43413f3d3b3c58644442403e0f2959"
    + "65382a701d10025a66712c1f1e11035b"
    + "672e2d201205045c68392f211413065d"
    + "693130232215075e6a7232241608095f"
    + "6b332517180b0a606c34352627190c61"
    + "6d7328741a0d626e3a361c1b752b6376"
    + "55567778797a0e7b7c4f7d4b477e7f6f"
    + "5253504c4d480145574e514a37494654"
)
_TO_SET_1[0x83], _TO_SET_1[0x84] = 0x41, 0x54
"""What the controller makes of each byte of set 2 (IBM PS/2 Hardware Interface Technical Reference, "Scan code
translation"): codes of no key are translated as well, and answers of the keyboard pass.
"""

SHIFT = 0x12
_PLAIN = "\x1b1234567890-=\b\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./\0\0\0 "
_SHIFTED = '\0!@#$%^&*()_+\0\0QWERTYUIOP{}\0\0ASDFGHJKL:"~\0|ZXCVBNM<>?'
_KEYS = {char: (SET_2[at], shift) for shift, row in ((False, _PLAIN), (True, _SHIFTED)) for at, char in enumerate(row)}
del _KEYS["\0"]


def to_set_1(code: int) -> int:
    """The set 1 code that the controller's translation makes of a byte of set 2 (or of an answer)."""
    return _TO_SET_1[code]


def strokes(char: str) -> bytes:
    """Set 2 bytes that press and release the keys for ``char``; raises `ConfigError` if no key types it."""
    if char not in _KEYS:
        raise ConfigError(f"No key of a US keyboard types {char!r}. Send its scan codes with press().")
    code, shift = _KEYS[char]
    stroke = bytes((code, BREAK, code))
    return bytes((SHIFT, *stroke, BREAK, SHIFT)) if shift else stroke


@dataclass(slots=True)
class KeyboardState:
    """All that the keyboard remembers."""

    scanning: bool = flag(True)
    scan_set: int = number(1, 2, 2)
    leds: int = u8()
    typematic: int = u8(0x2B)
    waiting_for: int = u8()
    last_sent: int = u8()
    break_next: bool = flag()
    replies: bytearray = field(default_factory=bytearray, metadata=data(REPLY_LIMIT))
    keys: bytearray = field(default_factory=bytearray, metadata=data(KEYS_LIMIT))


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
