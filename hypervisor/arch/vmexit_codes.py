"""#VMEXIT codes by the names of the AMD64 APM volume 2, appendix C, as far as the engine can get them.

Plain integers, because compiled kernels use them; `hypervisor.arch.exits` says which kind of exit each stands for.
"""

from __future__ import annotations

CR0_READ = 0x00  # ... to CR15
CR0_WRITE = 0x10
DR0_READ = 0x20
DR0_WRITE = 0x30
EXCP0 = 0x40  # ... to vector 31
EXCP_LAST = 0x5F
INTR = 0x60
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
INVLPGA = 0x7A
MSR = 0x7C
SHUTDOWN = 0x7F
VMRUN = 0x80
VMMCALL = 0x81
VMLOAD = 0x82
VMSAVE = 0x83
STGI = 0x84
CLGI = 0x85
SKINIT = 0x86
RDTSCP = 0x87
WBINVD = 0x89
MONITOR = 0x8A
MWAIT = 0x8B

CODES = 0x90
"""How many there are at most; what lies above is nothing that the engine intercepts."""


def intercept_bit(code: int) -> int:
    """Which bit of the VMCB's intercept words (offset 0Ch, APM volume 2, table B-1) a code from `INTR` on has."""
    return code - INTR
