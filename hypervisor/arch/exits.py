"""Exit kinds, normalised to the manual's meaning.

AMD64 Architecture Programmer's Manual volume 2, appendix C lists the #VMEXIT codes of the hardware (`vmexit_codes`).
Ours name what the guest did, so that an instruction has one kind however the CPU reports it. Kinds below `FIRST_ENGINE`
are what handlers can be registered for; the others are the engine's own reasons to return.
"""

from __future__ import annotations

from enum import IntEnum

from hypervisor.arch import vmexit_codes as code_


class ExitKind(IntEnum):
    """Why the guest stopped."""

    NONE = 0
    CPUID = 1
    RDMSR = 2
    WRMSR = 3
    PORT_IN = 4
    PORT_OUT = 5
    MMIO_READ = 6
    MMIO_WRITE = 7
    CR_READ = 8
    CR_WRITE = 9
    DR_READ = 10
    DR_WRITE = 11
    CLTS = 12
    LMSW = 13
    SMSW = 14
    LGDT = 15
    LIDT = 16
    LLDT = 17
    LTR = 18
    SGDT = 19
    SIDT = 20
    SLDT = 21
    STR = 22
    HLT = 23
    PAUSE = 24
    MONITOR = 25
    MWAIT = 26
    INVLPG = 27
    INVD = 28
    WBINVD = 29
    RDTSC = 30
    RDTSCP = 31
    RDPMC = 32
    INT_N = 33
    IRET = 34
    PUSHF = 35
    POPF = 36
    SYSCALL = 37
    SYSENTER = 38
    RDRAND = 39
    RDSEED = 40
    HYPERCALL = 41
    EXCEPTION = 42
    INTERRUPT = 43
    SVM = 44
    EXECUTE = 45
    MEMORY = 46

    SHUTDOWN = 64  # triple fault
    INTERRUPT_WINDOW = 65  # INTR is high and the guest can take it
    DEADLINE = 66  # virtual time reached the deadline, or the pCPU was kicked
    STEPPED = 67
    TASK_GATE = 68  # an event or an instruction switches tasks
    FAILED = 69  # the emulator refused to go on
    VERDICT = 70  # a handler called in place wants the guest left
    SPINNING = 71  # PAUSE in a loop, while other vCPUs of the VM could run
    RAISED = 72  # a compiled handler raised an exception
    IDLING = 73  # by the wall clock: a loop that does nothing until the next event
    TURN_OVER = 74  # the vCPU sleeps, or another one's turn has come


FIRST_ENGINE = 64
"""Kinds from here on are internal."""

KINDS: dict[int, ExitKind] = {
    **{code_.CR0_READ + n: ExitKind.CR_READ for n in range(16)},
    **{code_.CR0_WRITE + n: ExitKind.CR_WRITE for n in range(16)},
    **{code_.DR0_READ + n: ExitKind.DR_READ for n in range(16)},
    **{code_.DR0_WRITE + n: ExitKind.DR_WRITE for n in range(16)},
    code_.IDTR_READ: ExitKind.SIDT,
    code_.GDTR_READ: ExitKind.SGDT,
    code_.LDTR_READ: ExitKind.SLDT,
    code_.TR_READ: ExitKind.STR,
    code_.IDTR_WRITE: ExitKind.LIDT,
    code_.GDTR_WRITE: ExitKind.LGDT,
    code_.LDTR_WRITE: ExitKind.LLDT,
    code_.TR_WRITE: ExitKind.LTR,
    code_.RDPMC: ExitKind.RDPMC,
    code_.PUSHF: ExitKind.PUSHF,
    code_.POPF: ExitKind.POPF,
    code_.IRET: ExitKind.IRET,
    code_.PAUSE: ExitKind.PAUSE,
    code_.HLT: ExitKind.HLT,
}
"""The kind that a #VMEXIT code stands for, where the instruction's bytes do not decide it."""

INTERCEPT_BIT: dict[ExitKind, int] = {
    **{kind: code_.intercept_bit(code) for code, kind in KINDS.items() if code >= code_.INTR},
    ExitKind.RDTSC: code_.intercept_bit(code_.RDTSC),
    ExitKind.CPUID: code_.intercept_bit(code_.CPUID),
    ExitKind.INT_N: code_.intercept_bit(code_.SWINT),
    ExitKind.INVD: code_.intercept_bit(code_.WBINVD),  # the engine reports it so; the decoder tells them apart
    ExitKind.INVLPG: code_.intercept_bit(code_.INVLPG),
    ExitKind.RDTSCP: code_.intercept_bit(code_.RDTSCP),
    ExitKind.WBINVD: code_.intercept_bit(code_.WBINVD),
    ExitKind.MONITOR: code_.intercept_bit(code_.MONITOR),
    ExitKind.MWAIT: code_.intercept_bit(code_.MWAIT),
}
"""Bit of each kind in the VMCB's intercept words (offset 0Ch, APM volume 2, table B-1)."""


def kinds_of_codes() -> list[int]:
    """The kind of each code below `CODES`; FAILED for one that must not come."""
    return [KINDS.get(code, ExitKind.FAILED) for code in range(code_.CODES)]
