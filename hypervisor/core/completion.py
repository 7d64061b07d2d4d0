"""Finishing an exit: what the verdict means for the processor.

A handler (or the built-in one) has decided; here its answer reaches registers, and RIP goes past the instruction. An
instruction that nobody changed and that the engine can execute natively is executed natively, with its intercept
switched off for one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch.exits import INTERCEPT_BIT, ExitKind
from hypervisor.arch.exits import ExitKind as K
from hypervisor.core.exits import Exit
from hypervisor.core.verdicts import Inject, Stop, Verdict
from hypervisor.engine import block as b
from hypervisor.engine.state import GPR
from hypervisor.errors import InternalError

if TYPE_CHECKING:
    from hypervisor.core.vcpu import Vcpu
    from hypervisor.engine.pcpu import PCpu

EXCEPTION, SOFTWARE, EXTERNAL = 0, 1, 2
WITH_ERROR = frozenset((8, 10, 11, 12, 13, 14, 17))
NATIVE = frozenset(
    (
        K.LGDT, K.LIDT, K.LLDT, K.LTR, K.SGDT, K.SIDT, K.SLDT, K.STR, K.PUSHF, K.POPF, K.IRET, K.PAUSE, K.INVD,
        K.WBINVD,
    )
)  # fmt: skip
"""Kinds that the engine executes itself when nobody decides otherwise."""

_MASK32 = 0xFFFFFFFF


def deliver(pcpu: PCpu, vcpu: Vcpu, vector: int, error: int | None) -> int:
    """Give the guest an exception or, from 32 on, an external interrupt; an engine exit kind if that fails, else 0."""
    kind = EXCEPTION if vector < 32 and vector != 2 else EXTERNAL
    return pcpu.event(vector, error or 0, kind, vcpu.rip)


def set_operand(vcpu: Vcpu, number: int, value: int, size: int) -> None:
    """Write a general register by encoding number with operand size 2, 4 or 8 bytes."""
    name = GPR[number]
    if size == 8:
        vcpu.set(name, value)
    elif size == 4:
        vcpu.set(name, value & _MASK32)
    else:
        vcpu.set(name, vcpu.get(name) & ~0xFFFF | value & 0xFFFF)


def finish(pcpu: PCpu, vcpu: Vcpu, exit: Exit, verdict: Verdict) -> int:
    """Carry out a verdict for an exit outside the engine's loop; the kind of a further exit that this causes, else 0.

    Stops are the caller's business.
    """
    name = verdict.name
    if name == "RETRY":
        return 0
    if isinstance(verdict, Inject):
        if verdict.vector == 14 and exit.address is not None:
            vcpu.set("cr2", exit.address)
        return deliver(pcpu, vcpu, verdict.vector, verdict.error)
    if isinstance(verdict, Stop):
        return 0
    handled = name == "HANDLED"
    kind = exit.kind
    if kind is K.EXCEPTION:
        if handled:
            return 0
        return pcpu.event(exit.vector, exit.error or 0, EXCEPTION, vcpu.rip)
    if kind is K.INTERRUPT:
        return 0 if handled else pcpu.event(exit.vector, 0, EXTERNAL, vcpu.rip)
    if kind is K.EXECUTE:
        if not handled:
            pcpu.words[b.SKIP >> 3] = exit.address if exit.address < 1 << 63 else exit.address - (1 << 64)
        elif exit.rip == vcpu.rip:
            length = exit.length or len_by_native(pcpu)
            return pcpu.complete(length) if length else 0
        return 0
    if kind in NATIVE and not handled:
        return native_step(pcpu, kind)
    if not handled:
        return _undecided(pcpu, vcpu, exit)
    if vcpu.rip != exit.rip and kind is K.HYPERCALL:
        return 0  # the handler went elsewhere itself
    _store_results(pcpu, vcpu, exit)
    return pcpu.complete(exit.length)


def _store_results(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> None:
    kind = exit.kind
    if kind is K.CPUID:
        for register, value in (("rax", exit.eax), ("rbx", exit.ebx), ("rcx", exit.ecx), ("rdx", exit.edx)):
            vcpu.set(register, (value or 0) & _MASK32)
    elif kind in (K.RDMSR, K.RDTSC, K.RDTSCP, K.RDPMC):
        value = exit.value or 0
        vcpu.set("rax", value & _MASK32)
        vcpu.set("rdx", value >> 32 & _MASK32)
        if kind is K.RDTSCP:
            vcpu.set("rcx", vcpu.get("tsc_aux") & _MASK32)
    elif kind in (K.CR_READ, K.DR_READ):
        set_operand(vcpu, pcpu.words[b.D_RM >> 3], exit.value or 0, 8 if vcpu.mode == 64 else 4)
    elif kind is K.SMSW:
        if pcpu.words[b.D_MODRM >> 3] >= 0xC0:
            set_operand(vcpu, pcpu.words[b.D_RM >> 3], exit.value or 0, pcpu.words[b.D_SIZE >> 3])
        else:
            vcpu.write(pcpu.words[b.D_EA >> 3] & (1 << 64) - 1, ((exit.value or 0) & 0xFFFF).to_bytes(2, "little"))
    elif kind in (K.RDRAND, K.RDSEED):  # CF says that the number is valid
        set_operand(vcpu, pcpu.words[b.D_RM >> 3], exit.value or 0, exit.size)
        vcpu.set("rflags", vcpu.rflags & ~0x8D5 | 1)


def _undecided(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    """Nobody decided, not even a built-in handler: what the bare processor does."""
    kind = exit.kind
    if kind is K.INT_N:
        rip = vcpu.rip + exit.length
        if vcpu.mode != 64:
            rip &= _MASK32
        return pcpu.event(exit.vector, 0, pcpu.words[(b.X_INFO >> 3) + 2], rip)
    if kind is K.SYSCALL:
        return pcpu.enter_syscall(exit.length)
    if kind is K.SYSENTER:
        return pcpu.enter_sysenter(exit.length)
    if kind is K.HLT:
        further = pcpu.complete(exit.length)
        vcpu.halted = not further
        return further
    if kind is K.INVLPG:
        pcpu.flush()
        return pcpu.complete(exit.length)
    if kind in (K.HYPERCALL, K.MONITOR, K.MWAIT, K.SVM, K.RDRAND, K.RDSEED):
        return pcpu.event(6, 0, EXCEPTION, vcpu.rip)
    if kind in (K.RDMSR, K.WRMSR, K.RDPMC):
        return pcpu.event(13, 0, EXCEPTION, vcpu.rip)
    if kind is K.CPUID:
        for register in ("rax", "rbx", "rcx", "rdx"):
            vcpu.set(register, 0)
        return pcpu.complete(exit.length)
    if kind in (K.RDTSC, K.RDTSCP):
        exit.value = (vcpu.vm.clock.now_ns + vcpu.registers.tsc_offset) & (1 << 64) - 1
        _store_results(pcpu, vcpu, exit)
        return pcpu.complete(exit.length)
    raise InternalError(f"nobody served the exit {exit!r}. Please report this.")


def len_by_native(pcpu: PCpu) -> int:
    """Length of the instruction at RIP, if the decoder knows it."""
    return pcpu.decode()


def native_step(pcpu: PCpu, kind: ExitKind) -> int:
    """Execute the trapped instruction natively; a further exit's kind, or 0."""
    pcpu.intercept(INTERCEPT_BIT[kind], False)
    try:
        further = pcpu.step()
    finally:
        pcpu.intercept(INTERCEPT_BIT[kind], True)
    return 0 if further == K.STEPPED else further
