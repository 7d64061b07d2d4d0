"""Keys at the table, from what a terminal sends for them."""

from __future__ import annotations

import re

from hypervisor.cli.tty.terminal_keys import SEQUENCES

_TOKEN = re.compile(r"\x1b(?P<sequence>\[[0-9;]*[A-Za-z~]|O[A-Za-z])|(?P<character>[\s\S])")
_BEGUN = re.compile(r"\x1b(\[[0-9;]*|O)?")


class Keys:
    """What was typed, a key at a time. Sequences may come in pieces."""

    def __init__(self) -> None:
        self._waiting = ""

    def put(self, data: bytes) -> None:
        """This was typed."""
        self._waiting += data.decode("latin-1")

    def next(self) -> str:
        """The next key: its name (``up``, ``ctrl-c``), or a letter; empty if there is none, or only a part of one."""
        while self._waiting and not _BEGUN.fullmatch(self._waiting):
            token = _TOKEN.match(self._waiting)
            assert token is not None
            self._waiting = self._waiting[token.end() :]
            if name := _name(token):
                return name
        return ""

    def rest(self) -> bytes:
        """All that has not been taken, which is somebody else's now."""
        waiting, self._waiting = self._waiting, ""
        return waiting.encode("latin-1")


def _name(token: re.Match[str]) -> str:
    if token["sequence"] is not None:
        return SEQUENCES.get(token["sequence"], "")
    return "ctrl-c" if token["character"] == "\x03" else token["character"]
