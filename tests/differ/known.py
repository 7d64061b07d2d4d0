"""Where QEMU differs and the manual is on our side."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tests.differ.program import Program

Found = dict[str, tuple[int, int]]


class Row(NamedTuple):
    """``instruction`` is a pattern for a line of the program's disassembly; ``field`` one for names of fields,
    of which the bits of ``mask`` differ. ``holds`` looks at all differences, each ours and QEMU's.
    """

    instruction: str
    field: str
    manual: str
    mask: int = (1 << 128) - 1
    holds: Callable[[Found], bool] = lambda _: True


def _ours(name: str, mask: int) -> Callable[[Found], bool]:
    """Our side of a field that differs has a bit."""
    return lambda found: name in found and bool(found[name][0] & mask & ~found[name][1])


def _theirs(vector: int) -> Callable[[Found], bool]:
    """QEMU ended with another exception than we did."""
    return lambda found: "vector" in found and found["vector"][1] == vector


def _mine(*vectors: int) -> Callable[[Found], bool]:
    """We ended with another exception than QEMU."""
    return lambda found: "vector" in found and found["vector"][0] in vectors


def _early(vector: int) -> Callable[[Found], bool]:
    """QEMU ended with an exception, at another instruction or with another one than we did."""
    vectors = vector, vector
    return lambda found: (found.get("vector", vectors)[1] == vector and "rip" in found) or _theirs(vector)(found)


_SSE = r"xmmword ptr|xmm|code: .*66.?.?0f"
ROWS: tuple[Row, ...] = (
    Row("", "rflags", "APM 2 section 3.1.6: faults push RF set", 1 << 16),
    Row(r" f\w+", ".*", "SDM 1 section 8.5.1.1: stack faults set IE and SF", holds=_ours("fsw", 0x40)),
    Row(r"syscall", "rflags", "APM 3 SYSCALL: flags outside of SFMASK stay", 0x8D5),
    Row(r"fldenv|frstor|fxrstor", "fsw", "SDM 1 section 8.1.3.3: ES and B follow flags and masks", 0x8080),
    Row(r" mm\d", ".*", "SDM 1 section 12.5: MMX instructions meet pending x87 exceptions", holds=_mine(16)),
    Row(r"mov dr6", "dr6", "APM 2 section 13.1.1.3: bit 12 reads as zero", 1 << 12),
    Row(r"mov cr0", ".*", "APM 2 section 3.1.1: bits 63 to 32 and NW without CD are #GP", holds=_mine(13)),
    Row(
        r" iretd",
        ".*",
        "APM 3 IRET: no virtual-8086 mode from long mode",
        holds=lambda f: "rflags" in f and bool(f["rflags"][1] & 1 << 17),
    ),
    Row(r" fu?co(mip?|mpi) ", "rflags|step_hash", "SDM 2 FCOMI: OF, SF and AF are cleared", 0x890),
    Row(
        r"rdmsr|wrmsr",
        ".*",
        "APM 3 RDMSR, WRMSR: #GP where there is no such register",
        holds=lambda f: f.get("vector", (0,))[0] == 13,
    ),
    Row(
        r"lock |: f0",
        ".*",
        "APM 3 section 1.2.5: LOCK before what takes none",
        holds=lambda f: f.get("vector", (0,))[0] == 6,
    ),
    Row(r" set\w+ .*ptr| rc[lr] .*ptr", "rflags|page .*", "APM 2 section 8.1.2: a fault leaves the flags as they were"),
    Row(
        r"call|ret|iret|jmp",
        ".*",
        "APM 2 section 5.6: pushes and pops of a far transfer are the user's",
        holds=lambda f: f.get("vector", (0,))[0] == 14,
    ),
)
OURS: tuple[Row, ...] = (
    Row(_SSE, ".*", "docs/traps.md: no #GP of operands that are not aligned", holds=_early(13)),
    Row("", ".*", "docs/traps.md: no #AC", holds=_theirs(17)),
    Row(
        r" p\w+ mm||code: .*0f7[123]",
        "fsw|ftw|st.|vector",
        "open: SSSE3 on MMX registers leaves TOP, an invalid form of 0F 71h to 73h does not",
    ),
    Row(
        r"crc32|movbe|p(dep|ext)|bextr|bls|bzhi|mulx|andn|(rorx|sarx|shlx|shrx)|ad[co]x|popcnt",
        ".*",
        "open: #UD, #NM by CR0.EM, TS",
        holds=_mine(6, 7),
    ),
    Row(
        r"movntss|movntsd|: .*0f2b|0f7[123]",
        ".*",
        "open: SSE4a's MOVNTSS and 66 0F 71h to 73h of memory are executed",
        holds=_theirs(6),
    ),
    Row(r": (66|f3|f2)?.*0fc2|cmp..[sd]", ".*", "open: predicates beyond 7 are #UD", holds=_mine(6)),
    Row(r"\b(in|out)s[bwd]", ".*", "open: INS looks at its page before the I/O permission", holds=_theirs(13)),
    Row("", ".*", "docs/traps.md: limits are not checked", holds=_theirs(12)),
)
"""Where the difference is ours, and documented as such."""


def unexplained(program: Program, found: Found, fired: Counter[Row]) -> list[str]:
    """Fields that no row is about."""
    if not found:
        return []
    text = f"{program}\ncode: {program.code().hex()}"
    left = {name: a ^ b for name, (a, b) in found.items()}
    for row in (*ROWS, *OURS):
        if row.holds(found) and re.search(row.instruction, text):
            about = [name for name in left if re.fullmatch(row.field, name) and left[name] & row.mask]
            fired[row] += bool(about)
            for name in about:
                left[name] &= ~row.mask
    return [name for name, bits in left.items() if bits]
