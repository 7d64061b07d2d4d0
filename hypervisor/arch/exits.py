"""Exit kinds, normalised to the manual's meaning.

AMD64 Architecture Programmer's Manual volume 2, appendix C lists the #VMEXIT codes of the hardware. Ours name what the
guest did, so that an instruction has one kind however the CPU reports it. Kinds below `FIRST_ENGINE` are what handlers
can be registered for; the others are the engine's own reasons to return.
"""

from __future__ import annotations

from enum import IntEnum


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


FIRST_ENGINE = 64
"""Kinds from here on are internal."""

INTERCEPT_BIT: dict[ExitKind, int] = {
    ExitKind.SIDT: 6,
    ExitKind.SGDT: 7,
    ExitKind.SLDT: 8,
    ExitKind.STR: 9,
    ExitKind.LIDT: 10,
    ExitKind.LGDT: 11,
    ExitKind.LLDT: 12,
    ExitKind.LTR: 13,
    ExitKind.RDTSC: 14,
    ExitKind.RDPMC: 15,
    ExitKind.PUSHF: 16,
    ExitKind.POPF: 17,
    ExitKind.CPUID: 18,
    ExitKind.IRET: 20,
    ExitKind.INT_N: 21,
    ExitKind.INVD: 41,  # the engine reports it as WBINVD; the decoder tells them apart
    ExitKind.PAUSE: 23,
    ExitKind.HLT: 24,
    ExitKind.INVLPG: 25,
    ExitKind.RDTSCP: 39,
    ExitKind.WBINVD: 41,
    ExitKind.MONITOR: 42,
    ExitKind.MWAIT: 43,
}
"""Bit of each kind in the VMCB's intercept words (offset 0Ch, APM volume 2, table B-1)."""
