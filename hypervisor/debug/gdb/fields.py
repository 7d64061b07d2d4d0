"""Fields of packets: hexadecimal numbers, lists of them, thread numbers, bytes."""

from __future__ import annotations

_DIGITS = frozenset("0123456789abcdefABCDEF")
_LONGEST = 16


class Malformed(Exception):
    """A packet does not have the form that it should have. Never seen outside this room."""


def hexadecimal(text: str) -> int:
    """A number of at most 64 bits. Raises `Malformed`."""
    if not 0 < len(text) <= _LONGEST or not _DIGITS.issuperset(text):
        raise Malformed
    return int(text, 16)


def numbers(text: str, count: int) -> list[int]:
    """``count`` numbers with commas between them. Raises `Malformed`."""
    parts = text.split(",")
    if len(parts) != count:
        raise Malformed
    return [hexadecimal(part) for part in parts]


def thread_id(text: str) -> int:
    """A thread's number: 0 is any, -1 all. Raises `Malformed`."""
    return -1 if text == "-1" else hexadecimal(text)


def octets(text: str) -> bytes:
    """Bytes, two digits each. Raises `Malformed`."""
    if len(text) % 2 or not _DIGITS.issuperset(text):
        raise Malformed
    return bytes.fromhex(text)
