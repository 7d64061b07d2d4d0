"""Images that are small and ask for much: counts, sizes, names and references that a reader must not believe.

Each is a good image but for what it is called after. Those that end in ``ud2`` crash at once, so that the report reads
their symbols, lines and call frames.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.boot.images import bzimage, multiboot1_header, multiboot2_header

M32, M64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
AT = 0x100000
CRASH = b"\x0f\x0b" + bytes(14)
HALT = b"\xfa\xf4\xeb\xfd" + bytes(12)


class Image(NamedTuple):
    """An image file: its name, contents, options of ``hypervisor run``, and its size if it is sparse beyond them."""

    name: str
    data: bytes
    options: tuple[str, ...] = ()
    size: int = 0


class Section(NamedTuple):
    """A section of an ELF file; ``size`` is what its header says, if that is not the truth."""

    name: bytes
    data: bytes
    kind: int = 1
    flags: int = 0
    link: int = 0
    size: int | None = None
    address: int = 0


def elf(
    sections: Sequence[Section] = (),
    segments: Sequence[tuple[int, ...]] = (),
    code: bytes = CRASH,
    bits: int = 64,
    head: bytes = b"",
    count: int | None = None,
    table: tuple[int, int] | None = None,
) -> bytes:
    """An ELF file with ``code`` at 1 MiB, more segments (type, flags, offset, vaddr, paddr, file size, memory size,
    align) and sections. ``count`` is the number of sections that it claims, ``table`` where and how large they are.
    """
    wide = bits == 64
    header_size, ph_size, sh_size = (64, 56, 64) if wide else (52, 32, 40)
    body = bytearray(code + head)
    at = header_size + ph_size * (len(segments) + 1)
    headers = bytearray()
    for segment in ((1, 7, at, AT, AT, len(body), len(body), 1), *segments):
        kind, flags, offset, vaddr, paddr, file_size, memory_size, align = segment
        headers += (
            struct.pack("<IIQQQQQQ", *segment)
            if wide
            else struct.pack(
                "<8I", *(n & M32 for n in (kind, offset, vaddr, paddr, file_size, memory_size, flags, align))
            )
        )
    names = b"\0" + b"".join(section.name + b"\0" for section in sections) + b".shstrtab\0"
    all_sections = (*sections, Section(b".shstrtab", names, 3)) if sections else ()
    places = {section.name: names.index(b"\0" + section.name + b"\0") + 1 for section in all_sections}
    table_data = bytearray(sh_size if sections else 0)
    for section in all_sections:
        size = len(section.data) if section.size is None else section.size
        table_data += struct.pack(
            "<IIQQQQIIQQ" if wide else "<10I",
            places[section.name], section.kind, section.flags, section.address,
            at + len(body), size if wide else size & M32, section.link, 0, 1, 0,
        )  # fmt: skip
        body += section.data
    offset, entry = table or (at + len(body), sh_size)
    total = (len(all_sections) + 1 if sections else 0) if count is None else count
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1, 1)) + bytes(9)
    header = struct.pack(
        "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH",
        2, 62 if wide else 3, 1, AT, header_size, offset if sections or table else 0, 0, header_size, ph_size,
        len(segments) + 1, entry, total & 0xFFFF, len(all_sections) & 0xFFFF,
    )  # fmt: skip
    return ident + header + bytes(headers + body + table_data)


def named(symbols: bytes, names: bytes, link: int = 2) -> list[Section]:
    """A symbol table and its names."""
    return [Section(b".symtab", symbols, 2, link=link), Section(b".strtab", names, 3)]


def symbol(name: int, value: int = AT) -> bytes:
    """A global function."""
    return struct.pack("<IBBHQQ", name, 0x12, 0, 1, value, 1)


def unit(data: bytes) -> bytes:
    """What debug sections consist of: a length, and as many bytes."""
    return struct.pack("<I", len(data)) + data


def line_unit(program: bytes, names: bytes = b"\0a.c\0\0\0\0\0", version: int = 4) -> bytes:
    """A unit of ``.debug_line``: no directories and a file, unless ``names`` say something else."""
    sizes = b"\x08\0" if version >= 5 else b""
    rest = struct.pack("<BBBbBB", 1, 1, 1, -5, 14, 13) + bytes([0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1]) + names
    return unit(struct.pack("<H", version) + sizes + struct.pack("<I", len(rest)) + rest + program)


def set_address(address: int) -> bytes:
    """DW_LNE_set_address."""
    return b"\0\x09\x02" + struct.pack("<Q", address)


END_SEQUENCE = b"\0\1\1"
ROW = set_address(AT) + b"\1" + END_SEQUENCE
"""The least that a line program can say."""
COMMON = unit(struct.pack("<I", 0) + b"\1\0\1\1\x10" + bytes(7))


def function(rules: bytes, begin: int = AT, length: int = 1 << 20, at: int = len(COMMON)) -> bytes:
    """A frame description entry at offset ``at`` of an ``.eh_frame`` that begins with its common entry."""
    return unit(struct.pack("<IQQ", at + 4 & M32, begin, length) + rules)


def saved(register: int) -> bytes:
    """DW_CFA_offset_extended: a register lies in the frame."""
    return b"\x05" + bytes((0x80 | register & 0x7F, 0x80 | register >> 7 & 0x7F, register >> 14, 1))


def compressed(data: bytes, size: int, kind: int = 1) -> bytes:
    """A section with SHF_COMPRESSED: ``data``, which say that they become ``size`` bytes."""
    return struct.pack("<IIQQ", kind, 0, size, 1) + data


def segments_of_elf() -> Iterator[Image]:
    """Program headers."""
    yield Image("65535-segments", elf(segments=[(1, 5, 0, AT + 64 * n, AT + 64 * n, 1, 1, 1) for n in range(1, 65534)]))
    yield Image("1023-segments", elf(segments=[(1, 5, 0, AT + 64 * n, AT + 64 * n, 1, 1, 1) for n in range(1, 1023)]))
    note = (4, 4, 1, 0, 0, 2, 0, 1)
    high = [(1, 5, M32 - n, AT + M32 * 8, 0xFFFFFFFF80000000 + 4 * n, 0, 4, 1) for n in range(500)]
    yield Image("notes-by-loads", elf(segments=[*high, *[note] * 500]))
    yield Image("30000-notes-by-30000-loads", elf(segments=[*high * 60, *[note] * 30000]))
    many = [(4, 4, 64 + 56 * 1001 + 16, 0, 0, 1 << 20, 0, 1)] * 1000
    yield Image("notes-one-upon-the-other", elf(segments=many, head=bytes(1 << 20)))
    for size in (M32, 1 << 31, 8):
        yield Image(
            f"note-name-{size:x}",
            elf(segments=[(4, 4, 64 + 56 * 2 + 16, 0, 0, M64, 0, 1)], head=struct.pack("<III", size, 4, 18)),
        )
    for field in range(2, 7):
        for value in (0, 1, M32, M64, 1 << 63, AT - 1):
            segment = [1, 7, 0, 2 * AT, 2 * AT, 16, 16, 1]
            segment[field] = value
            yield Image(f"segment-field-{field}-{value:x}", elf(segments=[tuple(segment)], code=HALT))
    yield Image("zeros-of-a-gigabyte", elf(segments=[(1, 6, 0, 2 * AT, 2 * AT, 0, 1 << 30, 1)]))
    yield Image("zeros-of-all-memory", elf(segments=[(1, 6, 0, 2 * AT, 2 * AT, 0, 61 << 20, 1)], code=HALT))
    yield Image("sparse-gigabytes", elf(code=HALT), size=3 << 30)
    yield Image("sparse-gigabyte", elf(code=HALT), size=1 << 30)
    yield Image("sparse-half-a-gigabyte", elf(code=HALT), size=1 << 29)


def symbols_of_elf() -> Iterator[Image]:
    """Symbol tables and section headers."""
    for size in (1 << 16, 1 << 20):
        yield Image(
            f"names-without-end-{size:x}", elf(named(b"".join(map(symbol, range(1, 40001))), b"\0" + b"A" * size))
        )
    shared = b"\0" + (b"A" * 4000 + b"\0") * 300
    yield Image("names-that-share-their-ends", elf(named(b"".join(map(symbol, range(1, 200001))), shared)))
    yield Image("500000-symbols", elf(named(b"".join(symbol(1 + n % 4000, AT + n) for n in range(500000)), shared)))
    yield Image(
        "colliding-addresses",
        elf(named(b"".join(symbol(1 + n, (n << 44) & M64) for n in range(100000)), b"\0" + b"abcdefg\0" * 20000)),
    )
    yield Image("escape-sequences", elf(named(symbol(1), b"\0\x1b]0;hacked\x07\x1b[2J\0")))
    table = [Section(b".symtab", symbol(1), 2, link=2, size=24000)] * 60000
    yield Image("60000-symbol-tables", elf([*table, Section(b".strtab", b"\0main\0", 3)]))
    yield Image("no-names", elf(named(symbol(1), b"", link=7)))
    yield Image("names-are-the-symbols", elf(named(symbol(1) * 9999, b"", link=1)))
    for size in (M64, 1 << 63, 1 << 40, 1):
        yield Image(
            f"symbols-of-{size:x}",
            elf([Section(b".symtab", symbol(1), 2, link=2, size=size), Section(b".strtab", b"\0a\0", 3, size=size)]),
        )
    for count, place in (
        (0xFFFF, (64, 64)),
        (0xFFFF, (64, 0)),
        (0, (64, 64)),
        (3, (M64, 64)),
        (0xFF00, (1, 1)),
        (9, (0x1000, 0xFFFF)),
    ):
        yield Image(
            f"sections-{count}-at-{place[0]:x}-by-{place[1]}",
            elf(count=count, table=place, sections=named(symbol(1), b"\0a\0")),
        )


def debug_data_of_elf() -> Iterator[Image]:
    """Lines and call frames."""
    bomb = zlib.compress(bytes(48 << 20), 1)
    names = (b".debug_line", b".debug_info", b".debug_abbrev", b".eh_frame", b".debug_line_str")

    def all_of_them(data: bytes) -> bytes:
        return elf([Section(name, data, flags=0x800) for name in names])

    yield Image("compressed-zeros", all_of_them(compressed(bomb, 48 << 20)))
    yield Image("compressed-without-limit", all_of_them(compressed(bomb, 1 << 40)))
    yield Image("compressed-more-than-it-says", all_of_them(compressed(bomb, 100)))
    yield Image("compressed-by-zstd", all_of_them(compressed(b"", 0, kind=2)))
    yield Image("compressed-by-nobody", all_of_them(b"\1"))
    gnu = b"ZLIB" + struct.pack(">Q", 48 << 20) + bomb
    yield Image("compressed-as-gnu-did", elf([Section(b".zdebug_line", gnu)]))
    lines = {
        "special-opcodes": line_unit(set_address(AT) + b"\x20" * (1 << 20) + END_SEQUENCE),
        "sequences": line_unit((set_address(AT) + b"\1" + END_SEQUENCE) * 60000),
        "beginnings": line_unit(set_address(AT) * 1000000),
        "units": line_unit(set_address(AT) + b"\x20" * 900) * 8000,
        "empty-units": bytes(16 << 20),
        "a-length-without-end": b"\xff" * 64,
        "a-number-without-end": line_unit(set_address(AT) + b"\3" + b"\x80" * 100000),
        "directories-without-end": line_unit(b"", b"a\0" * 200000),
        "a-range-of-0": line_unit(b"").replace(struct.pack("<bB", -5, 14), struct.pack("<bB", -5, 0)),
        "files-of-no-size": line_unit(ROW, (b"\0" + b"\xff" * 9 + b"\1") * 2, 5),
        "files-that-say-nothing": line_unit(ROW, b"\1\1\x0b" + b"\xff\xff\xff\x7f" + bytes(100), 5),
        "a-file-elsewhere": line_unit(ROW, b"\0\0\1\1\x1f\1\xff\xff\xff\xff", 5),
        "advances": line_unit(set_address(AT) + (b"\2" + b"\xff" * 9 + b"\x7f\1") * 50000 + END_SEQUENCE),
    }  # fmt: skip
    for name, data in lines.items():
        yield Image(f"lines-{name}", elf([Section(b".debug_line", data), Section(b".debug_line_str", b"a" * 100000)]))
    cycle = unit(struct.pack("<IQQ", 4, AT, 1 << 20))
    frames = {
        "remembered": COMMON + function(b"\x0a" * 16000),
        "remembered-and-restored": COMMON + function(b"\x0c\7\x08" + b"\x0a\x0b" * 8000),
        "rules": COMMON + function(b"\x0c\7\x08\x90\1" * 3000 + b"\0"),
        "more-rules": COMMON + function(b"\x0c\7\x08\x90\1" * 300000),
        "registers": COMMON + function(b"".join(map(saved, range(3000))) + b"\x41" * 3000),
        "advances-that-stand": COMMON.replace(b"\1\0\1\1", b"\1\0\0\1") + function(b"\x41" * 16000),
        "functions": COMMON + b"".join(function(b"", AT + n, 1, len(COMMON) + 24 * n) for n in range(250000)),
        "a-common-entry-that-is-itself": cycle * 100,
        "a-common-entry-beyond": COMMON + function(b"", at=M32) + function(b"", at=1 << 30),
        "expressions": COMMON + function(b"\x0f\xff\xff\x03" + bytes(100)),
        "empty-entries": bytes(16 << 20),
        "a-text-without-end": unit(struct.pack("<I", 0) + b"\1z" + b"R" * 10000),
        "pointers": unit(struct.pack("<I", 0) + b"\1zR\0\1\1\x10\1\xbb" + bytes(3)) + function(b""),
        "lengths": b"\xff" * 4 + struct.pack("<Q", M64) + COMMON,
    }  # fmt: skip
    for name, data in frames.items():
        symbols = named(symbol(1), b"\0main\0")
        yield Image(f"frames-{name}", elf([*symbols, Section(b".eh_frame", data)]))


def multiboot_kernels() -> Iterator[Image]:
    """Headers of multiboot 1 and 2."""
    good = (AT, AT, 0, 0, AT + 32)
    for field in range(5):
        for value in (0, 1, M32, AT + 0x40, 0x7FFFFFFF, 0x9FC00):
            addresses = [*good]
            addresses[field] = value
            yield Image(f"multiboot1-{field}-{value:x}", multiboot1_header(1 << 16, addresses=addresses) + HALT * 4)
    yield Image("multiboot1-features", multiboot1_header(0xFFFF) + HALT)
    yield Image("multiboot1-ends", multiboot1_header(1 << 16))
    yield Image("multiboot1-many", (multiboot1_header(3, checksum=1) * 700)[:8192] + HALT)
    header = multiboot2_header()
    for size in (0, 1, 7, 9, M32, 1 << 31):
        tag = struct.pack("<HHI", 2, 0, size)
        data = header[:8] + struct.pack("<I", 64) + struct.pack("<I", -(0xE85250D6 + 64) & M32) + tag * 6
        yield Image(f"multiboot2-tag-{size:x}", elf(head=data, code=HALT))
    for length in (0, 8, 16, 32768, 1 << 20, M32):
        data = struct.pack("<IIII", 0xE85250D6, 0, length, -(0xE85250D6 + length) & M32)
        yield Image(f"multiboot2-length-{length:x}", elf(head=data + struct.pack("<HHI", 5, 1, 8) * 200000, code=HALT))
    yield Image(
        "multiboot2-requests", elf(head=multiboot2_header([(1, 0, struct.pack("<8000I", *range(8000)))]), code=HALT)
    )
    yield Image("multiboot2-tags", elf(head=multiboot2_header([(6, 1, b"")] * 4000), code=HALT))
    for field in range(4):
        for value in (0, M32, AT + 0x100):
            fields = [AT, AT, 0, 0]
            fields[field] = value
            data = multiboot2_header([(2, 0, struct.pack("<4I", *fields)), (3, 0, struct.pack("<I", AT + 64))])
            yield Image(f"multiboot2-address-{field}-{value:x}", data.ljust(64, b"\0") + HALT)
    for entry in (0, M32, 0x9FC00):
        note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", entry)
        yield Image(f"pvh-{entry:x}", elf(segments=[(4, 4, 64 + 2 * 56 + 16, 0, 0, len(note), 0, 1)], head=note))


def linux_kernels() -> Iterator[Image]:
    """Setup headers."""
    fields = {
        "setup_sects": (0, 1, 63, 64, 255), "syssize": (0, 1, M32, 0x10000000), "version": (0, 0x202, 0x206, 0xFFFF),
        "loadflags": (0, 0xFF), "cmdline_size": (0, M32), "initrd_addr_max": (0, M32), "jump": (0, 0xFF),
        "pref_address": (0, 1, M32, M64, 0x9FC00), "init_size": (0, M32, 1 << 31), "code32_start": (0, 1, M32),
        "xloadflags": (0, 0xFFFF), "relocatable": (0, 255),
    }  # fmt: skip
    for name, values in fields.items():
        for value in values:
            if name == "setup_sects":
                data = bytearray(bzimage())
                data[0x1F1] = value
                yield Image(f"linux-{name}-{value:x}", bytes(data))
                yield Image(
                    f"linux-{name}-{value:x}-old",
                    bytes(data).replace(b"HdrS\x0f\x02", b"HdrS\x06\x02") + bytes(1 << 18),
                )
            else:
                yield Image(f"linux-{name}-{value:x}", bzimage(**{name: value}))
    yield Image("linux-ends", bzimage()[:0x230])


def all_bombs() -> Iterator[Image]:
    """All of them."""
    for family in (segments_of_elf, symbols_of_elf, debug_data_of_elf, multiboot_kernels, linux_kernels):
        yield from family()
