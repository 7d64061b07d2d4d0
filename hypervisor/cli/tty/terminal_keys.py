"""What a terminal sends for keys, as the keys themselves: for guests that have a keyboard and not a serial line.

Source: ECMA-48, and the xterm control sequences "PC-style function keys".
"""

from __future__ import annotations

import re
from typing import Protocol

from hypervisor.errors import ConfigError

_FUNCTION = {11: 1, 12: 2, 13: 3, 14: 4, 15: 5, 17: 6, 18: 7, 19: 8, 20: 9, 21: 10, 23: 11, 24: 12}
SEQUENCES = {
    **{f"{lead}{letter}": key for lead in ("[", "O") for letter, key in
       {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end"}.items()},
    **{f"[{number}~": f"f{key}" for number, key in _FUNCTION.items()},
    **{f"O{letter}": f"f{key}" for key, letter in enumerate("PQRS", 1)},
    "[1~": "home", "[2~": "insert", "[3~": "delete", "[4~": "end", "[5~": "pgup", "[6~": "pgdn", "[Z": "tab",
}  # fmt: skip
"""Behind an escape character."""
_CONTROL = {"\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace", "\x1b": "esc"}
_TOKEN = re.compile(r"\x1b(?P<sequence>\[[0-9]*[A-Z~]|O[A-Z])|(?P<character>[\s\S])")


class Keyboard(Protocol):
    """The keyboard of a VM."""

    def type(self, text: str) -> None:
        """Type ``text``."""
        ...

    def press(self, *keys: str) -> None:
        """Press keys together."""
        ...

    @property
    def pending(self) -> int:
        """Presses and releases that the guest has not been given yet."""
        ...


def press(keyboard: Keyboard, data: bytes) -> None:
    """Press the keys that make a terminal send ``data``. What is on no key is dropped."""
    for token in _TOKEN.finditer(data.decode("utf-8", "replace")):
        sequence, character = token["sequence"], token["character"]
        try:
            if sequence is not None:
                if sequence in SEQUENCES:
                    keyboard.press(SEQUENCES[sequence])
            elif character in _CONTROL:
                keyboard.press(_CONTROL[character])
            elif "\x01" <= character <= "\x1a":
                keyboard.press("ctrl", chr(ord(character) + 0x60))
            else:
                keyboard.type(character)
        except ConfigError:  # a character that a US keyboard does not have
            continue
