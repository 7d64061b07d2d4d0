"""Keys: scan codes of set 1 (IBM AT Technical Reference, section 4, "Keyboard scan codes") with a US layout, and what
is typed ahead.

A key is a word: the scan code in the high byte and the ASCII code in the low one, as INT 16h returns it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

RIGHT_SHIFT, LEFT_SHIFT, CTRL, ALT, NUM_LOCK, CAPS_LOCK = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 6
MODIFIERS = {0x36: RIGHT_SHIFT, 0x2A: LEFT_SHIFT, 0x1D: CTRL, 0x38: ALT}
LOCKS = {0x45: NUM_LOCK, 0x3A: CAPS_LOCK}
RELEASED = 0x80
EXTENDED = 0xE0
DELETE = 0x53

PLAIN = dict(enumerate("\x1b1234567890-=\b\tqwertyuiop[]\r", 1))
PLAIN |= dict(enumerate("asdfghjkl;'`", 0x1E)) | dict(enumerate("\\zxcvbnm,./", 0x2B)) | {0x37: "*", 0x39: " "}
SHIFTED = dict(enumerate("\x1b!@#$%^&*()_+\b\tQWERTYUIOP{}\r", 1))
SHIFTED |= dict(enumerate('ASDFGHJKL:"~', 0x1E)) | dict(enumerate("|ZXCVBNM<>?", 0x2B)) | {0x37: "*", 0x39: " "}
KEYPAD = dict(enumerate("789-456+1230.", 0x47))

BY_CHARACTER = {character: code for table in (SHIFTED, PLAIN) for code, character in table.items() if code != 0x37}
BY_CHARACTER |= {"\n": 0x1C, "*": 0x09, "\x7f": 0x0E}


def translate(code: int, flags: int, *, extended: bool = False) -> int | None:
    """The key that pressing scan code ``code`` gives with the shift flags of 0040:0017, or None if it gives none."""
    if code >= RELEASED or code in MODIFIERS or code in LOCKS or not code:
        return None
    if extended and code not in (0x1C, 0x35):  # the keypad's Enter and / are like the main ones
        return code << 8 | EXTENDED
    if code in KEYPAD:
        ascii_code = ord(KEYPAD[code]) if flags & NUM_LOCK or KEYPAD[code] in "-+" else 0
        return code << 8 | ascii_code
    shift = bool(flags & (RIGHT_SHIFT | LEFT_SHIFT))
    character = PLAIN.get(code, "")
    if character.isalpha() and flags & CAPS_LOCK:
        shift = not shift
    character = SHIFTED.get(code, "") if shift else character
    if flags & ALT or not character:
        return code << 8
    if flags & CTRL:
        return code << 8 | ord(character) & 0x1F if character.isalpha() or character in "[\\]" else code << 8
    return code << 8 | ord(character)


class KeyQueue:
    """Keys from the host that wait to be read through INT 16h: the console's input, or a test's.

    It holds `LIMIT` keys; more are dropped, as a keyboard does, but counted in `dropped`.
    """

    LIMIT = 65536
    LOOKS_TO_LISTEN = 64
    """Calls that found no key, one after the other, after which a guest that only looks waits for one."""

    def __init__(self, text: str = "") -> None:
        self._keys: deque[int] = deque()
        self._looks = 0
        self.dropped = 0
        self.source: Callable[[], bytes] = bytes
        """Asked for text when there are no keys and the guest waits for one."""
        self.type(text)

    def type(self, text: str | bytes) -> None:
        """Type ``text``; a newline is the Enter key. Characters that a US keyboard lacks come with scan code 0."""
        for character in text if isinstance(text, str) else text.decode("latin-1"):
            code = BY_CHARACTER.get(character, 0)
            # Enter gives 0dh, and what terminals send for Backspace (7fh) is 08h.
            ascii_code = {"\n": 0x0D, "\x7f": 0x08}.get(character, ord(character))
            if not code and 1 <= ascii_code <= 26:
                code = BY_CHARACTER[chr(ascii_code + 0x60)]
            if ascii_code < 256:
                self.press(code << 8 | ascii_code)

    def press(self, key: int) -> None:
        """Append one key word."""
        if len(self._keys) < self.LIMIT:
            self._keys.append(key)
        else:
            self.dropped += 1

    def pop(self) -> int | None:
        """The oldest key, or None."""
        return self._keys.popleft() if self._keys else None

    def wanted(self, *, waiting: bool) -> bool:
        """The guest found no key, and waits for one or only looked; whether there is one now."""
        self._looks = self.LOOKS_TO_LISTEN if waiting else min(self._looks + 1, self.LOOKS_TO_LISTEN)
        if self._looks == self.LOOKS_TO_LISTEN:
            self.type(self.source())
        return bool(self._keys)
