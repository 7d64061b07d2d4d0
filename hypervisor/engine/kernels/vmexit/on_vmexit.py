"""What happens at a #VMEXIT: normalise it, serve what nobody listens to, report the rest."""

from __future__ import annotations

from hypervisor.arch import vmexit_codes as code_
from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import CR4_OSXSAVE, RFLAGS_TF
from hypervisor.arch.vectors import DB, PF, UD
from hypervisor.engine import block as b_
from hypervisor.engine import costs
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64, st8, st32, st64
from hypervisor.engine.kernels.apic.apic_interrupts import acknowledge
from hypervisor.engine.kernels.apic.apic_msrs import CURRENT_COUNT, read_msr, write_msr, x2apic
from hypervisor.engine.kernels.apic.apic_words import current_count
from hypervisor.engine.kernels.by_pointer import decode
from hypervisor.engine.kernels.memory.code_bytes import opcode_bytes
from hypervisor.engine.kernels.memory.guest_tlb import flush_page
from hypervisor.engine.kernels.stopping.idle import skip_pauses
from hypervisor.engine.kernels.stopping.reporting import count, listens, ring, settle, stop
from hypervisor.engine.kernels.vmexit.compiled_handlers import answered, complete_unless_stopped
from hypervisor.engine.kernels.vmexit.events import EXTERNAL
from hypervisor.engine.kernels.vmexit.exiting_instruction import length_of, unreadable
from hypervisor.engine.kernels.vmexit.raised_by_instruction import software_interrupt, undefined
from hypervisor.engine.kernels.vmexit.raising import complete, raise_event, raise_exception
from hypervisor.engine.kernels.vmexit.time_stamp import clock, spin, time_stamp
from hypervisor.engine.kernels.vmexit.to_python import report, tell
from hypervisor.engine.shared_words.scheduling import vcpu_word

_ENV, _CPU, _HFLAGS, _CR2, _CR4 = b_.ENV, b_.CPU, l_.HFLAGS, l_.CR2, l_.CR4
_RAX, _RCX, _RDX, _RBX = l_.RAX, l_.RCX, l_.RDX, l_.RBX
_REQUEST, _VIRQ, _ERROR_CODE, _SHADOW = (
    l_.CPU_INTERRUPT_REQUEST, l_.CPU_INTERRUPT_VIRQ, l_.ERROR_CODE, l_.HF_INHIBIT_IRQ,
)  # fmt: skip
_X_KIND, _X_INFO, _NOW, _FAULT, _KINDS = b_.X_KIND, b_.X_INFO, b_.NOW, b_.FAULT, b_.EXIT_KINDS
_D_LENGTH, _D_OPCODE, _D_EA = b_.D_LENGTH, b_.D_OPCODE, b_.D_EA
_CPUID, _CPUID_COUNT, _NUMBER, _C_CPUID, _C_RDMSR = b_.CPUID, b_.CPUID_COUNT, b_.NUMBER, b_.C_CPUID, b_.C_RDMSR
_CR_READ_COSTS, _EXIT_BASE = b_.COSTS + 8 * costs.CR_READ, l_.EXIT_BASE

_CPUID_KIND, _RDMSR, _WRMSR, _INVLPG, _RDTSC, _RDTSCP, _PAUSE = (
    int(K.CPUID), int(K.RDMSR), int(K.WRMSR), int(K.INVLPG), int(K.RDTSC), int(K.RDTSCP), int(K.PAUSE),
)  # fmt: skip
_CLTS, _LMSW, _SMSW, _INVD, _WBINVD = int(K.CLTS), int(K.LMSW), int(K.SMSW), int(K.INVD), int(K.WBINVD)
_WINDOW, _FAILED = int(K.INTERRUPT_WINDOW), int(K.FAILED)
_INTERRUPT, _HLT, _TURN_OVER = int(K.INTERRUPT), int(K.HLT), int(K.TURN_OVER)
_EIP, _EFLAGS, _BLOCK_END, _INTR, _ARMED, _DEADLINE, _ROW, _TURNS = (
    l_.EIP, l_.EFLAGS, b_.BLOCK_END, b_.INTR, b_.ARMED, b_.DEADLINE, b_.ROW, b_.TURNS,
)  # fmt: skip
_HALTED = vcpu_word("halted")

_CLTS_OPCODE, _GROUP_7, _INVD_OPCODE, _RDTSC_OPCODE, _RDTSC_BYTES = 0x0F06, 0x0F01, 0x0F08, 0x0F31, 0x310F
_OSXSAVE = 1 << 27  # CPUID 1.ECX, which follows CR4


@kernel
def _window(b):  # type: ignore[no-untyped-def]
    """The guest can take an interrupt now: its local APIC, or Python, is asked for one."""
    cpu = ld64(b + _CPU)
    st32(cpu + _REQUEST, ld32(cpu + _REQUEST) & ~_VIRQ)
    if ld64(b + _X_KIND) or ld64(b + _FAULT) >= 0:
        return 0
    vector = -1 if listens(b, _INTERRUPT) else acknowledge(b)
    if vector < 0:
        return stop(b, _WINDOW, 1)
    count(b, _INTERRUPT)
    raise_event(b, vector, 0, EXTERNAL, ld64(ld64(b + _ENV) + _EIP), 1)
    st64(b + _BLOCK_END, 0)  # no block of the handler's has begun
    if ld64(b + _INTR):  # a higher one has come meanwhile
        st64(b + _ARMED, 1)
        st64(b + _DEADLINE, 0)
    return 0


@kernel
def _exception(b, vector):  # type: ignore[no-untyped-def]
    """An exception of the guest's, at RIP."""
    if vector == UD:
        return undefined(b)
    env = ld64(b + _ENV)
    if vector == PF:
        st64(b + _X_INFO + 24, ld64(env + _CR2))
    return raise_exception(b, vector, ld32(env + _ERROR_CODE), 1)


@kernel
def _look_up(b):  # type: ignore[no-untyped-def]
    """Answer CPUID from the vCPU's rows; zeros for a leaf that has none."""
    env = ld64(b + _ENV)
    leaf, subleaf = ld64(env + _RAX) & 0xFFFFFFFF, ld64(env + _RCX) & 0xFFFFFFFF
    a, c, d, x = 0, 0, 0, 0
    row = ld64(b + _CPUID) + 48 * ld64(b + _CPUID_COUNT) * ld64(b + _NUMBER)
    for _ in range(ld64(b + _CPUID_COUNT)):
        if ld64(row) == leaf and (ld64(row + 8) == -1 or ld64(row + 8) == subleaf):
            a, x, c, d = ld64(row + 16), ld64(row + 24), ld64(row + 32), ld64(row + 40)
            if leaf == 1:
                c |= _OSXSAVE if ld64(env + _CR4) & CR4_OSXSAVE else 0
            break
        row += 48
    st64(env + _RAX, a)
    st64(env + _RCX, c)
    st64(env + _RDX, d)
    st64(env + _RBX, x)
    return 0


@kernel
def _cpuid(b):  # type: ignore[no-untyped-def]
    env, length = ld64(b + _ENV), length_of(b, 2)
    if length == 0:
        return unreadable(b)
    leaf, subleaf = ld64(env + _RAX) & 0xFFFFFFFF, ld64(env + _RCX) & 0xFFFFFFFF
    if answered(b, _CPUID_KIND, ld64(b + _C_CPUID), leaf, subleaf):
        return complete_unless_stopped(b, length)
    if listens(b, _CPUID_KIND):
        return report(b, _CPUID_KIND, 0, 0)
    count(b, _CPUID_KIND)
    _look_up(b)
    return complete(b, length, 1)


@kernel
def _in_apic(b, page, register, write):  # type: ignore[no-untyped-def]
    """Let the guest access a register of its local APIC in x2APIC mode; 0 where that is left to the model."""
    env = ld64(b + _ENV)
    if write:
        value = (ld64(env + _RDX) & 0xFFFFFFFF) << 32 | ld64(env + _RAX) & 0xFFFFFFFF
        return write_msr(b, page, register, value)
    value = current_count(page, clock(b)) if register == CURRENT_COUNT else read_msr(page, register)
    if value == -1:
        return 0
    st64(env + _RAX, value & 0xFFFFFFFF)
    st64(env + _RDX, value >> 32 & 0xFFFFFFFF)
    return 1


@kernel
def _msr(b):  # type: ignore[no-untyped-def]
    """RDMSR or WRMSR: the hardware's EXITINFO1, here the error code, tells which."""
    env, length = ld64(b + _ENV), length_of(b, 2)
    if length == 0:
        return unreadable(b)
    write, register = ld32(env + _ERROR_CODE) & 1, ld64(env + _RCX) & 0xFFFFFFFF
    if write == 0 and answered(b, _RDMSR, ld64(b + _C_RDMSR), register, 0):
        return complete_unless_stopped(b, length)
    kind, page = _WRMSR if write else _RDMSR, x2apic(b, register)
    if page == 0 or listens(b, kind):
        return report(b, kind, register, 0)
    count(b, kind)
    return complete(b, length, 1) if _in_apic(b, page, register, write) else tell(b, kind, register, 0)


@kernel
def _invlpg(b):  # type: ignore[no-untyped-def]
    length = decode(b)
    if length == 0:
        return unreadable(b)
    if listens(b, _INVLPG):
        return report(b, _INVLPG, ld64(b + _D_EA), 0)
    flush_page(b, ld64(b + _D_EA))
    count(b, _INVLPG)
    return complete(b, length, 1)


@kernel
def _rdtsc(b):  # type: ignore[no-untyped-def]
    length, kind = 2, _RDTSC
    if opcode_bytes(b) & 0xFFFF != _RDTSC_BYTES:
        length = decode(b)
        if length == 0:
            return unreadable(b)
        kind = _RDTSC if ld64(b + _D_OPCODE) == _RDTSC_OPCODE else _RDTSCP
    st64(b + _D_LENGTH, length)
    if listens(b, kind):
        return report(b, kind, 0, 0)
    time_stamp(b, kind)
    return complete(b, length, 1)


@kernel
def _pause(b, length):  # type: ignore[no-untyped-def]
    count(b, _PAUSE)
    shadow = ld32(ld64(b + _ENV) + _HFLAGS) & _SHADOW
    complete(b, length, 1)
    spin(b, 1)
    return 0 if shadow else skip_pauses(b)


@kernel
def _halt(b, length):  # type: ignore[no-untyped-def]
    """HLT without a listener: the vCPU's turn is over, until something wakes it."""
    count(b, _HLT)
    ring(b, _HLT, code_.HLT, 0)
    complete(b, length, 1)
    st8(ld64(b + _ROW) + _HALTED, 1)
    return stop(b, _TURN_OVER, 1)


@kernel
def _control_register(b, code, opcode):  # type: ignore[no-untyped-def]
    """MOV from and to a control register, CLTS, LMSW and SMSW."""
    number = code & 15
    if opcode == _CLTS_OPCODE:
        return report(b, _CLTS, 0, 0)
    if opcode == _GROUP_7:
        return report(b, _LMSW if code >= code_.CR0_WRITE else _SMSW, 0, 0)
    if code < code_.CR0_WRITE:  # a write has taken its time, see `time_and_control.write_control`
        st64(b + _NOW, ld64(b + _NOW) + ld64(b + _CR_READ_COSTS + 8 * number))
    return report(b, ld64(b + _KINDS + 8 * code), number, 0)


@kernel
def _told(b, code):  # type: ignore[no-untyped-def]
    """What goes to Python, with its operands decoded."""
    length = decode(b)
    if length == 0:
        return unreadable(b)
    if code == code_.PAUSE and not listens(b, _PAUSE):
        return _pause(b, length)
    if code == code_.HLT and ld64(b + _TURNS) and not listens(b, _HLT):
        if ld64(ld64(b + _ENV) + _EFLAGS) & RFLAGS_TF == 0:  # (the single-step trap ends it at once)
            return _halt(b, length)
    opcode = ld64(b + _D_OPCODE)
    if code < code_.DR0_READ:
        return _control_register(b, code, opcode)
    if code < code_.EXCP0:
        return report(b, ld64(b + _KINDS + 8 * code), code & 15, 0)
    kind = _FAILED
    if code == code_.INVD or code == code_.WBINVD:
        kind = _INVD if opcode == _INVD_OPCODE else _WBINVD
    elif code < code_.CODES:
        kind = ld64(b + _KINDS + 8 * code)
    return report(b, kind, code, 0)


@kernel
def on_exit(b, number):  # type: ignore[no-untyped-def]
    """The body of the interrupt hook: ``number`` is `EXIT_BASE` plus the manual's exit code."""
    code = number - _EXIT_BASE
    if code == code_.VINTR:
        return _window(b)
    if code != code_.EXCP0 + DB:  # a single step is over at the end of its block, and RIP may be anywhere
        settle(b)
    if code >= code_.EXCP0 and code <= code_.EXCP_LAST:
        return _exception(b, code - code_.EXCP0)
    if code == code_.SWINT:
        return software_interrupt(b)
    if code == code_.CPUID:
        return _cpuid(b)
    if code == code_.MSR:
        return _msr(b)
    if code == code_.INVLPG:
        return _invlpg(b)
    if code == code_.RDTSC:
        return _rdtsc(b)
    return _told(b, code)


__all__ = ["on_exit"]
