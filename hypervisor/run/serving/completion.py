"""What verdicts do to the processor, kind by kind.

A handler (or the built-in one) has decided; here its answer reaches registers, and RIP goes past the instruction. An
instruction that nobody changed and that the engine can execute natively is executed natively, with its intercept
switched off for one step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.arch.exits import INTERCEPT_BIT
from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import (
    DR6_BS,
    RFLAGS_AF,
    RFLAGS_CF,
    RFLAGS_OF,
    RFLAGS_PF,
    RFLAGS_SF,
    RFLAGS_TF,
    RFLAGS_ZF,
)
from hypervisor.arch.vectors import DB, NMI, PF, UD
from hypervisor.errors import InternalError, TrapError
from hypervisor.traps.history import EXCEPTION, EXTERNAL
from hypervisor.traps.verdicts import Inject
from hypervisor.vcpu import breakpoints
from hypervisor.vcpu.exit import Exit, refuse_foreign_results
from hypervisor.vcpu.operands import set_register, write_word
from hypervisor.vcpu.widths import fitting

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.vcpu.processor import Processor

_MASK32, _MASK64 = 0xFFFFFFFF, (1 << 64) - 1
_ARITHMETIC_FLAGS = RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF


Effect = Callable[["PCpu", "Processor", Exit], int]
"""What a verdict does to the processor; the kind of a further exit that this causes, else 0."""


def deliver(pcpu: PCpu, vcpu: Processor, vector: int, error: int | None) -> int:
    """Give the guest an exception, an NMI or, from 32 on, an external interrupt; a further exit's kind, or 0."""
    kind = EXCEPTION if vector < 32 and vector != NMI else EXTERNAL
    return pcpu.event(vector, error or 0, kind, vcpu.rip)


# --- verdicts that are the same for all kinds -----------------------------------------------------------------------


def inject(verdict: Inject, pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    """Deliver the exception instead; for each verdict an effect of its own."""
    _forget(pcpu, vcpu, exit)
    if verdict.vector == PF and exit.address is not None:
        vcpu.set("cr2", exit.address)
    return deliver(pcpu, vcpu, verdict.vector, verdict.error_code)


def retried(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    """Execute the instruction again."""
    if exit.kind is K.INTERRUPT:
        raise TrapError(
            "hv.RETRY is no answer to an interrupt, which has no instruction: hv.PASS delivers it, hv.HANDLED drops it."
        )
    return stopped(pcpu, vcpu, exit)


def stopped(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    """Leave the guest where it is."""
    _forget(pcpu, vcpu, exit)
    return 0


def _after(vcpu: Processor, length: int) -> int:
    rip = vcpu.rip + length
    return rip & _MASK64 if vcpu.mode == 64 else rip & _MASK32


def _forget(pcpu: PCpu, vcpu: Processor, exit: Exit) -> None:
    """A page fault that is not delivered has not changed CR2."""
    if exit.kind is K.EXCEPTION and exit.vector == PF:
        vcpu.set("cr2", pcpu.report.info_3 & _MASK64)


# --- handled: the exit's fields are the result ----------------------------------------------------------------------


def _skip(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    """On to the next instruction, unless the handler went elsewhere itself."""
    if vcpu.registers.rip != exit.rip:
        return 0
    length = exit.known_length or exit.length
    if not length:
        raise TrapError(f"hv.HANDLED for {exit!r}: the instruction's end is not known. Set vcpu.rip in the handler.")
    return pcpu.defer_completion(length)


def _check(exit: Exit, bits: int, *fields: str) -> None:
    """Put results that are negative in two's complement; raise `ConfigError` for what a register does not take."""
    for field in fields:
        setattr(exit, field, fitting(f"exit.{field} of {exit.kind.name.lower()}", getattr(exit, field), bits))


def _check_value(exit: Exit, bits: int) -> None:
    if type(exit.value) is not int or exit.value >> bits:
        _check(exit, bits, "value")


def _cpuid(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    eax, ebx, ecx, edx = exit.eax, exit.ebx, exit.ecx, exit.edx
    try:
        wide = (eax | ebx | ecx | edx) >> 32
    except TypeError:
        wide = True
    if exit.value is not None:
        refuse_foreign_results(exit)
    if wide:
        _check(exit, 32, "eax", "ebx", "ecx", "edx")
        eax, ebx, ecx, edx = exit.eax, exit.ebx, exit.ecx, exit.edx
    vcpu.registers.answer_cpuid(eax, ebx, ecx, edx)
    return _skip(pcpu, vcpu, exit)


def _edx_eax(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    _check_value(exit, 64)
    vcpu.registers.answer_edx_eax(exit.value)
    return _skip(pcpu, vcpu, exit)


def _rdtscp(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    vcpu.set("rcx", vcpu.get("tsc_aux") & _MASK32)
    return _edx_eax(pcpu, vcpu, exit)


def _register_read(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    _check_value(exit, 64)
    set_register(vcpu, pcpu.report.d_rm, exit.value, 8 if vcpu.mode == 64 else 4)
    return _skip(pcpu, vcpu, exit)


def _word(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    _check_value(exit, 64 if exit.kind is K.SMSW else 16)
    write_word(pcpu, vcpu, exit.value)
    return _skip(pcpu, vcpu, exit)


def _random(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    _check_value(exit, 8 * exit.size)
    set_register(vcpu, pcpu.report.d_rm, exit.value, exit.size)
    vcpu.set("rflags", vcpu.rflags & ~_ARITHMETIC_FLAGS | RFLAGS_CF)  # CF says that the number is valid
    return _skip(pcpu, vcpu, exit)


def _swallowed(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    """The guest goes on where it is: for a fault at its instruction, for INT1, INT3 and INTO after it."""
    _forget(pcpu, vcpu, exit)
    by_instruction = pcpu.report.info_4 != EXCEPTION and vcpu.rip == exit.rip
    return pcpu.complete(pcpu.report.d_length) if by_instruction else 0


def _dropped(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    return 0


# --- passed: nobody decided, and this is what the bare processor does -----------------------------------------------


def _native(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    further = step_natively(pcpu, vcpu, exit.kind)
    if further == K.VERDICT:  # left in its middle: if it is stepped over, its handlers are not asked again
        vcpu.asked = exit.kind
    return 0 if further == K.STEPPED else further


def step_natively(pcpu: PCpu, vcpu: Processor, kind: K | None) -> int:
    """Step an instruction whose handlers have been asked, with the intercept of its kind off; what `PCpu.step` says.

    It has been begun before, so its execute hook, which stands at its beginning, has been reached already.
    """
    breakpoints.again(pcpu, vcpu)
    if kind is None:
        return pcpu.step()
    bit = INTERCEPT_BIT[kind]
    pcpu.trapping.intercept(bit, False)
    try:
        further = pcpu.step()
    finally:
        pcpu.trapping.intercept(bit, bool(pcpu.report.intercepts >> bit & 1))
    if kind is K.IRET and further != K.VERDICT:
        _returned(pcpu, vcpu)
    return further


def _returned(pcpu: PCpu, vcpu: Processor) -> None:
    """IRET ends the handling of an NMI, and loads RF."""
    vcpu.registers.nmi_blocked = False
    if vcpu.nmi_pending:
        pcpu.kick()
    breakpoints.after_iret(pcpu, vcpu, vcpu.breakpoints)


def _exception(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    """Deliver it with the RIP of its instruction; INT1, INT3 and INTO are delivered after theirs."""
    source, rip = pcpu.report.info_4, vcpu.rip
    if source != EXCEPTION:
        length = pcpu.report.d_length
        rip = _after(vcpu, length)
        pcpu.report.now += length  # as the engine does when nobody listens
    return pcpu.event(exit.vector, exit.error_code or 0, source, rip)


def _paused(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    """As the engine does when nobody listens."""
    return pcpu.complete(exit.known_length or exit.length) or pcpu.spin()


def _undefined(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    return pcpu.event(UD, 0, EXCEPTION, vcpu.rip)


def _interrupt(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    return pcpu.event(exit.vector, 0, EXTERNAL, vcpu.rip)


def _software_interrupt(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    pcpu.report.now += exit.length
    return pcpu.event(exit.vector, 0, pcpu.report.info_2, _after(vcpu, exit.length))


def _execute(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    return breakpoints.before_instruction(pcpu, vcpu, vcpu.breakpoints, exit.address) if vcpu.rip == exit.rip else 0


def _syscall(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    return pcpu.enter_syscall(exit.length) or _single_step(pcpu, vcpu)


def _sysenter(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    return pcpu.enter_sysenter(exit.length) or _single_step(pcpu, vcpu)


def _single_step(pcpu: PCpu, vcpu: Processor) -> int:
    """SYSCALL and SYSENTER look at TF after they have loaded the flags."""
    if not vcpu.rflags & RFLAGS_TF:
        return 0
    vcpu.set("dr6", vcpu.dr6 | DR6_BS)
    return pcpu.exception(DB, 0)


def _halt(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    stepped = vcpu.rflags & RFLAGS_TF
    further = pcpu.complete(exit.length)
    vcpu.halted = not further and not stepped  # the single-step trap wakes it
    return further


def _invalidate(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    pcpu.memory.flush_guest()
    return pcpu.complete(exit.length)


def _unserved(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    raise InternalError(f"nobody served {exit!r}. Please report this.")


def _by_kind(default: Effect, steps: dict[Effect, tuple[K, ...]]) -> list[Effect]:
    table = [default] * 128
    for step, kinds in steps.items():
        for kind in kinds:
            table[kind] = step
    return table


HANDLED = _by_kind(
    _skip,
    {
        _cpuid: (K.CPUID,),
        _edx_eax: (K.RDMSR, K.RDTSC, K.RDPMC),
        _rdtscp: (K.RDTSCP,),
        _register_read: (K.CR_READ, K.DR_READ),
        _word: (K.SMSW, K.SLDT, K.STR),
        _random: (K.RDRAND, K.RDSEED),
        _swallowed: (K.EXCEPTION,),
        _dropped: (K.INTERRUPT,),
    },
)
"""What `hv.HANDLED` does, by kind: the exit's fields are the result."""
PASSED = _by_kind(
    _unserved,
    {
        _native: (
            K.LGDT, K.LIDT, K.LLDT, K.LTR, K.SGDT, K.SIDT, K.SLDT, K.STR, K.PUSHF, K.POPF, K.INVD, K.WBINVD, K.IRET,
        ),
        _exception: (K.EXCEPTION,),
        _interrupt: (K.INTERRUPT,),
        _execute: (K.EXECUTE,),
        _software_interrupt: (K.INT_N,),
        _syscall: (K.SYSCALL,),
        _sysenter: (K.SYSENTER,),
        _halt: (K.HLT,),
        _invalidate: (K.INVLPG,),
        _paused: (K.PAUSE,),
        _undefined: (K.HYPERCALL, K.MONITOR, K.MWAIT, K.SVM, K.RDRAND, K.RDSEED),
    },
)  # fmt: skip
"""What `hv.PASS` does where no built-in handler decided, by kind: what the bare processor does."""
