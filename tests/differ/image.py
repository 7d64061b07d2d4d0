"""The image that both machines boot by multiboot: the harness, its tables and the programs."""

from __future__ import annotations

import random
import struct
import tempfile
from functools import cache
from pathlib import Path

from tests.differ import layout as at
from tests.differ.program import Program
from tests.oracle.build import descriptor, descriptor16, gate64, with_dpl
from tests.programs import run

SOURCE = Path(__file__).parent / "harness.asm"
MOST = (at.CLEAN - at.PROGRAMS) // at.IN_SIZE
CODE64, CODE32, CODE16, DATA32, NOT_PRESENT = 0xA9B, 0xC9B, 0x09B, 0xC93, 0x80
FLAT = 0xFFFF_FFFF


@cache
def _harness() -> tuple[bytes, dict[str, int]]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        (out / "layout.inc").write_text(at.include() + f"PROGRAMS_END equ {0xDEAD_0000:#x}\n")
        listing = out / "harness.map"
        source = SOURCE.read_text().replace("bits 32\n", f"[map symbols {listing}]\nbits 32\n", 1)
        (out / "harness.asm").write_text(source)
        run("nasm", "-f", "bin", "-I", f"{out}/", "-o", out / "harness", out / "harness.asm")
        words = [line.split() for line in listing.read_text().splitlines()]
        symbols = {line[2]: int(line[0], 16) for line in words if len(line) == 3 and line[1][0] in "0123456789ABCDEF"}
        return (out / "harness").read_bytes(), symbols


def _gdt(gate: int) -> bytes:
    """Selectors are positions in this list; two-line ones are 16 bytes."""
    entries = [
        bytes(8),  # 00
        descriptor(0, FLAT, CODE64),
        descriptor(0, FLAT, DATA32),  # 10
        descriptor(0, FLAT, with_dpl(CODE32, 3)),
        descriptor(0, FLAT, with_dpl(DATA32, 3)),  # 20
        descriptor(0, FLAT, with_dpl(CODE64, 3)),
        descriptor(0, FLAT, CODE32),  # 30
        descriptor(at.LIVE, FLAT, with_dpl(CODE16 | 0x800, 3)),
        descriptor16(at.TSS, 0x67, 0x089),  # 40
        descriptor16(at.LDT, 0x3F, 0x082),  # 50
        descriptor(0, FLAT, with_dpl(DATA32, 3) & ~NOT_PRESENT),  # 60
        descriptor(0, FLAT, CODE64 | 4),
        descriptor(0, FLAT, CODE32 | 4),  # 70
        descriptor(0, FLAT, with_dpl(0xC90, 3)),
        gate64(12, 8, gate, 3),  # 80
        gate64(12, 8, gate, 3, present=False),  # 90
        gate64(12, 8, gate, 0),  # a0
        descriptor(0, FLAT, with_dpl(0xC96, 3)),  # b0
        descriptor(0, FLAT, with_dpl(CODE32, 3) & ~NOT_PRESENT),
        descriptor(0, FLAT, 0x892),  # c0: 4 GiB of 16-bit data, not accessed
        descriptor16(at.TSS, 0x67, 0x08B),  # c8
        descriptor(0, FLAT, with_dpl(0xC98, 3)),  # d8
        descriptor(at.LIVE, FLAT, with_dpl(0xC92, 3)),  # e0
        descriptor(0, FLAT, with_dpl(CODE64 | 0x400, 3)),  # e8
        descriptor16(at.LDT, 0x3F, 0x002),  # f0
        descriptor(at.LIVE, FLAT, with_dpl(0xC92, 0)),  # 100
    ]
    return b"".join(entries)


def _ldt() -> bytes:
    kinds = [(at.LIVE, 0xC92, 3), (0, CODE32, 3), (0, CODE64, 3), (at.LIVE + 0x1000, 0xC92, 3), (0, CODE64, 0)]
    return bytes(8) + b"".join(descriptor(base, FLAT, with_dpl(kind, dpl)) for base, kind, dpl in kinds)


def _tss() -> bytes:
    data = bytearray(0x68)
    struct.pack_into("<Q", data, 4, at.LIVE + (at.STACK_0 + 1) * 4096 - 0x40)
    struct.pack_into("<Q", data, 0x24, at.STACK_TOP)
    struct.pack_into("<H", data, 0x66, 0x68)
    return bytes(data)


def _page_table() -> bytes:
    kinds = {page: 0x7 | 1 << 63 for page in (*range(4), at.DATA_2, at.DATA_3)} | {at.CODE: 7, at.CODE + 1: 5}
    kinds |= {at.READ_ONLY: 5 | 1 << 63} | {page: 3 for page in (at.SUPERVISOR, at.STACK_0, at.TABLES, at.PAGE_TABLE)}
    first = at.LIVE >> 12 & 511
    entries = (kinds[n - first] | at.LIVE + (n - first) * 4096 if n - first in kinds else 0 for n in range(512))
    return struct.pack("<512Q", *entries)


@cache
def _clean(gate: int) -> bytes:
    pages = bytearray(random.Random(0).randbytes(at.LIVE_SIZE))
    pages[at.TABLES * 4096 : (at.TABLES + 1) * 4096] = bytes(4096)
    for page in (at.CODE, at.CODE + 1):
        pages[page * 4096 : (page + 1) * 4096] = b"\xcc" * 4096
    for address, data in ((at.GDT, _gdt(gate)), (at.LDT, _ldt()), (at.TSS, _tss())):
        pages[address - at.LIVE : address - at.LIVE + len(data)] = data
    pages[at.PAGE_TABLE * 4096 : (at.PAGE_TABLE + 1) * 4096] = _page_table()
    return bytes(pages)


def build(programs: list[Program]) -> bytes:
    """A multiboot image that runs these programs."""
    assert len(programs) <= MOST
    code, symbols = _harness()
    image = bytearray(at.IMAGE_END - at.BASE)

    def put(address: int, data: bytes) -> None:
        image[address - at.BASE : address - at.BASE + len(data)] = data

    put(at.BASE, code)
    put(symbols["count"], struct.pack("<I", at.PROGRAMS + len(programs) * at.IN_SIZE))
    put(at.TOP_TABLE, struct.pack("<Q", at.TOP_TABLE + 0x1000 | 7))
    put(at.TOP_TABLE + 0x1000, struct.pack("<Q", at.TOP_TABLE + 0x2000 | 7))
    table = at.LIVE + at.PAGE_TABLE * 4096 | 7
    put(at.TOP_TABLE + 0x2000, struct.pack("<5Q", at.LOW_TABLE | 3, 0x200083, table, 0x600083, 0x400083))
    put(at.LOW_TABLE + 256 * 8, struct.pack("<256Q", *(at.BASE + n * 4096 | 3 for n in range(256))))
    put(at.FIRST_GDT, _gdt(0))
    gates = [gate64(14, 8, symbols["stubs"] + n * at.STUB, 3 if n in (3, 4, 0x81) else 0, ist=1) for n in range(256)]
    put(at.IDT, b"".join(gates))
    put(at.CLEAN, _clean(symbols["from_gate"]))
    for number, program in enumerate(programs):
        put(at.PROGRAMS + number * at.IN_SIZE, program.record())
    return bytes(image)
