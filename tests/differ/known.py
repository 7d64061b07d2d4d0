"""Where QEMU differs and the manual is on our side, and where this processor does.

A row is about one instruction: a difference is explained by it only if the program executed that instruction, or ended
at it. What follows from such a difference (a flag that was wrong, kept in memory) is told by running the program again
with NOPs in place of the instructions that rows are about (`followed`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tests.differ import layout as at
from tests.differ.compare import Difference
from tests.differ.program import Instruction, Program

_TRAPS = {1, 3, 4}
_APART = {"vector", "rip", "cs", "error", "cr2"}
_HASH = "step_hash"
"""Nobody knows which bits it is about."""
ANY = (1 << 128) - 1


class Row(NamedTuple):
    """``instruction`` is a pattern for the text of an instruction: bytes, mnemonic, operands. With ``ours`` or
    ``theirs`` the row is about ends: one of the two ended at this instruction, with one of these vectors, and the other
    did not; then all fields may differ. Without, it is about ``field``, of which bits of ``mask`` differ, and only
    ``when`` that holds, which looks at the program's text. ``follows``: what the program makes of it may differ, too.
    """

    instruction: str
    field: str
    manual: str
    mask: int = ANY
    ours: tuple[int, ...] = ()
    theirs: tuple[int, ...] = ()
    when: Callable[[Difference, str], bool] = lambda found, code: True
    follows: bool = False


class Limit:
    """What this processor does otherwise than hardware: a paragraph for the reader, and rows where it can be seen."""

    def __init__(self, text: str, *rows: Row) -> None:
        self.text, self.rows = " ".join(text.split()), rows


def _stack_fault(found: Difference, code: str) -> bool:
    """The status word tells of one, or was written anew."""
    forgets = r" f(?:n?save|n?clex|n?init|ldenv|rstor)| fxrstor"
    return found.status & 0x41 == 0x41 or bool(re.search(forgets, code))


def _told(found: Difference, code: str) -> bool:
    """A stack fault, or the status word was stored (with DE, or with C1 of an operation before), and nothing else."""
    stored = re.search(r" f(?:n?stsw|n?stenv|n?save)| fxsave", code)
    words = all(re.fullmatch(r"fsw|rflags|rax|page .*|step_hash", name) for name in found.fields)
    return _stack_fault(found, code) or bool(stored and words)


def _unmasked(found: Difference, code: str) -> bool:
    """By a stack fault, or because the program has loaded the masks."""
    loaded = re.search(r" f(?:ldcw|ldenv|rstor)| fxrstor", code)
    return _stack_fault(found, code) or bool(found.status & 0x80 and loaded)


def _precision(found: Difference, code: str) -> bool:
    return found.control & 0x300 != 0x300 or " fprem" in code


def _not_canonical(found: Difference, code: str) -> bool:
    return found.rips[1] + (1 << 47) >> 48 not in (0, 0xFFFF)


def _fault(found: Difference, code: str) -> bool:
    return bool({8, 13, 14} & {*found.vectors})


def _refused(found: Difference, code: str) -> bool:
    """#GP of ours alone, or a #DF that came of it, or QEMU went on to where nothing ends."""
    return (
        "lost" in found.fields
        or found.vectors == (8, 8)
        or (found.vectors[0] == 13 and bool(found.fields.keys() & _APART))
    )


def _null(found: Difference, code: str) -> bool:
    return found.null


def _mmx(found: Difference, code: str) -> bool:
    """Of registers the exponent alone, or ours is all ones, or one of the two is in MMX mode: TOP is zero, or all
    registers are there.
    """
    fields = found.fields
    exponents = all((a ^ b) & (1 << 64) - 1 == 0 for name, (a, b) in fields.items() if name.startswith("st"))
    top = any(word & 0x3800 == 0 for word in fields.get("fsw", ()))
    ones = any(name.startswith("st") and a >> 64 & 0x7FFF == 0x7FFF for name, (a, _) in fields.items())
    return exponents or ones or top or 0xFF in fields.get("ftw", ())


def _no_room(found: Difference, code: str) -> bool:
    """We shut down, in real mode, or came to #DF by #SS instead of the #PF at the end of the stack."""
    ours, theirs = found.fields.get("cr2", (1, 1 << 12))
    return found.vectors == (-1, 0) or (found.vectors == (8, 8) and (ours == 0 or theirs + 64 & 0xFFFF_FFFF < 128))


def _stack_not_present(found: Difference, code: str) -> bool:
    """If the vectors differ, that is why."""
    ours, theirs = found.vectors
    return ours == theirs or (ours, theirs) == (12, 11)


def _stack_limit(found: Difference, code: str) -> bool:
    """#SS(0) of a transfer, on a stack that the program has chosen and pushes did not find too small."""
    chosen = re.search(r" (?:mov|pop) ss| lss ", code)
    return found.vectors[0] == 12 and found.fields.get("error", (0, 0))[0] == 0 and chosen is not None


def _swapped(found: Difference, code: str) -> bool:
    """A register has zeros where QEMU has what all its four bytes are, swapped."""
    for name, (ours, theirs) in found.fields.items():
        whole = int.from_bytes((theirs & 0xFFFF_FFFF).to_bytes(4, "big"), "little")
        if re.fullmatch("r..", name) and ours & 0xFFFF == 0 and (whole ^ ours) & 0xFFFF_0000 == 0:
            return True
    return False


def _cut(found: Difference, code: str) -> bool:
    low, high = sorted(found.rips)
    return low < 0x10000 <= high or found.fields.get("cr2") == found.rips


def _special(found: Difference, code: str) -> bool:
    """All elements that differ are NaNs or zeros of ours."""
    for name, (ours, theirs) in found.fields.items():
        for lane in range(0, 128 if name.startswith("xmm") else 0, 32):
            ours_, theirs_ = ours >> lane & 0xFFFF_FFFF, theirs >> lane & 0xFFFF_FFFF
            high = ours >> (lane | 32) & 0x7FF0_0000
            if ours_ != theirs_ and ours_ & 0x7F80_0000 != 0x7F80_0000 and ours_ & 0x7FFF_FFFF and high != 0x7FF0_0000:
                return False
    return True


_P = r"^(?:26|2e|36|3e|6[4-7]|f[023])*(?:4[0-9a-f])?"
_REX = r"^(?:26|2e|36|3e|6[4-7]|f[023])*4[0-9a-f]"
_LOCK = r"^(?:26|2e|36|3e|6[4-7])*f0"
_X87 = _P + r"d[89a-f]"
_MMX = _P + r"0f(?:77|2[acd]|d6|[67][0-9a-f]|[def][0-9a-f])"
_FAR = r" retf| l?call| l?jmp| iret"
ROWS: tuple[Row, ...] = (
    Row(r"", "rflags", "APM 2, RFLAGS: RF of faults", 1 << 16),
    Row(
        r" fldcw| fldenv| frstor| fxrstor| fsqrt",
        "fsw",
        "SDM 1, status word: ES and B follow flags and masks; SDM 2, FSQRT: C0, C2 and C3 are undefined",
        0xC580,
    ),
    Row(
        _X87,
        "fsw|ftw|st.|rflags|rax|page .*",
        "SDM 1, 8.5.1.1: stack faults; status word: DE and C1, as they are stored",
        when=_told,
        follows=True,
    ),
    Row(
        _X87 + "|" + _P + "9b",
        "",
        "SDM 1, 8.5.1.1, 8.7: unmasked stack faults; other unmasked exceptions, not before FWAIT alone",
        ours=(16,),
        when=_unmasked,
    ),
    Row(_X87, "fsw", "SDM 1, condition code C1: rounded up", 0x200),
    Row(
        _X87 + r".*\[| fprem| frndint",
        "st.|fsw|page .*",
        "SDM 1, precision control: not of loads, FPREM and FRNDINT, which are exact",
        when=_precision,
        follows=True,
    ),
    Row(_P + r"(?:d[df]d|d9d[89a-f])", "ftw", "SDM 1, 8.1.7: a store to an empty register fills it", follows=True),
    Row(
        _P + r"0f38f[01]|" + _REX + r"0f.*(?:[ ,]mm\d|\?)|" + _REX + r"(?:26|2e|36|3e|6[4-7]|f[023])",
        "r..|st.|rflags|page .*",
        "APM 1, REX: W goes before 66h (MOVBE), B and R say nothing of MMX registers, none counts before a prefix",
        follows=True,
    ),
    Row(r" pcmpestr", "rflags|rcx|xmm0", "SDM 2, PCMPESTRI: lengths saturate", follows=True),
    Row(
        r" bt[src]? | ad[co]x | fu?comp?i |" + _P + "d[bf][ef]",
        "rflags",
        "APM 3, BT: undefined flags; ADCX, ADOX: each has its own carry; SDM 2, FCOMI: OF, SF, AF are cleared",
        0x895,
        follows=True,
    ),
    Row(_P + "(?:0f|d[89a-f])", "mxcsr|fsw", "APM 1, MXCSR, SDM 1, status word: DE tells of denormal operands", 2),
    Row(
        r" (?:max|min|add|sub|mul|div)[ps][sd]",
        "xmm.*",
        "SDM 1, NaNs: the first of two operands; denormals-are-zeros: of what MAX and MIN give, too",
        when=_special,
        follows=True,
    ),
    Row(
        r" syscall| sysret| cmpxchg(?:8|16)b",
        "rflags|step_hash",
        "APM 3, SYSCALL, CMPXCHG8B: the other flags stay; SYSRET: VIF and VIP come from R11, RF does not",
        0xFFFF_FFFF,
        follows=True,
    ),
    Row(r" mov .*dr[67]", "dr[67]", "APM 2, DR6 and DR7: reserved bits read as zero; LE goes by task switches", 0xD900),
    Row(
        _P + r"0fae| rdmsr| wrmsr| mov cr[04]|0f.*(?:xmmword|\?)|0fe6|660f(?:2[cd]|5a|[def][1-3])",
        "",
        "APM 3, RDMSR, WRMSR, MOV CRn, APM 4, LDMXCSR: reserved bits, registers that are not there; APM 4: alignment",
        ours=(13,),
        when=_refused,
        follows=True,
    ),
    Row(_LOCK, "page 11", "APM 3, LOCK: #UD before the operand is read"),
    Row(_LOCK, "", "APM 3, LOCK: #UD of what takes none", ours=(6,)),
    Row(
        _MMX + "|" + _P + "0f(?:1[26]|3[8a])",
        "",
        "APM 5, EMMS, MOVNTQ, CVTPD2PI: #UD by CR0.EM, of operands; APM 4, MOVLPD, MOVHPD: #UD of registers",
        ours=(6,),
        follows=True,
    ),
    Row(
        r"[ ,]mm\d| emms|0f.*\?",
        "fsw|ftw|st.|page .*",
        "SDM 3, MMX: writes set bits 79:64, EMMS clears TOP, nothing changes where the operand faults",
        when=_mmx,
        follows=True,
    ),
    Row(
        r" set\w+ .*\[| rc[lr] .*\[|fbstp|fbld| fxrstor",
        "rflags|cr2|page 10|f[cst]w|mxcsr|st.|xmm.*",
        "APM 3, SETcc, RCL, APM 5, FBSTP, FXRSTOR: a fault leaves flags and registers, and CR2 tells the first byte",
        when=_fault,
    ),
    Row(_FAR + "| ret| sysret", "", "APM 3, IRET: #GP of L and D, of RIP that is not canonical", ours=(13,)),
    Row(_FAR, "", "APM 3, RETF: the stack is read as the user", ours=(14,), theirs=(14,)),
    Row(_FAR, "page 10", "APM 2, descriptors: a transfer sets the accessed bit"),
    Row(r" (?:mov|pop) [fg]s", r"[fg]s\.base", "APM 2, segmentation in 64-bit mode: a null selector leaves the base"),
    Row(r" (?:mov|pop|l)[ defg]*s", "[defg]s", "APM 3, IRET: selectors with a descriptor become null", 3),
    Row(r" sti", "step.*", "APM 3, STI: the shadow is for interrupts, not for single steps", follows=True),
    Row(
        r" j\w+ | loop| call| rep",
        ".*",
        "APM 3, Jcc: 16 bits of RIP with 16-bit operands; REP: RIP stays, whatever the code segment says",
        when=_cut,
    ),
    Row(
        r" int (?!0x81)| iret| retf",
        "error|vector",
        "APM 3, INT: the error code of a gate has the vector as its index in long mode, too; IRET: RIP goes before SS, "
        "#SS of one that is not present",
        when=_stack_not_present,
    ),
    Row(r" int1", "", "APM 3, INT1: a trap, whose RIP is behind it", ours=(1,)),
    Row(r"", "lost|cr2", "APM 2, #SS: an event whose frame does not fit below the top of the stack", when=_no_room),
)
OURS: tuple[Limit, ...] = (
    Limit(
        """**Segment limits are not checked** in 32- and 16-bit code (`#GP` and `#SS`), so "unreal mode" works even
        without its preparation; far transfers in protected mode and IRET do check them. Neither is an access through
        DS, ES, FS or GS that an outer ring's return has made null (`#GP`).""",
        Row(r"\[", "", "", ours=(13, 14), theirs=(13, 14), when=_null),
        Row(_FAR, "", "", ours=(12,), when=_stack_limit),
    ),
    Limit(
        """**Alignment checks** (`#AC`) do not see the operands of instructions that leave the guest (SGDT, INVLPG and
        the like)."""
    ),
    Limit("""**An access through RSP or RBP whose address is not canonical** raises `#GP(0)`, not `#SS(0)`."""),
    Limit(
        """**With TF set, a near return or jump to an address that is not canonical** raises `#GP` at the target, not at
        the instruction.""",
        Row(r" ret\b", ".*", "", when=_not_canonical),
    ),
    Limit(
        """**ENTER** with an operand size of 16 bits in 64-bit mode writes all of RBP.""",
        Row(r"^\w*66\w*c8\w* enter ", "rbp", "", follows=True),
    ),
    Limit(
        """**An unaligned load of an XMM register that faults in its second half** has loaded the first.""",
        Row(r" movup[sd] xmm| movdqu xmm| lddqu ", "xmm.*", "", when=_fault),
    ),
    Limit(
        """**CMPXCHG** of 32-bit registers that are not equal clears the upper half of the first, too.""",
        Row(r" cmpxchg e\w\w,", "r..", "", ANY << 32, follows=True),
    ),
    Limit(
        """**BSWAP of a 16-bit register**, which the manuals leave undefined, clears it.""",
        Row(r" bswap (?:[a-d]x|[sd]i|[sb]p)$", "r..", "", when=_swapped, follows=True),
    ),
    Limit("""**x87 errors with CR0.NE clear** raise nothing: there is no IRQ 13."""),
    Limit(
        """**x87 transcendentals** (F2XM1, FYL2X, FYL2XP1, FPTAN, FPATAN, FSIN, FCOS, FSINCOS) are computed by the
        host's own x87, so their last bit may differ between hosts of different makers; everything else in x87 and SSE
        is the same on each. **RCPPS, RSQRTPS** and their scalar forms are exact to a single's precision, where
        hardware gives 12 bits."""
    ),
    Limit(
        """**A faulting store of FST or FIST** has set the flags of its rounding already; they are set again when it is
        executed again."""
    ),
    Limit("""**FCMOV whose condition does not hold** finds no empty register."""),
    Limit("""**VEX** is not known in 16-bit code (#UD)."""),
    Limit("""**Machine checks** never come: the architecture is there (CR4.MCE, MCG_CAP), without banks."""),
    Limit("""**Memory types** (MTRRs, PAT, PCD, PWT, CR0.CD) are kept but have no effect."""),
)
"""The table of docs/traps.md (`document`)."""
ALL: tuple[Row, ...] = (*ROWS, *(row for limit in OURS for row in limit.rows))


def _last(program: list[Instruction], vector: int, rip: int) -> list[Instruction]:
    """What an end came from, in each width: at it or in it, or behind it if it was a trap or INT; where the handler of
    a step could not return to, a transfer.
    """
    if at.BASE <= rip < at.PROGRAMS:
        return [one for one in program if re.search(_FAR + "| sysret", one.text)]
    trap = vector in _TRAPS or vector >= 0x20
    if trap:
        return [one for one in program if one.address + one.size == rip]
    return [one for one in program if one.address <= rip < one.address + one.size]


def _one_is(pattern: str, instructions: list[Instruction]) -> bool:
    return any(re.search(pattern, one.text) for one in instructions)


def _explained(program: Program, found: Difference, fired: Counter[Row], rows: tuple[Row, ...]) -> dict[str, int]:
    """Fields, and bits of them, that no row is about."""
    listing = program.readings()
    ends = [_last(listing, vector, rip) for vector, rip in zip(found.vectors, found.rips, strict=True)]
    reached = [one.address for end in ends for one in end]
    everything = not all(ends) or any(at.BASE <= rip < at.PROGRAMS for rip in found.rips)
    executed = [one for one in listing if everything or one.address <= max(reached)]
    code = "\n".join(one.text for one in listing)
    left = {name: a ^ b for name, (a, b) in found.fields.items()}
    apart = bool(left.keys() & _APART)
    for row in rows:
        if not row.when(found, code):
            continue
        if row.ours or row.theirs:
            wanted = zip((row.ours, row.theirs), found.vectors, ends, strict=True)
            if apart and any(v in vs and _one_is(row.instruction, end) for vs, v, end in wanted):
                fired[row] += 1
                return {}
        elif _one_is(row.instruction, executed):
            about = [
                name for name in left if re.fullmatch(row.field, name) and (left[name] & row.mask or name == _HASH)
            ]
            fired[row] += bool(about)
            for name in about:
                left[name] &= ~row.mask
            if about and _HASH in left:
                left[_HASH] = 0
    return {name: bits for name, bits in left.items() if bits}


def unexplained(program: Program, found: Difference, fired: Counter[Row]) -> list[str]:
    """Fields that no row is about."""
    return list(_explained(program, found, fired, ALL)) if found else []


def followed(program: Program, found: Difference) -> list[Row]:
    """Rows about an instruction of the program, from whose difference others may follow."""
    listing = program.readings()
    code = "\n".join(one.text for one in listing)
    return [row for row in ALL if row.follows and row.when(found, code) and _one_is(row.instruction, listing)]


def without(program: Program, rows: list[Row]) -> Program:
    """NOPs in place of what rows are about: what differs then does not follow from it."""
    return program.nopped(lambda text: any(re.search(row.instruction, text) for row in rows))
