"""Two records of a program, field by field."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypervisor.arch.flags import RFLAGS_FIXED, RFLAGS_LOADABLE
from tests.differ import layout as at

_HEAD = ("vector", "error", "rip", "cs", "rflags", "rsp", "ss", "cr2", "dr6")
_WORDS = {
    name: at.OUT[name] for name in ("DS", "ES", "FS", "GS", "CR0", "CR4", "STEPS", "STEP_HASH", "DR7", "LDTR", "TR")
}
_SELECTORS = ("DS", "ES", "FS", "GS", "LDTR", "TR")


@dataclass(frozen=True)
class Difference:
    """``fields`` that differ, ours and QEMU's; ``vectors`` and ``rips`` of both ends, whether they differ or
    not; ``control`` and ``status`` are our words of x87, ``null`` says that DS, ES, FS or GS is null."""

    fields: dict[str, tuple[int, int]] = field(default_factory=dict)
    vectors: tuple[int, int] = (0, 0)
    rips: tuple[int, int] = (0, 0)
    control: int = 0
    status: int = 0
    null: bool = False

    def __bool__(self) -> bool:
        return bool(self.fields)


def fields(record: bytes) -> Iterator[tuple[str, int]]:
    """What is compared. x87's last instruction and its pointers are left out: Unicorn and QEMU do not keep them. So is
    the base of a null selector outside of long mode, which nobody can see there and nobody defines, and the program's
    stack, and its first page, where an event's frame did not fit there and #DF came of it: nobody says how much of the
    frame is written.
    """
    for n, name in enumerate(_HEAD):
        yield name, struct.unpack_from("<Q", record, n * 8)[0]
    for n, name in enumerate(at.REGISTERS):
        if name != "rsp":
            yield name, struct.unpack_from("<Q", record, at.OUT["REGS"] + n * 8)[0]
    words = {name.lower(): struct.unpack_from("<Q", record, offset)[0] for name, offset in _WORDS.items()}
    words |= {name.lower(): words[name.lower()] & 0xFFFF for name in _SELECTORS}
    yield from words.items()
    for n, name in enumerate(("fs.base", "gs.base", "kernel gs.base")):
        base = struct.unpack_from("<Q", record, at.OUT["BASES"] + n * 8)[0]
        hidden = record[at.OUT["KIND"]] == at.PROTECTED_MODE and n < 2 and words[name[:2]] < 4
        yield name, 0 if hidden else base
    for name in ("GDTR", "IDTR"):
        yield name.lower(), int.from_bytes(record[at.OUT[name] : at.OUT[name] + 10], "little")
    protected = record[at.OUT["KIND"]] == at.PROTECTED_MODE
    for page in range(at.LIVE_SIZE // 4096):
        if page in (0, at.DATA_3) and protected and record[0] == 8:
            continue
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


def _rip(record: bytes) -> int:
    """In real mode as from the segment that programs begin in."""
    rip, cs = struct.unpack_from("<QQ", record, 16)
    return rip + cs * 16 - at.PHYSICAL if record[at.OUT["KIND"]] == at.REAL_MODE else rip


def differences(ours: bytes, qemu: bytes) -> Difference:
    """Steps are a hash: where it differs alone it says so. Reserved bits of RFLAGS may be set in QEMU's: its CMPXCHG8B
    sets them, and nothing clears them again. (Both have them where INT stood for an exception with an error code.)
    """
    left, right = dict(fields(ours)), dict(fields(qemu))
    right["rflags"] &= RFLAGS_LOADABLE | RFLAGS_FIXED | left["rflags"]
    found = {name: (left[name], right[name]) for name in left if name in right and left[name] != right[name]}
    control, status = struct.unpack_from("<HH", ours, at.OUT["FX"])
    null = any(left[name] < 4 for name in ("ds", "es", "fs", "gs"))
    return Difference(found, (ours[0], qemu[0]), (_rip(ours), _rip(qemu)), control, status, null)
