"""Finishing an exit: what the verdict means for the processor.

A handler (or the built-in one) has decided; here its answer reaches registers, and RIP goes past the instruction. An
instruction that nobody changed and that the engine can execute natively is executed natively, with its intercept
switched off for one step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.arch.exits import INTERCEPT_BIT, ExitKind
from hypervisor.arch.exits import ExitKind as K
from hypervisor.core.exits import Exit
from hypervisor.core.verdicts import HANDLED, PASS, Inject, Verdict
from hypervisor.engine import block as b
from hypervisor.engine.state import GPR
from hypervisor.errors import InternalError

if TYPE_CHECKING:
    from hypervisor.core.vcpu import Vcpu
    from hypervisor.engine.pcpu import PCpu

EXCEPTION, SOFTWARE, EXTERNAL = 0, 1, 2
WITH_ERROR = frozenset((8, 10, 11, 12, 13, 14, 17))
_MASK32 = 0xFFFFFFFF
_MASK64 = (1 << 64) - 1
_ARITHMETIC = 0x8D5  # CF, PF, AF, ZF, SF, OF


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
    if verdict is HANDLED:
        return _HANDLED[exit.kind](pcpu, vcpu, exit)
    if verdict is PASS:
        return _PASSED[exit.kind](pcpu, vcpu, exit)
    if isinstance(verdict, Inject):
        if verdict.vector == 14 and exit.address is not None:
            vcpu.set("cr2", exit.address)
        return deliver(pcpu, vcpu, verdict.vector, verdict.error)
    return 0  # RETRY: the instruction runs again from its start


# --- handled: the exit's fields are the result ----------------------------------------------------------------------


def _skip(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    """On to the next instruction, unless the handler went elsewhere itself."""
    if vcpu.registers.rip != exit.rip:
        return 0
    return pcpu.defer_completion(exit.length)


def _cpuid(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    vcpu.registers.answer_cpuid(exit.eax or 0, exit.ebx or 0, exit.ecx or 0, exit.edx or 0)
    return pcpu.defer_completion(exit.length)


def _edx_eax(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    vcpu.registers.answer_edx_eax(exit.value or 0)
    return pcpu.defer_completion(exit.length)


def _rdtscp(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    vcpu.set("rcx", vcpu.get("tsc_aux") & _MASK32)
    return _edx_eax(pcpu, vcpu, exit)


def _register_read(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    set_operand(vcpu, pcpu.words[b.D_RM >> 3], exit.value or 0, 8 if vcpu.mode == 64 else 4)
    return pcpu.defer_completion(exit.length)


def _smsw(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    value = exit.value or 0
    if pcpu.words[b.D_MODRM >> 3] >= 0xC0:
        set_operand(vcpu, pcpu.words[b.D_RM >> 3], value, pcpu.words[b.D_SIZE >> 3])
    else:
        vcpu.write(pcpu.words[b.D_EA >> 3] & _MASK64, (value & 0xFFFF).to_bytes(2, "little"))
    return pcpu.defer_completion(exit.length)


def _random(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    set_operand(vcpu, pcpu.words[b.D_RM >> 3], exit.value or 0, exit.size)
    vcpu.set("rflags", vcpu.rflags & ~_ARITHMETIC | 1)  # CF says that the number is valid
    return pcpu.defer_completion(exit.length)


def _nothing(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    """Swallowed: the guest goes on where it is."""
    return 0


def _skip_executed(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    if exit.rip != vcpu.rip:
        return 0
    length = pcpu.decode()
    return pcpu.complete(length) if length else 0


# --- passed: nobody decided, and this is what the bare processor does -----------------------------------------------


def native_step(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    """Execute the trapped instruction natively, with its intercept off for one step."""
    bit = INTERCEPT_BIT[exit.kind]
    pcpu.intercept(bit, False)
    try:
        further = pcpu.step()
    finally:
        pcpu.intercept(bit, True)
    return 0 if further == K.STEPPED else further


def _iret(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    """IRET ends the handling of an NMI; it stays trapped only if a handler listens."""
    bit = INTERCEPT_BIT[K.IRET]
    pcpu.intercept(bit, False)
    try:
        further = pcpu.step()
    finally:
        vcpu.registers.nmi_blocked = False
        pcpu.intercept(bit, bool(vcpu.vm.tables.intercepts >> bit & 1))
    if vcpu.vm.nmi_pending:
        pcpu.kick()
    return 0 if further == K.STEPPED else further


def _exception(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    return pcpu.event(exit.vector, exit.error or 0, EXCEPTION, vcpu.rip)


def _interrupt(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    return pcpu.event(exit.vector, 0, EXTERNAL, vcpu.rip)


def _execute(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    pcpu.words[b.SKIP >> 3] = exit.address if exit.address < 1 << 63 else exit.address - (1 << 64)
    return 0


def _int_n(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    rip = vcpu.rip + exit.length
    return pcpu.event(exit.vector, 0, pcpu.words[(b.X_INFO >> 3) + 2], rip if vcpu.mode == 64 else rip & _MASK32)


def _syscall(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    return pcpu.enter_syscall(exit.length)


def _sysenter(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    return pcpu.enter_sysenter(exit.length)


def _hlt(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    further = pcpu.complete(exit.length)
    vcpu.halted = not further
    return further


def _invlpg(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    pcpu.flush()
    return pcpu.complete(exit.length)


def _undefined(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    return pcpu.event(6, 0, EXCEPTION, vcpu.rip)


def _general_protection(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    return pcpu.event(13, 0, EXCEPTION, vcpu.rip)


def _tsc(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    exit.value = (vcpu.vm.clock.now_ns + vcpu.registers.tsc_offset) & _MASK64
    return _HANDLED[exit.kind](pcpu, vcpu, exit)


def _unserved(pcpu: PCpu, vcpu: Vcpu, exit: Exit) -> int:
    raise InternalError(f"nobody served the exit {exit!r}. Please report this.")


_Step = Callable[["PCpu", "Vcpu", Exit], int]


def _by_kind(default: _Step, steps: dict[_Step, tuple[ExitKind, ...]]) -> list[_Step]:
    table = [default] * 128
    for step, kinds in steps.items():
        for kind in kinds:
            table[kind] = step
    return table


_HANDLED = _by_kind(
    _skip,
    {
        _cpuid: (K.CPUID,),
        _edx_eax: (K.RDMSR, K.RDTSC, K.RDPMC),
        _rdtscp: (K.RDTSCP,),
        _register_read: (K.CR_READ, K.DR_READ),
        _smsw: (K.SMSW,),
        _random: (K.RDRAND, K.RDSEED),
        _nothing: (K.EXCEPTION, K.INTERRUPT),
        _skip_executed: (K.EXECUTE,),
    },
)
_PASSED = _by_kind(
    _unserved,
    {
        native_step: (
            K.LGDT, K.LIDT, K.LLDT, K.LTR, K.SGDT, K.SIDT, K.SLDT, K.STR, K.PUSHF, K.POPF, K.PAUSE, K.INVD,
            K.WBINVD,
        ),
        _iret: (K.IRET,),
        _exception: (K.EXCEPTION,),
        _interrupt: (K.INTERRUPT,),
        _execute: (K.EXECUTE,),
        _int_n: (K.INT_N,),
        _syscall: (K.SYSCALL,),
        _sysenter: (K.SYSENTER,),
        _hlt: (K.HLT,),
        _invlpg: (K.INVLPG,),
        _undefined: (K.HYPERCALL, K.MONITOR, K.MWAIT, K.SVM, K.RDRAND, K.RDSEED),
        _general_protection: (K.RDMSR, K.WRMSR, K.RDPMC),
        _tsc: (K.RDTSC, K.RDTSCP),
    },
)  # fmt: skip
