"""Random machines: memory with semi-valid tables, and a processor in some mode, about to run something nasty."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from hypervisor.arch.segments import Segment, Table
from hypervisor.engine.state import GPR
from tests.hostile.instructions import EXTREMES, load_state, program

MEMORY = 1 << 20
GDT, IDT, TSS, LDT, PAGES, CODE, USER, DATA, STACK, STUB, CODED = (
    0x1000, 0x2000, 0x4000, 0x5000, 0x8000, 0x10000, 0x20000, 0x40000, 0x70000, 0x600, 0x620,
)  # fmt: skip
MODES = ("real", "unreal", "protected16", "protected32", "paging32", "pae", "v86", "long", "compatibility")
_SKIP = {
    16: bytes.fromhex("5589e5ff46025dcf"),  # push bp; mov bp, sp; inc word [bp+2]; pop bp; iret
    32: bytes.fromhex("ff0424cf"),  # inc dword [esp]; iret
    64: bytes.fromhex("48ff042448cf"),  # inc qword [rsp]; iretq
}
_DROP = {16: bytes.fromhex("83c402"), 32: bytes.fromhex("83c404"), 64: bytes.fromhex("4883c408")}  # the error code
_WITH_ERROR = (8, 10, 11, 12, 13, 14, 17)
_PORTS = (
    0x20,
    0x21,
    0x40,
    0x43,
    0x60,
    0x61,
    0x64,
    0x70,
    0x71,
    0x80,
    0x92,
    0xA0,
    0xE9,
    0x3C0,
    0x3D4,
    0x3F8,
    0x3FB,
    0x4D0,
    0xCF9,
)
_MSRS = (
    0x10, 0x1B, 0x174, 0x175, 0x176, 0x179, 0x1D9, 0x277, 0x2FF, 0xC0000080, 0xC0000080, 0xC0000081, 0xC0000082,
    0xC0000083,
    0xC0000084, 0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103, 0xC0010114, 0xC0010117, 0xC0010015, 0x40000000,
)  # fmt: skip
_PLACES = (
    0, STUB, GDT, GDT + 8, IDT, TSS, LDT, PAGES, PAGES + 0x1000, CODE, USER, DATA, STACK, 0x9FFFF, 0xA0000, 0xB8000,
    0xB8FFF, 0xC0000,
    0xFFFF0, 0xFFFFF, 0x100000, 0xFEC00000, 0xFEE00000, 0xFFFFFFFF, 0xFFFFF000, 1 << 40, (1 << 40) - 1, 1 << 47,
    (1 << 47) - 1,
    (1 << 64) - 1, (1 << 64) - 4096, 0xFFFF800000000000, 1 << 63, 0x7FFFFFFF, 0x8000, 0x7FFF, 0xFFFF,
)  # fmt: skip
_CONTROL = (
    0x11, 0x80000011, 0x80010011, 0x60000010, 0x80000001, 0x10, 0x20, 0x30, 0x6B0, 0x40600, 0x3406F0, 0xFFFFFFFF,
    0x400, 0x3, 0xD01,
    0x1901, 0x500, 0x100, PAGES, PAGES | 0x18, 0x7, 0x33,
)  # fmt: skip


@dataclass
class Scene:
    """A guest before its first instruction."""

    kind: str
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    registers: dict[str, int] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    virtual_s: float = 1e-4
    place: int = 0
    """Where its code is, and how wide (`instructions.program`), if it may get another one (`another`)."""
    width: int = 0


class _Maker:
    def __init__(self, random: Random) -> None:
        self.random = random

    def value(self) -> int:
        """A number that matters to the machine."""
        random = self.random
        pool = random.choice((_PLACES, _PLACES, EXTREMES, _MSRS, _CONTROL, _PORTS, None))
        if pool is None:
            return random.getrandbits(random.choice((4, 8, 16, 32, 64)))
        value = random.choice(pool) & (1 << 64) - 1
        if random.random() < 0.2:
            value ^= 1 << random.randrange(64)
        return value

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    # --- descriptor tables ------------------------------------------------------------------------------------------

    def descriptor(self) -> int:
        """A descriptor or gate of any type, mostly sensible."""
        random = self.random
        roll = random.random()
        dpl, present = random.randrange(4), not self.chance(0.1)
        access = dpl << 45 | present << 47
        if roll < 0.4:  # code or data
            base, limit = (
                random.choice((0, 0, 0, CODE, self.value() & 0xFFFFFFFF)),
                random.choice((0xFFFFF, 0xFFFFF, 0, 0xFFFF)),
            )
            flags = random.choice((0xC, 0xC, 0xA, 0x8, 0x4, 0x0))
            return access | _spread(base, limit) | (0x10 | random.randrange(16)) << 40 | flags << 52
        if roll < 0.7:  # system: TSS, LDT
            base = random.choice((TSS, TSS, LDT, DATA, self.value() & 0xFFFFFFFF))
            limit = random.choice((0x67, 0x2B, 0xFFFF, 0, 0xFFFFF))
            return access | _spread(base, limit) | random.choice((1, 2, 3, 9, 11, random.randrange(16))) << 40
        if roll < 0.95:  # gates
            return access | self.gate(random.choice((4, 5, 12, 12, 12)))
        return random.getrandbits(64)

    def gate(self, kind: int) -> int:
        random = self.random
        target = random.choice((STUB, STUB, CODE, USER, self.value() & 0xFFFFFFFF))
        selector = random.randrange(16) << 3 | random.choice((0, 0, 0, 3, 4))
        return (
            target & 0xFFFF
            | target >> 16 << 48
            | selector << 16
            | kind << 40
            | random.randrange(32) * self.chance(0.2) << 32
        )

    def gdt(self) -> bytes:
        fixed = [
            0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00AF9B000000FFFF, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF,
            0x00AFFB000000FFFF,
            0x00009B000000FFFF, 0x000093000000FFFF, 0x0000890000000067 | TSS << 16, 0,
            0x0000820000000FFF | LDT << 16, 0,
        ]  # fmt: skip
        rows = fixed + [self.descriptor() for _ in range(64 - len(fixed))]
        for n in range(len(rows)):
            if self.chance(0.02):
                rows[n] = self.descriptor()
        return b"".join(row.to_bytes(8, "little") for row in rows)

    def idt(self, wide: bool) -> bytes:
        random = self.random
        rows = []
        for vector in range(256):
            kind = (
                random.choice((14, 14, 15, 14, 6, 7, 5, random.randrange(32)))
                if not wide
                else random.choice((14, 14, 15, random.randrange(16)))
            )
            if vector < 32 and self.chance(0.8):
                stub = CODED if vector in _WITH_ERROR else STUB
                row = stub | (0x18 if wide else 8) << 16 | 0x8E << 40
                rows.append(row.to_bytes(8, "little") + (b"\0" * 8 if wide else b""))
                continue
            row = self.gate(kind) | random.choice((0, 3, 3)) << 45 | (not self.chance(0.05)) << 47
            row = row & ~(0xFFFF << 16) | (0x18 if wide else 8) << 16 if self.chance(0.8) else row
            rows.append(row.to_bytes(8, "little") + (b"\0" * 8 if wide else b""))
        return b"".join(rows)

    def vectors(self) -> bytes:
        return b"".join(
            random_pick.to_bytes(4, "little")
            for random_pick in (
                self.random.choice((STUB, STUB, STUB, STUB, STUB, STUB, 0x10000000, self.random.getrandbits(32)))
                for _ in range(256)
            )
        )

    # --- paging -----------------------------------------------------------------------------------------------------

    def entry(self, good: int, p: float) -> int:
        random = self.random
        if not self.chance(p):
            return good
        return random.choice((
            0, good ^ 1 << random.randrange(64), random.getrandbits(64), PAGES | 0x67, good | 0x80, good & ~4,
            good & ~2,
            0xFFFFFFF000 | 0x67, 0xFEE00067, 0xB8067, 0x100067, 1 << 63 | good, 0xFFFFFFFFFFFFFFFF,
        ))  # fmt: skip

    def page_tables(self, kind: str) -> list[tuple[int, bytes]]:
        """Identity mapping of the first 2 MiB, with damage."""
        p = self.random.choice((0, 0, 0.002, 0.02, 0.2))
        size = 4 if kind == "paging32" else 8

        def table(at: int, rows: list[int]) -> tuple[int, bytes]:
            return at, b"".join((self.entry(row, p) & (1 << 8 * size) - 1).to_bytes(size, "little") for row in rows)

        leaves = [n << 12 | 0x67 for n in range(4096 // size)]
        if kind == "paging32":
            return [table(PAGES, [PAGES + 0x1000 | 0x67, 0x400087]), table(PAGES + 0x1000, leaves)]
        directory = [PAGES + 0x3000 | 0x67, 0x2000E7, PAGES | 0x67]
        if kind == "pae":
            return [
                table(PAGES, [PAGES + 0x2000 | 1] * 4),
                table(PAGES + 0x2000, directory),
                table(PAGES + 0x3000, leaves),
            ]
        return [
            table(PAGES, [PAGES + 0x1000 | 0x67, PAGES | 0x67]), table(PAGES + 0x1000, [PAGES + 0x2000 | 0x67, 0xE7]),
            table(PAGES + 0x2000, directory), table(PAGES + 0x3000, leaves), (PAGES + 0xFF8,
            (PAGES | 0x67).to_bytes(8, "little")),
        ]  # fmt: skip


def _spread(base: int, limit: int) -> int:
    return limit & 0xFFFF | (base & 0xFFFFFF) << 16 | (limit >> 16 & 15) << 48 | (base >> 24) << 56


_CS = {"real": 0x9B, "unreal": 0x9B, "protected16": 0x9B, "v86": 0xF3, "long": 0xA9B}
_WIDTH = {"real": 16, "unreal": 16, "protected16": 16, "v86": 16, "long": 64}


def make(seed: int, number: int) -> Scene:
    """Guest ``number`` of the sequence that ``seed`` starts; the same for the same numbers."""
    random = Random(seed << 32 | number)
    maker = _Maker(random)
    mode = random.choice(MODES)
    width = _WIDTH.get(mode, 32)
    noise = maker.chance(0.3)
    scene = Scene(f"{mode}{' noise' if noise else ''}", width=width)
    scene.virtual_s = random.choice((5e-6, 1e-5, 2e-5, 1e-4))
    wide = mode in ("long", "compatibility")
    user = mode == "v86" or (mode not in ("real", "unreal") and maker.chance(0.3))
    size = random.choice((64, 256, 1024, 5000))
    entry = 64 if wide else 16 if mode in ("real", "unreal") else 32
    place = random.choice((CODE, CODE, CODE + 0xFE0, CODE + 0xFF9))
    scene.place = place
    state = load_state(width, DATA if width > 16 else GDT) if maker.chance(0.5) else b""
    code = random.randbytes(size) if noise else state + program(random, width, size, maker.value)
    scene.writes = [
        (0, maker.vectors()),
        (STUB, _SKIP[entry]),
        (CODED, _DROP[entry] + _SKIP[entry]),
        (GDT, maker.gdt()),
        (TSS, random.randbytes(0x68) if maker.chance(0.3) else _task_state()),
        (LDT, b"".join(maker.descriptor().to_bytes(8, "little") for _ in range(16))),
        (DATA, random.randbytes(4096)),
        (USER, program(random, width, 256, maker.value)),
        (place, code),
    ]
    if mode not in ("real", "unreal"):
        scene.writes.append((IDT, maker.idt(wide)))
    registers = {name: maker.value() for name in GPR}
    registers["rsp"] = random.choice((STACK, STACK, STACK, 0x7000, maker.value()))
    registers["rip"] = place
    registers["rflags"] = random.choice((2, 2, 0x202, 0x3202, 0x3002, 0x102, 0x4002, 0x40002, 0x10202)) | 0x20000 * (
        mode == "v86"
    )
    registers |= {"cr0": 0x10 | random.choice((0, 1 << 16)), "cr3": 0, "cr4": 0, "efer": 0}
    if mode not in ("real", "unreal"):
        registers["cr0"] |= 1
    if mode in ("paging32", "pae", "long", "compatibility") or (mode == "v86" and maker.chance(0.3)):
        paging = mode if mode in ("paging32", "pae") else "long" if wide else "paging32"
        scene.writes += maker.page_tables(paging)
        registers["cr0"] |= 0x80000000
        registers["cr3"] = PAGES if not maker.chance(0.03) else maker.value()
        registers["cr4"] = {"paging32": 0x10, "pae": 0x20}.get(paging, 0x20) | random.choice(
            (0, 0, 0x600, 0x100000, 0x200000, 0x40600)
        )
        registers["efer"] = 0x501 | 0x800 * maker.chance(0.5) if wide else 0x800 * maker.chance(0.5)
    registers["cr4"] |= random.choice((0, 0x200, 0x600, 0x600, 0x40600))
    scene.registers = registers
    _segments(scene, maker, mode, user)
    return scene


def another(scene: Scene, seed: int, number: int, count: int) -> Scene:
    """Program ``count`` of a guest, in the machine as the one before left it: new code, and registers as at first but
    for the general ones.
    """
    random = Random(f"{seed} {number} {count}")
    maker = _Maker(random)
    size = random.choice((64, 256, 1024))
    code = random.randbytes(size) if maker.chance(0.2) else program(random, scene.width, size, maker.value)
    kept = ("rip", "rsp")
    registers = {name: maker.value() for name in GPR if name not in kept} | {"rflags": scene.registers["rflags"]}
    return replace(
        scene,
        writes=[(scene.place, code), (DATA, random.randbytes(512))],
        registers=scene.registers | registers,
        virtual_s=random.choice((2e-6, 5e-6, 1e-5)),
    )


def _task_state() -> bytes:
    words = [
        0,
        STACK,
        0x10,
        STACK,
        0x10,
        STACK,
        0x10,
        PAGES,
        CODE,
        2,
        *[0] * 4,
        STACK,
        0,
        0,
        0,
        0x10,
        8,
        0x10,
        0x10,
        0x10,
        0x10,
        0,
        0x68 << 16,
    ]
    return b"".join(word.to_bytes(4, "little") for word in words)


def _segments(scene: Scene, maker: _Maker, mode: str, user: bool) -> None:
    random = maker.random
    attributes = _CS.get(mode, 0xC9B)
    data = {"real": 0x93, "protected16": 0x93, "v86": 0xF3}.get(mode, 0xC93)
    limit = 0xFFFF if mode in ("real", "v86") else 0xFFFFFFFF
    selector, stack = {"long": (0x18, 0x10), "protected16": (0x38, 0x40)}.get(mode, (8, 0x10))
    if mode in ("real", "unreal", "v86"):
        selector, stack = CODE >> 4, 0
        scene.registers["rip"] -= CODE
    elif user:
        selector, stack = (0x33 if mode == "long" else 0x23), 0x2B
        attributes, data = attributes | 0x60, data | 0x60
    base = CODE if mode in ("real", "unreal", "v86") else 0
    scene.segments["cs"] = Segment(selector, base, limit, attributes)
    for name in ("ss", "ds", "es", "fs", "gs"):
        scene.segments[name] = Segment(stack, 0, limit, data)
    scene.segments["tr"] = Segment(0x48, TSS, 0x67, 0x8B)
    scene.segments["ldtr"] = Segment(0x58, LDT, 0x7F, 0x82)
    scene.tables = {"gdtr": Table(GDT, 0x1FF), "idtr": Table(0 if mode in ("real", "unreal") else IDT, 0xFFF)}
    if maker.chance(0.05):
        scene.tables[random.choice(("gdtr", "idtr"))] = Table(maker.value(), random.choice((0, 0xFFFF, 0x7F)))
