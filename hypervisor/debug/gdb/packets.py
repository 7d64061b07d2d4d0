"""Framing of gdb's remote protocol: ``$data#checksum``, acknowledgements, and the bare byte that means Ctrl-C.

Source: the gdb manual, appendix E.1 (Overview). What arrives is hostile: nothing here raises, and nothing grows without
bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

MAX_PACKET = 0x4000
"""Longest packet in bytes, both ways; gdb is told so."""

ACK, NAK, INTERRUPT = b"+", b"-", 0x03
_ESCAPE, _ESCAPED = 0x7D, 0x20
_SPECIAL = b"$#}*"


class Event(Enum):
    """What besides packets comes in."""

    INTERRUPTED = "Ctrl-C"
    DAMAGED = "a packet whose checksum is wrong"
    RESEND = "gdb got a damaged packet"


class PacketReader:
    """Takes bytes as they come, in any pieces, and yields packets' data (unescaped) and events."""

    def __init__(self) -> None:
        self._packet: bytearray | None = None
        self._checksum = b""
        self._in_checksum = False

    @property
    def held(self) -> int:
        """Bytes of a packet that has not ended yet."""
        return len(self._packet or b"") + len(self._checksum)

    def feed(self, data: bytes) -> Iterator[bytes | Event]:
        """The packets and events that ``data`` completes."""
        for byte in data:
            if byte == ord("$"):  # also in the middle of a packet: the start of it was lost
                self._packet, self._in_checksum, self._checksum = bytearray(), False, b""
            elif self._packet is None:
                if byte == INTERRUPT:
                    yield Event.INTERRUPTED
                elif byte == NAK[0]:
                    yield Event.RESEND
            elif self._in_checksum:
                self._checksum += bytes([byte])
                if len(self._checksum) == 2:
                    packet, self._packet = bytes(self._packet), None
                    good = self._checksum.lower() == checksum(packet) and len(packet) <= MAX_PACKET
                    yield unescape(packet) if good else Event.DAMAGED
            elif byte == ord("#"):
                self._in_checksum = True
            elif len(self._packet) <= MAX_PACKET:
                self._packet.append(byte)


def checksum(data: bytes) -> bytes:
    """The two hexadecimal digits behind ``#``."""
    return b"%02x" % (sum(data) & 0xFF)


def frame(data: bytes) -> bytes:
    """A packet ready to be sent."""
    data = escape(data)
    return b"$" + data + b"#" + checksum(data)


def escape(data: bytes) -> bytes:
    """``data`` with the bytes that frame a packet replaced."""
    if not any(byte in data for byte in _SPECIAL):
        return data
    return b"".join(bytes((_ESCAPE, byte ^ _ESCAPED)) if byte in _SPECIAL else bytes((byte,)) for byte in data)


def unescape(data: bytes) -> bytes:
    """The reverse of `escape`; an escape at the very end stands for nothing."""
    if _ESCAPE not in data:
        return data
    out, escaped = bytearray(), False
    for byte in data:
        if escaped:
            out.append(byte ^ _ESCAPED)
        elif byte != _ESCAPE:
            out.append(byte)
        escaped = byte == _ESCAPE and not escaped
    return bytes(out)
