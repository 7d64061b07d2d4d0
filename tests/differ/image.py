"""The image that both machines boot by multiboot: the harness, its tables and the programs."""

from __future__ import annotations

import random
import struct
import tempfile
from functools import cache
from pathlib import Path

from tests.differ import layout as at
from tests.differ.modes import Place
from tests.differ.program import Program
from tests.oracle.build import descriptor, descriptor16, gate, gate64, with_dpl
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


def _gdt(place: Place) -> bytes:
    """Selectors are positions in this list. System descriptors are of two lines, of which protected mode uses one."""
    entry = _harness()[1]["from_gate"]
    code = 0x08 if place.long else 0x30
    entries = [
        bytes(8),  # 00
        descriptor(0, FLAT, CODE64),
        descriptor(0, FLAT, DATA32),  # 10
        descriptor(0, FLAT, with_dpl(CODE32, 3)),
        descriptor(0, FLAT, with_dpl(DATA32, 3)),  # 20
        descriptor(0, FLAT, with_dpl(CODE64, 3)),
        descriptor(0, FLAT, CODE32),  # 30
        descriptor(place.live, FLAT, with_dpl(CODE16 | 0x800, 3)),
        descriptor16(place.live + at.TSS, 0x67, 0x089),  # 40
        descriptor16(place.live + at.LDT, 0x3F, 0x082),  # 50
        descriptor(0, FLAT, with_dpl(DATA32, 3) & ~NOT_PRESENT),  # 60
        descriptor(0, FLAT, CODE64 | 4),
        descriptor(0, FLAT, CODE32 | 4),  # 70
        descriptor(0, FLAT, with_dpl(0xC90, 3)),
        gate64(12, code, entry, 3),  # 80
        gate64(12, code, entry, 3, present=False),  # 90
        gate64(12, code, entry, 0),  # a0
        descriptor(0, FLAT, with_dpl(0xC96, 3)),  # b0
        descriptor(0, FLAT, with_dpl(CODE32, 3) & ~NOT_PRESENT),
        descriptor(0, FLAT, 0x892),  # c0: 4 GiB of 16-bit data, not accessed
        descriptor16(place.live + at.TSS, 0x67, 0x08B),  # c8
        descriptor(0, FLAT, with_dpl(0xC98, 3)),  # d8
        descriptor(place.data, FLAT, with_dpl(0xC92, 3)),  # e0
        descriptor(0, FLAT, with_dpl(CODE64 | 0x400, 3)),  # e8
        descriptor16(place.live + at.LDT, 0x3F, 0x002),  # f0
        descriptor(place.data, FLAT, with_dpl(0xC92, 0)),  # 100
        descriptor16(at.FAULT_TSS, 0x67, 0x089),  # 108
        descriptor(place.live, FLAT, CODE16 | 0x800),  # 118
        descriptor(place.stack, FLAT, 0x893),  # 120
        descriptor(place.stack, FLAT, with_dpl(0x893, 3)),
        descriptor16(place.live + at.TASK, 0x67, 0x089),  # 130
    ]
    table = b"".join(entries)
    assert len(table) == at.GDT_LIMIT + 1
    return table


def _first_gdt() -> bytes:
    """The harness's own: what programs do to theirs does not matter to it."""
    low = at.REAL_SEGMENT * 16
    kinds = {0x08: (0, CODE64), 0x10: (0, DATA32), 0x30: (0, CODE32), 0x38: (low, CODE16), 0x40: (low, 0x093)}
    return b"".join(
        descriptor(kinds[n][0], 0xFFFF if n > 0x30 else FLAT, kinds[n][1]) if n in kinds else bytes(8)
        for n in range(0, 0x48, 8)
    )


def _ldt(place: Place) -> bytes:
    kinds = [(place.data, 0xC92, 3), (0, CODE32, 3), (0, CODE64, 3), (place.stack, 0xC92, 3), (0, CODE64, 0)]
    return bytes(8) + b"".join(descriptor(base, FLAT, with_dpl(kind, dpl)) for base, kind, dpl in kinds)


def _tss(place: Place) -> bytes:
    """The stack of ring 0 is in the programs' pages; that of interrupts is the harness's in long mode."""
    data = bytearray(0x68)
    struct.pack_into("<Q", data, 4, place.live + (at.STACK_0 + 1) * 4096 - 0x40)
    if place.long:
        struct.pack_into("<Q", data, 0x24, at.STACK_TOP)
    else:
        struct.pack_into("<I", data, 8, 0x10)
    struct.pack_into("<H", data, 0x66, 0x68)
    return bytes(data)


def _task(place: Place, stack: int, cs: int, ss: int, eip: int) -> bytes:
    """A TSS to switch to."""
    data = bytearray(_tss(place))
    struct.pack_into("<III", data, 28, place.cr3, eip, 2)
    struct.pack_into("<I", data, 56, stack)
    struct.pack_into("<6I", data, 72, ss, cs, ss, ss, ss, ss)
    return bytes(data)


def _page_table(wide: bool) -> bytes:
    """For the pages of programs, but for the table itself: who changes it need not be told what is in the TLB. What
    faults has its accessed bit already: when else it is set is nobody's promise.
    """
    never = 1 << 63 if wide else 0
    kinds = {page: 0x7 | never for page in (*range(4), at.DATA_2, at.DATA_3)} | {at.CODE: 7, at.CODE + 1: 0x25}
    kinds |= {at.READ_ONLY: 0x25 | never, at.SUPERVISOR: 0x23}
    kinds |= {page: 3 for page in (at.STACK_0, at.TABLES)}
    count = 512 if wide else 1024
    first = at.LIVE >> 12 & count - 1
    entries = (kinds[n - first] | at.PHYSICAL + (n - first) * 4096 if n - first in kinds else 0 for n in range(count))
    return struct.pack("<512Q" if wide else "<1024I", *entries)


@cache
def _clean(place: Place) -> bytes:
    pages = bytearray(random.Random(0).randbytes(at.LIVE_SIZE))
    pages[at.TABLES * 4096 : (at.TABLES + 1) * 4096] = bytes(4096)
    for page in (at.CODE, at.CODE + 1):
        pages[page * 4096 : (page + 1) * 4096] = b"\xcc" * 4096
    task = _task(place, place.live + (at.DATA_3 + 1) * 4096 - 0x40, 0x1B, 0x23, place.live + (at.CODE + 1) * 4096)
    for offset, data in ((at.GDT, _gdt(place)), (at.LDT, _ldt(place)), (at.TSS, _tss(place)), (at.TASK, task)):
        pages[offset : offset + len(data)] = data
    if place.paging:
        table = _page_table(place is not Place.TWO_LEVEL)
        pages[at.PAGE_TABLE * 4096 : (at.PAGE_TABLE + 1) * 4096] = table
    return bytes(pages)


def _tables() -> dict[int, bytes]:
    """The harness's page tables: the first MiB is not there, the second is it."""
    live = at.PHYSICAL + at.PAGE_TABLE * 4096 | 7
    low = [at.BASE + n * 4096 | 3 for n in range(256)]
    directory = at.TOP_TABLE + 0x2000
    return {
        at.TOP_TABLE: struct.pack("<Q", at.TOP_TABLE + 0x1000 | 7),
        at.TOP_TABLE + 0x1000: struct.pack("<Q", directory | 7),
        directory: struct.pack("<6Q", at.LOW_TABLE | 3, 0x200083, live, 0x600083, 0, at.ALIAS_TABLE | 3),
        at.ALIAS_TABLE: struct.pack("<48Q", *(n * 4096 | 3 for n in range(48))),
        at.LOW_TABLE + 256 * 8: struct.pack("<256Q", *low),
        at.PAE_TABLE: struct.pack("<Q", directory | 1),
        at.DIRECTORY: struct.pack("<2I", at.DIRECTORY_LOW | 3, live),
        at.DIRECTORY_LOW + 256 * 4: struct.pack("<256I", *low),
    }


def _interrupts(symbols: dict[str, int]) -> dict[int, bytes]:
    dpl = [3 if n in (3, 4, 0x81) else 0 for n in range(256)]
    stubs = {width: [symbols[f"stubs{width}"] + n * at.STUB for n in range(256)] for width in (16, 32, 64)}
    low = at.REAL_SEGMENT * 16
    legacy = [gate(14, 0x30, stubs[32][n], dpl[n]) for n in range(256)]
    legacy[8] = gate(5, at.FAULT_SELECTOR, 0)
    return {
        at.IDT: b"".join(gate64(14, 8, stubs[64][n], dpl[n], ist=1) for n in range(256)),
        at.LEGACY_IDT: b"".join(legacy),
        at.REAL_IDT: b"".join(struct.pack("<HH", stub - low, at.REAL_SEGMENT) for stub in stubs[16]),
    }


def build(programs: list[Program]) -> bytes:
    """A multiboot image that runs these programs."""
    assert len(programs) <= MOST
    code, symbols = _harness()
    image = bytearray(at.IMAGE_END - at.BASE)

    def put(address: int, data: bytes) -> None:
        image[address - at.BASE : address - at.BASE + len(data)] = data

    put(at.BASE, code)
    put(symbols["count"], struct.pack("<I", at.PROGRAMS + len(programs) * at.IN_SIZE))
    for address, data in (_tables() | _interrupts(symbols)).items():
        put(address, data)
    put(at.FIRST_GDT, _first_gdt())
    put(at.FAULT_TSS, _task(Place.UNPAGED, at.STACK_TOP, 0x30, 0x10, symbols["double_fault"]))
    for place in Place:
        put(place.clean, _clean(place))
    for number, program in enumerate(programs):
        put(at.PROGRAMS + number * at.IN_SIZE, program.record())
    return bytes(image)
