"""Where QEMU differs and the manual is on our side, and where ours does.

Rows of `OURS` that begin with "open" are faults of this processor that are known and not mended.
"""

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


def _we(*vectors: int) -> Callable[[Found], bool]:
    """We ended with one of these exceptions, and QEMU not or elsewhere."""
    return lambda found: _mine(*vectors)(found) or ("vector" not in found and "rip" in found)


def _fourteen(found: Found) -> bool:
    """A page fault, or a far transfer that QEMU or we did not come to the end of."""
    return _we(14)(found) or _theirs(14)(found) or "cr2" in found


def _indefinite(found: Found) -> bool:
    """A register of ours holds what a masked stack fault leaves."""
    return any(name.startswith("st") and ours == 0xFFFF_C000_0000_0000_0000 for name, (ours, _) in found.items())


_ALIGNED = r"(?m:^(?!.*(movup|movdqu|lddqu|pcmp[ei]str)).*xmmword ptr)|code: .*0fe6"


def _no_mmx_mode(found: Found) -> bool:
    """QEMU is in MMX mode, which we are not."""
    return ("ftw" in found and found["ftw"][1] == 0xFF) or ("fsw" in found and found["fsw"][1] & 0x3800 == 0)


ROWS: tuple[Row, ...] = (
    Row("", "rflags", "APM 2 section 3.1.6: faults push RF set", 1 << 16),
    Row(r" f\w+|code: .*d[89a-f]", ".*", "SDM 1 section 8.5.1.1: stack faults set IE and SF", holds=_ours("fsw", 0x40)),
    Row(r"code: .*d[89a-f]", "st.|ftw", "SDM 1 section 8.5.1.1: the result of a masked stack fault", holds=_indefinite),
    Row(r"code: .*d[89a-f]", "fsw", "SDM 1 section 8.1.3.3: C1 tells of rounding up", 0x200),
    Row(
        rf"jmp|call|ret|{_ALIGNED}",
        ".*",
        "APM 2 section 4.8.1: a code segment with L and D, a RIP that is not canonical: #GP of the instruction; "
        "APM 4: that of an operand of 128 bits that is not aligned",
        holds=_we(13),
    ),
    Row(r"code: .*0f38f[01]", "r..|step_hash|page .*", "APM 1 section 3.2: REX.W goes before 66h (MOVBE)"),
    Row(
        r"code: .*4[0-9a-f]0f", "r..|st.|step_hash", "APM 5 section 1.2.7: REX.B and REX.R say nothing of MMX registers"
    ),
    Row(r"pcmpestr", "rflags|rcx|xmm0|step_hash", "SDM 2 section 4.1.4: lengths saturate"),
    Row(r" bt[src]? ", "rflags|step_hash", "APM 3 BT: undefined flags", 0x894),
    Row(r"xmm", "mxcsr", "APM 1 section 4.10.1: DE tells of denormal operands", 2),
    Row(
        r"code: .*d[df]d[89a-f]|code: .*d[9f]d|fstp",
        "ftw",
        "SDM 1 section 8.1.7: a store to an empty register fills it",
    ),
    Row(r"syscall", "rflags", "APM 3 SYSCALL: flags outside of SFMASK stay", 0x8D5),
    Row(r"fldenv|frstor|fxrstor", "fsw", "SDM 1 section 8.1.3.3: ES and B follow flags and masks", 0x8080),
    Row("", ".*", "SDM 1 section 8.7, 12.5: FXCH and MMX instructions meet pending x87 exceptions", holds=_mine(16)),
    Row(r"mov dr[67]", "dr[67]", "APM 2 section 13.1.1: bit 12 of DR6 and 11 of DR7 read as zero", 0x1800),
    Row(r" fu?co(mip?|mpi) |code: .*d[bf][ef]", "rflags|step_hash", "SDM 2 FCOMI: OF, SF and AF are cleared", 0x890),
    Row(
        r"rdmsr|wrmsr|mov cr[04]|ldmxcsr|fxrstor",
        ".*",
        "APM 2 sections 3.1, 11.3.2, APM 3 RDMSR: #GP of reserved bits and unknown registers",
        holds=_we(13),
    ),
    Row(r"lock |: f0|code: .*f0", ".*", "APM 3 section 1.2.5: LOCK before what takes none", holds=_we(6)),
    Row(r"emms|code: .*0fe7", ".*", "APM 5 EMMS, MOVNTQ: #UD by CR0.EM, with a register", holds=_we(6)),
    Row(r" set\w+ .*ptr| rc[lr] .*ptr", "rflags|page .*", "APM 2 section 8.1.2: a fault leaves the flags as they were"),
    Row(r"ret|call|jmp", ".*", "APM 2 section 5.6: far transfers use the stack as the user", holds=_fourteen),
    Row(r"mov [fg]s|pop [fg]s", r"[fg]s\.base", "APM 2 section 4.5.3: a null selector leaves the base in 64-bit mode"),
    Row(r"", "[defg]s", "APM 3 IRET: only selectors with a descriptor become null", 3),
    Row(r" sti", "step.*", "APM 3 STI: the shadow is for interrupts, not for single steps"),
    Row(r"ad[co]x|code: .*0f38f6", "rflags|step_hash|r..", "APM 3 ADCX, ADOX: each has its own carry"),
    Row(r" int1|code: .*f1", "rip|vector|step.*|dr6|rflags", "APM 2 section 8.2.2: INT1 is a trap, RIP is behind it"),
    Row(r" int 0?x?[0-9a-f]+", "error", "APM 2 section 8.4.1: the index of a gate is its vector in long mode, too"),
    Row(r"iret", "page 9", "APM 2 section 4.7.2: IRETQ loads SS and sets its accessed bit"),
    Row(r"fbstp|fbld", "cr2", "APM 2 section 8.2.15: the first byte that faults"),
    Row(r"\bmm\d|code: .*0f", "st.", "SDM 3 section 12.2: writes to MMX registers set bits 79:64", 0xFFFF << 64),
    Row(r"\bmm\d", "fsw|ftw|st.", "SDM 3 section 12.2: nothing changes where the operand faults", holds=_no_mmx_mode),
    Row(r"(?s)\bmm\d.* f\w+", "fsw|st.|page .*", "SDM 3 section 12.2: x87 instructions find what MMX ones have left"),
    Row(r"emms|code: .*0f77", "fsw|st.", "SDM 3 section 12.2: EMMS clears TOP"),
    Row(r"sysret", "rflags|step_hash", "APM 3 SYSRET: VIF and VIP come from R11"),
)
OURS: tuple[Row, ...] = (
    Row("", ".*", "docs/traps.md: limits are not checked", holds=_theirs(12)),
    Row(
        r" ret\b",
        ".*",
        "docs/traps.md: with TF, a near return that is not canonical raises #GP at its target",
        holds=_we(13),
    ),
    Row(r"code: .*0f1[26]", ".*", "QEMU executes 66 0F 12h and 16h with registers, which are #UD", holds=_we(6)),
)
"""Where the difference is ours, and documented or open."""


def unexplained(program: Program, found: Found, fired: Counter[Row]) -> list[str]:
    """Fields that no row is about."""
    if not found:
        return []
    text = f"{program}\ncode: {program.code().hex()}"
    left = {name: a ^ b for name, (a, b) in found.items()}
    for row in (*ROWS, *OURS):
        if row.holds(found) and re.search(row.instruction, text):
            about = [
                name for name in left if re.fullmatch(row.field, name) and left[name] & row.mask | (name == "step_hash")
            ]
            fired[row] += bool(about)
            for name in about:
                left[name] &= 0 if name == "step_hash" else ~row.mask
    return [name for name, bits in left.items() if bits]
