"""#VMEXIT codes by the names of the AMD64 APM volume 2, appendix C, as far as the engine can get them.

Plain integers, because compiled kernels use them. `KINDS` says what each means where nothing else decides it; the
hardware tells some instructions of one code only by their bytes (`kernels.vmexit.on_vmexit`).
"""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind

CR0_READ = 0x00  # ... to CR15
CR0_WRITE = 0x10
DR0_READ = 0x20
DR0_WRITE = 0x30
EXCP0 = 0x40  # ... to vector 31
EXCP_LAST = 0x5F
VINTR = 0x64
IDTR_READ = 0x66
GDTR_READ = 0x67
LDTR_READ = 0x68
TR_READ = 0x69
IDTR_WRITE = 0x6A
GDTR_WRITE = 0x6B
LDTR_WRITE = 0x6C
TR_WRITE = 0x6D
RDTSC = 0x6E
RDPMC = 0x6F
PUSHF = 0x70
POPF = 0x71
CPUID = 0x72
IRET = 0x74
SWINT = 0x75
INVD = 0x76
PAUSE = 0x77
HLT = 0x78
INVLPG = 0x79
MSR = 0x7C
WBINVD = 0x89

CODES = 0x90
"""How many there are at most; what lies above is nothing that the engine intercepts."""

KINDS: dict[int, ExitKind] = {
    **{CR0_READ + n: ExitKind.CR_READ for n in range(16)},
    **{CR0_WRITE + n: ExitKind.CR_WRITE for n in range(16)},
    **{DR0_READ + n: ExitKind.DR_READ for n in range(16)},
    **{DR0_WRITE + n: ExitKind.DR_WRITE for n in range(16)},
    IDTR_READ: ExitKind.SIDT,
    GDTR_READ: ExitKind.SGDT,
    LDTR_READ: ExitKind.SLDT,
    TR_READ: ExitKind.STR,
    IDTR_WRITE: ExitKind.LIDT,
    GDTR_WRITE: ExitKind.LGDT,
    LDTR_WRITE: ExitKind.LLDT,
    TR_WRITE: ExitKind.LTR,
    RDPMC: ExitKind.RDPMC,
    PUSHF: ExitKind.PUSHF,
    POPF: ExitKind.POPF,
    IRET: ExitKind.IRET,
    PAUSE: ExitKind.PAUSE,
    HLT: ExitKind.HLT,
}


def kinds() -> list[int]:
    """The kind of each code below `CODES`, FAILED for one that must not come."""
    return [KINDS.get(code, ExitKind.FAILED) for code in range(CODES)]
