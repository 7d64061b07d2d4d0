"""Two records of a program, field by field."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.differ import layout as at

_HEAD = ("vector", "error", "rip", "cs", "rflags", "rsp", "ss", "cr2", "dr6")
_WORDS = {
    name: at.OUT[name] for name in ("DS", "ES", "FS", "GS", "CR0", "CR4", "STEPS", "STEP_HASH", "DR7", "LDTR", "TR")
}
_SELECTORS = ("DS", "ES", "FS", "GS", "LDTR", "TR")


def fields(record: bytes) -> Iterator[tuple[str, int]]:
    """What is compared. x87's last instruction and its pointers are left out: Unicorn and QEMU do not keep them."""
    for n, name in enumerate(_HEAD):
        yield name, struct.unpack_from("<Q", record, n * 8)[0]
    for n, name in enumerate(at.REGISTERS):
        if name != "rsp":
            yield name, struct.unpack_from("<Q", record, at.OUT["REGS"] + n * 8)[0]
    for name, offset in _WORDS.items():
        word = struct.unpack_from("<Q", record, offset)[0]
        yield name.lower(), word & 0xFFFF if name in _SELECTORS else word
    for n, name in enumerate(("fs.base", "gs.base", "kernel gs.base")):
        yield name, struct.unpack_from("<Q", record, at.OUT["BASES"] + n * 8)[0]
    for name in ("GDTR", "IDTR"):
        yield name.lower(), int.from_bytes(record[at.OUT[name] : at.OUT[name] + 10], "little")
    for page in range(at.LIVE_SIZE // 4096):
        yield f"page {page}", struct.unpack_from("<I", record, at.OUT["PAGES"] + page * 4)[0]
    fx = record[at.OUT["FX"] :]
    yield "fcw", int.from_bytes(fx[0:2], "little")
    yield "fsw", int.from_bytes(fx[2:4], "little")
    yield "ftw", fx[4]
    yield "mxcsr", int.from_bytes(fx[24:28], "little")
    for n in range(8):
        yield f"st{n}", int.from_bytes(fx[32 + n * 16 : 42 + n * 16], "little")
    for n in range(16):
        yield f"xmm{n}", int.from_bytes(fx[160 + n * 16 : 176 + n * 16], "little")


def differences(ours: bytes, qemu: bytes) -> dict[str, tuple[int, int]]:
    """Fields that differ: ours and QEMU's. Steps are a hash: where it differs alone it says so."""
    return {name: (a, b) for (name, a), (_, b) in zip(fields(ours), fields(qemu), strict=True) if a != b}
