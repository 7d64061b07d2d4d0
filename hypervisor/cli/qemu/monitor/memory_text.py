"""``x`` and ``xp``: memory as numbers, characters or instructions (QEMU 7.2, ``monitor/misc.c``, memory_dump)."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypervisor.cli.qemu.monitor.expressions import NoExpression
from hypervisor.debug import disasm
from hypervisor.errors import ConfigError, GuestFault

MOST = 1 << 16
"""Bytes that one command shows at most."""
_ESCAPED = {ord("'"): "\\'", ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r"}
_SIZES = {"b": 1, "h": 2, "w": 4, "g": 8}


class Format(NamedTuple):
    """``/COUNT FORMAT SIZE``: how many, ``x d u o c i``, and the bytes of one."""

    many: int = 1
    letter: str = "x"
    size: int = 4


def parse_format(text: str, before: Format) -> Format:
    """What is behind the ``/``; what it leaves out is as it was ``before``. Raises `ConfigError`."""
    digits = len(text) - len(text.lstrip("0123456789"))
    count = int(text[:digits]) if 0 < digits < 10 else 1
    letter, size, sized = before.letter, before.size, False
    for one in text[digits:]:
        if one in "xduoci":
            letter = one
        elif one in _SIZES:
            size, sized = _SIZES[one], True
        else:
            raise NoExpression(f"invalid char in format: '{one}'")
    if letter == "c" and not sized:
        size = 1
    return Format(count, letter, size)


def dump(vcpu: Any, how: Format, start: int, *, physical: bool) -> str:
    """Memory from an address on. What cannot be read ends it, and is said. Raises `ConfigError` for too much."""
    if how.letter == "i":
        return _instructions(vcpu, how.many, start, physical=physical)
    if how.many * how.size > MOST:
        raise ConfigError(f"{how.many * how.size} bytes are more than the {MOST} that are shown at once.")
    in_line = (8 if how.size == 1 else 16) // how.size
    lines, left, at = list[str](), how.many, start
    while left:
        here = min(left, in_line)
        data = _read(vcpu, at, here * how.size, physical=physical)
        if data is None:
            return "\n".join([*lines, f"{at:016x}: Cannot access memory" if not lines else " Cannot access memory"])
        values = (data[n : n + how.size] for n in range(0, len(data), how.size))
        lines.append(f"{at:016x}:" + "".join(f" {_value(one, how)}" for one in values))
        at = at + here * how.size & (1 << 64) - 1
        left -= here
    return "\n".join(lines)


def number(value: int, letter: str, size: int = 8) -> str:
    """A number as ``print`` shows it."""
    value &= (1 << 8 * size) - 1
    if letter == "x":
        return f"{value:#x}"
    return _value(value.to_bytes(size, "little"), Format(1, letter, size)).strip()


def _value(data: bytes, how: Format) -> str:
    value, bits = int.from_bytes(data, "little"), 8 * how.size
    match how.letter:
        case "o":
            return f"{f'0{value:o}' if value else '0':>{(bits + 2) // 3}}"
        case "u":
            return f"{value:>{(bits * 10 + 32) // 33}}"
        case "d":
            return f"{value - (value >> bits - 1 << bits):>{(bits * 10 + 32) // 33}}"
        case "c":
            return _character(value & 0xFF)
    return f"0x{value:0{how.size * 2}x}"


def _character(value: int) -> str:
    plain = chr(value) if 32 <= value <= 126 else f"\\x{value:02x}"
    return f"'{_ESCAPED.get(value, plain)}'"


def _read(vcpu: Any, at: int, size: int, *, physical: bool) -> bytes | None:
    try:
        data: bytes = vcpu.vm.memory.read(at, size) if physical else vcpu.read(at, size)
    except (GuestFault, ConfigError, ValueError, OverflowError):
        return None
    return data


def _instructions(vcpu: Any, count: int, start: int, *, physical: bool) -> str:
    size = min(count * disasm.LONGEST, MOST)
    data = None
    while data is None and size:  # the last page may be missing
        data = _read(vcpu, start, size, physical=physical)
        size //= 2
    if data is None:
        return f"{start:#010x}: Cannot access memory"
    lines = disasm.disassemble(data, start, disasm.code_bits(vcpu), count)
    return "\n".join(f"{line.address:#010x}:  {line.data.hex(' '):<24} {line.text}" for line in lines)
