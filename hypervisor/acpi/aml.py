"""An encoder of ACPI Machine Language, as far as our DSDT needs it: each function returns the bytes of one term.

Source: ACPI specification 6.5, chapter 20 "ACPI Machine Language Specification"; opcodes are those of table 20.3.
"""

from __future__ import annotations

ZERO, ONE = b"\x00", b"\x01"
ARG0 = b"\x68"
SYSTEM_IO, PCI_CONFIG = 1, 2
BYTE_ACCESS = 1
_EXTENDED = b"\x5b"


def length(body: int) -> bytes:
    """PkgLength (20.2.4) in front of ``body`` bytes; it counts itself."""
    if body + 1 < 1 << 6:
        return bytes([body + 1])
    for extra in (1, 2, 3):
        total = body + 1 + extra
        if total < 1 << 4 + 8 * extra:
            return bytes([extra << 6 | total & 0xF]) + (total >> 4).to_bytes(extra, "little")
    raise ValueError(f"{body} bytes do not fit an AML package")


def _package(opcode: bytes, body: bytes) -> bytes:
    return opcode + length(len(body)) + body


def path(text: str) -> bytes:
    r"""NameString (20.2.2): ``\_SB.PCI0``, or a name relative to the scope; short segments are padded with ``_``."""
    root = b"\\" if text.startswith("\\") else b""
    segments = [segment.ljust(4, "_").encode("ascii") for segment in text.lstrip("\\").split(".") if segment]
    if any(len(segment) != 4 for segment in segments):
        raise ValueError(f"{text!r}: a name segment has at most four characters")
    prefix = {0: b"\x00", 1: b"", 2: b"\x2e"}.get(len(segments), bytes([0x2F, len(segments)]))
    return root + prefix + b"".join(segments)


def integer(value: int) -> bytes:
    """The shortest constant (20.2.3)."""
    if value in (0, 1):
        return bytes([value])
    for prefix, size in ((0x0A, 1), (0x0B, 2), (0x0C, 4), (0x0E, 8)):
        if value < 1 << 8 * size:
            return bytes([prefix]) + value.to_bytes(size, "little")
    raise ValueError(f"{value:#x} has more than 64 bits")


def string(text: str) -> bytes:
    """A string."""
    return b"\x0d" + text.encode("ascii") + b"\0"


def eisa_id(text: str) -> bytes:
    """A Plug and Play id such as ``PNP0A03``, compressed to 32 bits (19.3.4, EISAID)."""
    letters = [ord(letter) - 0x40 for letter in text[:3]]
    word = letters[0] << 26 | letters[1] << 21 | letters[2] << 16 | int(text[3:], 16)
    return b"\x0c" + word.to_bytes(4, "big")


def buffer(data: bytes) -> bytes:
    """A buffer of these bytes."""
    return _package(b"\x11", integer(len(data)) + data)


def package(*elements: bytes) -> bytes:
    """A package of at most 255 terms."""
    return _package(b"\x12", bytes([len(elements)]) + b"".join(elements))


def name(where: str, value: bytes) -> bytes:
    """Name(where, value)."""
    return b"\x08" + path(where) + value


def scope(where: str, *terms: bytes) -> bytes:
    """Scope(where) {...}."""
    return _package(b"\x10", path(where) + b"".join(terms))


def device(where: str, *terms: bytes) -> bytes:
    """Device(where) {...}."""
    return _package(_EXTENDED + b"\x82", path(where) + b"".join(terms))


def method(where: str, arguments: int, *terms: bytes, serialized: bool = False) -> bytes:
    """Method(where, arguments) {...}."""
    return _package(b"\x14", path(where) + bytes([arguments | serialized << 3]) + b"".join(terms))


def region(where: str, space: int, offset: int, size: int) -> bytes:
    """OperationRegion."""
    return _EXTENDED + b"\x80" + path(where) + bytes([space]) + integer(offset) + integer(size)


def byte_fields(of: str, *names: str) -> bytes:
    """Field(of, ByteAcc, NoLock, Preserve) with fields of eight bits each."""
    fields = b"".join(path(one) + length(7) for one in names)  # a width is encoded as a PkgLength that counts nothing
    return _package(_EXTENDED + b"\x81", path(of) + bytes([BYTE_ACCESS]) + fields)


def create_dword_field(source: bytes, index: int, where: str) -> bytes:
    """CreateDWordField(source, index, where): 32 bits of a buffer, by name."""
    return b"\x8a" + source + integer(index) + path(where)


def store(value: bytes, target: bytes) -> bytes:
    """target = value."""
    return b"\x70" + value + target


def bit_and(left: bytes, right: bytes, target: bytes = ZERO) -> bytes:
    """left & right, also stored in ``target``."""
    return b"\x7b" + left + right + target


def bit_or(left: bytes, right: bytes, target: bytes = ZERO) -> bytes:
    """left | right, also stored in ``target``."""
    return b"\x7d" + left + right + target


def less(left: bytes, right: bytes) -> bytes:
    """left < right."""
    return b"\x95" + left + right


def if_(condition: bytes, *terms: bytes) -> bytes:
    """If (condition) {...}."""
    return _package(b"\xa0", condition + b"".join(terms))


def return_(value: bytes) -> bytes:
    """Return (value)."""
    return b"\xa4" + value
