"""Plain data as bytes and back: the part of CBOR (RFC 8949) that such data need.

Integers of any size, floating-point numbers of 64 bits, bytes, texts, lists, maps with texts as keys, True, False and
None. The same data are the same bytes: lengths and integers are as short as they can be, and keys keep their order.
What is read may come from
anybody, so nothing of it is trusted: neither lengths, nor how deep it goes.
"""

from __future__ import annotations

import struct
from typing import Any

DEPTH = 16
"""How many lists and maps may be within each other."""

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG, _SIMPLE = range(8)
_POSITIVE_BIG, _NEGATIVE_BIG = 2, 3
_FALSE, _TRUE, _NONE, _DOUBLE = 20, 21, 22, 27
_SIZES = {24: 1, 25: 2, 26: 4, 27: 8}


def encode(value: Any) -> bytes:
    """Plain data as CBOR. Raises TypeError for what is none."""
    out = bytearray()
    _encode(out, value)
    return bytes(out)


def _head(out: bytearray, major: int, argument: int) -> None:
    """The first bytes of an item: its major type, and its value or length in as few bytes as it takes (section 3)."""
    if argument < 24:
        out.append(major << 5 | argument)
        return
    code = next(code for code, size in _SIZES.items() if argument < 1 << 8 * size)
    out.append(major << 5 | code)
    out += argument.to_bytes(_SIZES[code], "big")


def _encode(out: bytearray, value: Any) -> None:
    if value is None or isinstance(value, bool):
        out.append(_SIMPLE << 5 | (_NONE if value is None else _TRUE if value else _FALSE))
    elif isinstance(value, int):
        _encode_int(out, value)
    elif isinstance(value, float):
        out.append(_SIMPLE << 5 | _DOUBLE)
        out += struct.pack(">d", value)
    elif isinstance(value, bytes):
        _head(out, _BYTES, len(value))
        out += value
    elif isinstance(value, str):
        encoded = value.encode("utf-8", "surrogatepass")
        _head(out, _TEXT, len(encoded))
        out += encoded
    elif isinstance(value, list):
        _head(out, _LIST, len(value))
        for one in value:
            _encode(out, one)
    elif isinstance(value, dict):
        _head(out, _MAP, len(value))
        for key, one in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{key!r} is no name of a field")
            _encode(out, key)
            _encode(out, one)
    else:
        raise TypeError(f"{value!r} is of type {type(value).__name__}, which is no plain data")


def _encode_int(out: bytearray, value: int) -> None:
    major, argument = (_UNSIGNED, value) if value >= 0 else (_NEGATIVE, -1 - value)
    if argument < 1 << 64:
        _head(out, major, argument)
        return
    _head(out, _TAG, _POSITIVE_BIG if value >= 0 else _NEGATIVE_BIG)
    _encode(out, argument.to_bytes(-(-argument.bit_length() // 8), "big"))


def decode(content: bytes) -> Any:
    """The data that `encode` was given. Raises ValueError, with the end of a sentence, for anything else."""
    reader = _Reader(content)
    value = reader.item(0)
    if reader.at != len(content):
        raise ValueError(f"{len(content) - reader.at} bytes follow what should be all of it")
    return value


class _Reader:
    """Reads items one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def _take(self, count: int) -> bytes:
        if count > len(self._content) - self.at:
            raise ValueError(f"it ends at byte {len(self._content)}, in the middle of what is at byte {self.at}")
        self.at += count
        return self._content[self.at - count : self.at]

    def _argument(self, code: int) -> int:
        if code < 24:
            return code
        if code not in _SIZES:
            raise ValueError(f"byte {self.at - 1} begins nothing that a state has")
        return int.from_bytes(self._take(_SIZES[code]), "big")

    def item(self, depth: int) -> Any:
        """The item that begins here."""
        if depth > DEPTH:
            raise ValueError(f"at byte {self.at} it is more than {DEPTH} levels deep")
        first = self._take(1)[0]
        major, code = first >> 5, first & 31
        if major == _SIMPLE:
            if code == _DOUBLE:
                value: float = struct.unpack(">d", self._take(8))[0]
                return value
            if code not in (_FALSE, _TRUE, _NONE):
                raise ValueError(f"byte {self.at - 1} is {first:#x}, which begins nothing that a state has")
            return None if code == _NONE else code == _TRUE
        argument = self._argument(code)
        if major == _UNSIGNED:
            return argument
        if major == _NEGATIVE:
            return -1 - argument
        if major == _BYTES:
            return self._take(argument)
        if major == _TEXT:
            return self._text(argument)
        if major == _LIST:
            return [self.item(depth + 1) for _ in range(self._count(argument))]
        if major == _MAP:
            return self._map(self._count(argument), depth)
        return self._big(argument, depth)

    def _count(self, argument: int) -> int:
        """A number of items, which are a byte each at least."""
        if argument > len(self._content) - self.at:
            raise ValueError(f"at byte {self.at} there should be {argument} items, and it ends before")
        return argument

    def _text(self, length: int) -> str:
        at = self.at
        try:
            return self._take(length).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise ValueError(f"the text at byte {at} is not UTF-8") from None

    def _map(self, count: int, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for _ in range(count):
            at, key = self.at, self.item(depth + 1)
            if not isinstance(key, str) or key in values:
                raise ValueError(f"at byte {at} there should be a new name of a field")
            values[key] = self.item(depth + 1)
        return values

    def _big(self, tag: int, depth: int) -> int:
        """An integer of more than 64 bits (section 3.4.3)."""
        at, content = self.at, self.item(depth + 1)
        if tag not in (_POSITIVE_BIG, _NEGATIVE_BIG) or not isinstance(content, bytes):
            raise ValueError(f"byte {at - 1} begins nothing that a state has")
        value = int.from_bytes(content, "big")
        return value if tag == _POSITIVE_BIG else -1 - value
