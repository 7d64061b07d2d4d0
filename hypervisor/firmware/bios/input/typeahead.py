"""Keys that come from the host and not from the keyboard: typed ahead, for INT 16h.

A key is a word: the scan code in the high byte and the ASCII code in the low one, as INT 16h returns it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hypervisor.firmware.bios.input.key_codes import BY_CHARACTER


class KeyQueue:
    """Keys from the host that wait to be read through INT 16h: the console's input, or a test's.

    It holds `LIMIT` keys; more are dropped, as a keyboard does, but counted in `dropped`.
    """

    LIMIT = 65536
    LOOKS_TO_LISTEN = 64
    """Calls that found no key, one after the other, after which a guest that only looks waits for one."""

    def __init__(self, text: str = "") -> None:
        self.keys: deque[int] = deque()
        self.looks = 0
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
        if len(self.keys) < self.LIMIT:
            self.keys.append(key)
        else:
            self.dropped += 1

    def pop(self) -> int | None:
        """The oldest key, or None."""
        return self.keys.popleft() if self.keys else None

    def wanted(self, *, waiting: bool) -> bool:
        """The guest found no key, and waits for one or only looked; whether there is one now."""
        self.looks = self.LOOKS_TO_LISTEN if waiting else min(self.looks + 1, self.LOOKS_TO_LISTEN)
        if self.looks == self.LOOKS_TO_LISTEN:
            self.type(self.source())
        return bool(self.keys)
