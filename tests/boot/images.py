"""Synthetic images of every format, built field by field so that a test can spoil one of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

CODE = b"\xf4" * 64


@dataclass(frozen=True)
class Part:
    """A loadable ELF segment; with ``is_note`` a second program header says that it holds notes."""

    paddr: int
    data: bytes
    memory_size: int | None = None
    vaddr: int | None = None
    is_note: bool = False


def elf(
    bits: int = 32,
    parts: Sequence[Part] = (Part(0x100000, CODE),),
    entry: int = 0x100000,
    machine: int | None = None,
    kind: int = 2,
    note: bytes = b"",
    symbols: Sequence[tuple[str, int, int]] = (),
    head: bytes = b"",
) -> bytes:
    """An ELF executable; ``symbols`` are (name, value, info). ``head`` is put right after the program headers."""
    wide = bits == 64
    header_size, ph_size, sh_size = (64, 56, 64) if wide else (52, 32, 40)
    count = len(parts) + sum(part.is_note for part in parts) + bool(note)
    at = header_size + count * ph_size
    at += -at % 8
    body = head
    headers = b""
    for part in parts:
        memory_size = len(part.data) if part.memory_size is None else part.memory_size
        vaddr = part.paddr if part.vaddr is None else part.vaddr
        for kind_of_part in (1, 4)[: 1 + part.is_note]:
            headers += _program_header(
                wide, kind_of_part, at + len(body), vaddr, part.paddr, len(part.data), memory_size
            )
        body += part.data
    if note:
        headers += _program_header(wide, 4, at + len(body), 0, 0, len(note), len(note))
        body += note
    names, table = b"\0", bytes(24 if wide else 16)
    for name, value, info in symbols:
        layout, fields = (
            ("<IBBHQQ", (len(names), info, 0, 1, value, 0)) if wide else ("<IIIBBH", (len(names), value, 0, info, 0, 1))
        )
        table += struct.pack(layout, *fields)
        names += name.encode() + b"\0"
    names_at = at + len(body)
    table_at = names_at + len(names)
    sections_at = table_at + len(table)
    sections = bytes(sh_size) + _section(wide, 2, table_at, len(table), 2) + _section(wide, 3, names_at, len(names), 0)
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1, 1)) + bytes(9)
    machine = machine if machine is not None else (62 if wide else 3)
    layout = "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH"
    header = struct.pack(
        layout, kind, machine, 1, entry, header_size, sections_at, 0, header_size, ph_size, count, sh_size, 3, 2
    )
    return (ident + header + headers).ljust(at, b"\0") + body + names + table + sections


def _program_header(wide: bool, kind: int, offset: int, vaddr: int, paddr: int, size: int, memory_size: int) -> bytes:
    if wide:
        return struct.pack("<IIQQQQQQ", kind, 7, offset, vaddr, paddr, size, memory_size, 8)
    return struct.pack("<8I", kind, offset, vaddr, paddr, size, memory_size, 7, 8)


def _section(wide: bool, kind: int, offset: int, size: int, link: int) -> bytes:
    return struct.pack("<IIQQQQIIQQ" if wide else "<10I", 0, kind, 0, 0, offset, size, link, 0, 1, 0)


def multiboot1_header(flags: int = 3, checksum: int | None = None, addresses: Sequence[int] = ()) -> bytes:
    magic = 0x1BADB002
    sum_ = -(magic + flags) & 0xFFFFFFFF if checksum is None else checksum
    return struct.pack("<III", magic, flags, sum_) + struct.pack(f"<{len(addresses)}I", *addresses)


def multiboot1_elf(bits: int = 32, flags: int = 3, checksum: int | None = None, **more: object) -> bytes:
    return elf(bits, head=multiboot1_header(flags, checksum), **more)  # type: ignore[arg-type]


def multiboot2_header(
    tags: Sequence[tuple[int, int, bytes]] = (), architecture: int = 0, checksum: int | None = None
) -> bytes:
    body = b""
    for kind, flags, data in (*tags, (0, 0, b"")):
        tag = struct.pack("<HHI", kind, flags, 8 + len(data)) + data
        body += tag + bytes(-len(tag) % 8)
    length = 16 + len(body)
    magic = 0xE85250D6
    sum_ = -(magic + architecture + length) & 0xFFFFFFFF if checksum is None else checksum
    return struct.pack("<IIII", magic, architecture, length, sum_) + body


def multiboot2_elf(bits: int = 32, tags: Sequence[tuple[int, int, bytes]] = (), **more: object) -> bytes:
    return elf(bits, head=multiboot2_header(tags), **more)  # type: ignore[arg-type]


def bzimage(
    version: int = 0x20F,
    xloadflags: int = 1,
    loadflags: int = 1,
    setup_sects: int = 4,
    code: bytes = CODE * 16,
    syssize: int | None = None,
    cmdline_size: int = 100,
    initrd_addr_max: int = 0x7FFFFFFF,
    relocatable: int = 1,
    pref_address: int = 0x200000,
    init_size: int = 0x100000,
    jump: int = 0x6A,
    code32_start: int = 0x100000,
) -> bytes:
    """A bzImage whose code is ``code``."""
    setup = bytearray(512 * ((setup_sects or 4) + 1))
    setup[0x1F1] = setup_sects
    struct.pack_into("<I", setup, 0x1F4, -(-len(code) // 16) if syssize is None else syssize)
    setup[0x1FE:0x206] = bytes((0x55, 0xAA, 0xEB, jump)) + b"HdrS"
    struct.pack_into("<H", setup, 0x206, version)
    setup[0x211] = loadflags
    struct.pack_into("<I", setup, 0x214, code32_start)
    struct.pack_into("<I", setup, 0x22C, initrd_addr_max)
    struct.pack_into("<IBBH", setup, 0x230, 0x200000, relocatable, 21, xloadflags)
    struct.pack_into("<I", setup, 0x238, cmdline_size)
    struct.pack_into("<QI", setup, 0x258, pref_address, init_size)
    return bytes(setup) + code
