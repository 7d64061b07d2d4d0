"""What a guest writes, as lines of text without what a kernel's log and a terminal put around them."""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 4096
"""Bytes of a line; the rest of a longer one is dropped."""

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
"""ECMA-48: control sequences (colours, cursor), operating system commands, and escapes of two characters."""
_LOG = re.compile(r"(?:<\d+>)?\[ *\d+\.\d+\] ?(?:\[ *[CT]\d+\] ?)?")
"""What Linux's printk puts before a text: level, time in seconds, and the processor or thread that it comes from."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class GuestLines:
    """Bytes become lines, as they come."""

    def __init__(self) -> None:
        self._open = bytearray()

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that end in ``data``."""
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._append(part)
            yield self.unended
            self._open.clear()
        self._append(rest)

    def _append(self, data: bytes) -> None:
        self._open += data[: LONGEST - len(self._open)]

    @property
    def unended(self) -> str:
        """The line that has begun."""
        return plain(bytes(self._open))


def plain(line: bytes) -> str:
    """A line without control characters and the beginning of a log; bytes that are not UTF-8 show as ``\\xff``."""
    text = _ESCAPE.sub("", line.decode("utf-8", "backslashreplace"))
    text = _CONTROL.sub("", text)
    prefix = _LOG.match(text)
    return text if prefix is None else text[prefix.end() :]


__all__ = ["LONGEST", "GuestLines", "plain"]
