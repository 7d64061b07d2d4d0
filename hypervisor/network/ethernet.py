"""Ethernet frames as bytes: destination, source, type and the rest, without the check sequence (IEEE 802.3, 3.1)."""

from __future__ import annotations

import re

from hypervisor.errors import ConfigError

MIN_FRAME, MAX_FRAME = 60, 1514
"""Bytes of a frame, without the 4 of its check sequence."""
OVERHEAD = 24
"""Bytes that a frame takes on the wire beside its own: preamble 8, check sequence 4, gap between frames 12."""
ADDRESS_SIZE = 6
HEADER_SIZE = 14
BROADCAST = b"\xff" * ADDRESS_SIZE
_GROUP, _LOCAL = 0x01, 0x02


def destination(frame: bytes) -> bytes:
    """Whom it is for."""
    return frame[:ADDRESS_SIZE]


def source(frame: bytes) -> bytes:
    """Who says that it sent it."""
    return frame[ADDRESS_SIZE : 2 * ADDRESS_SIZE]


def is_group(address: bytes) -> bool:
    """Whether an address is that of several stations: a multicast, or all."""
    return bool(address[0] & _GROUP)


def padded(frame: bytes) -> bytes:
    """A frame with zeros behind it, as a station adds them to one that is too short for the wire."""
    return frame.ljust(MIN_FRAME, b"\0")


def local_address(number: int) -> bytes:
    """The station address that a world gives to its port of this number: locally administered (IEEE 802, 8.4)."""
    return bytes((_LOCAL, 0, 0)) + number.to_bytes(3, "big")


def parse_address(text: str | bytes) -> bytes:
    """A station's address from ``"02:00:00:00:00:01"``, or as six bytes. Raises `ConfigError`."""
    if isinstance(text, bytes) and len(text) == ADDRESS_SIZE:
        address = text
    elif isinstance(text, str) and re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", text):
        address = bytes.fromhex(text.replace(":", ""))
    else:
        raise ConfigError(f"mac={text!r}: give an address such as '02:00:00:00:00:01'.")
    if is_group(address) or not any(address):
        raise ConfigError(f"mac={text!r} is no station's address: the lowest bit of its first byte is for groups.")
    return address


def address_text(address: bytes) -> str:
    """As `parse_address` reads it."""
    return address.hex(":")


__all__ = [
    "ADDRESS_SIZE", "BROADCAST", "HEADER_SIZE", "MAX_FRAME", "MIN_FRAME", "OVERHEAD", "address_text", "destination",
    "is_group", "local_address", "padded", "parse_address", "source",
]  # fmt: skip
