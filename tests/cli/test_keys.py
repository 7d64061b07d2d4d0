"""Keys of a terminal as keys of a PC."""

from __future__ import annotations

import pytest

from hypervisor.cli.tty.terminal_keys import press
from hypervisor.errors import ConfigError


class Keyboard:
    def __init__(self) -> None:
        self.log: list[str] = []

    def type(self, text: str) -> None:
        if text == "é":
            raise ConfigError("no such key")
        self.log.append(text)

    def press(self, *keys: str) -> None:
        self.log.append("+".join(keys))


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"ls\r", ["l", "s", "enter"]),
        (b"\x1b[A\x1b[B\x1bOC\x1b[3~", ["up", "down", "right", "delete"]),
        (b"\x1bOP\x1b[15~\x1b[24~", ["f1", "f5", "f12"]),
        (b"\x03\x1a\x7f\t\x1b", ["ctrl+c", "ctrl+z", "backspace", "tab", "esc"]),
        ("aéb".encode(), ["a", "b"]),
        (b"\x1b[99~x", ["x"]),
    ],
)
def test_keys(data: bytes, keys: list[str]) -> None:
    keyboard = Keyboard()
    press(keyboard, data)
    assert keyboard.log == keys
