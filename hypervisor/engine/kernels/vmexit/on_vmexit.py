"""What happens at a #VMEXIT: normalise it, serve what nobody listens to, report the rest."""

from __future__ import annotations

from hypervisor.arch import vmexit_codes as code_
from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import CR4_OSXSAVE
from hypervisor.arch.vectors import BP, DB, OF, PF, UD
from hypervisor.engine import block as b_
from hypervisor.engine import costs
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call2, kernel, ld32, ld64, st32, st64
from hypervisor.engine.kernels.by_pointer import decode
from hypervisor.engine.kernels.memory.access import flush_tlb
from hypervisor.engine.kernels.memory.code_bytes import opcode_bytes
from hypervisor.engine.kernels.memory.lookaside import forget
from hypervisor.engine.kernels.stopping.idle import skip_pauses
from hypervisor.engine.kernels.stopping.reporting import count, listens, ring, settle, stop
from hypervisor.engine.kernels.vmexit.compiled_handlers import answered
from hypervisor.engine.kernels.vmexit.events import PRIVILEGED, SOFTWARE
from hypervisor.engine.kernels.vmexit.exiting_instruction import length_of, unreadable
from hypervisor.engine.kernels.vmexit.raising import complete, raise_event, raise_exception
from hypervisor.engine.kernels.vmexit.time_stamp import spin, time_stamp

_ENV, _CPU, _EIP, _HFLAGS, _CR2, _CR4 = b_.ENV, b_.CPU, l_.EIP, l_.HFLAGS, l_.CR2, l_.CR4
_REGS, _RAX, _RCX, _RDX, _RBX = l_.REGS, l_.RAX, l_.RCX, l_.RDX, l_.RBX
_REQUEST, _ERROR_CODE, _CS64, _SHADOW = l_.CPU_INTERRUPT_REQUEST, l_.ERROR_CODE, l_.HF_CS64, l_.HF_INHIBIT_IRQ
_VIRQ, _EXIT_BASE = l_.CPU_INTERRUPT_VIRQ, l_.EXIT_BASE
_X_KIND, _X_INFO, _NOW, _FAULT, _KINDS = b_.X_KIND, b_.X_INFO, b_.NOW, b_.FAULT, b_.EXIT_KINDS
_LISTEN_EXCEPTIONS, _ALIAS, _F_TLB_FLUSH_PAGE = b_.LISTEN_EXCEPTIONS, b_.ALIAS, b_.F_TLB_FLUSH_PAGE
_D_LENGTH, _D_OPCODE, _D_MODRM, _D_RM, _D_EA = b_.D_LENGTH, b_.D_OPCODE, b_.D_MODRM, b_.D_RM, b_.D_EA
_D_IMMEDIATE, _D_REPEAT = b_.D_IMMEDIATE, b_.D_REPEAT
_CPUID, _CPUID_COUNT, _NUMBER = b_.CPUID, b_.CPUID_COUNT, b_.NUMBER
_C_CPUID, _C_RDMSR, _C_HYPERCALL = b_.C_CPUID, b_.C_RDMSR, b_.C_HYPERCALL
_CR_READ_COSTS = b_.COSTS + 8 * costs.CR_READ

_CPUID_KIND, _RDMSR, _WRMSR, _INT_N, _INVLPG, _RDTSC, _RDTSCP = (
    int(K.CPUID), int(K.RDMSR), int(K.WRMSR), int(K.INT_N), int(K.INVLPG), int(K.RDTSC), int(K.RDTSCP),
)  # fmt: skip
_HYPERCALL, _EXCEPTION, _WINDOW, _FAILED, _SVM, _PAUSE = (
    int(K.HYPERCALL), int(K.EXCEPTION), int(K.INTERRUPT_WINDOW), int(K.FAILED), int(K.SVM), int(K.PAUSE),
)  # fmt: skip
_CR_WRITE, _DR_WRITE, _CLTS, _LMSW, _SMSW = int(K.CR_WRITE), int(K.DR_WRITE), int(K.CLTS), int(K.LMSW), int(K.SMSW)
_RDRAND, _RDSEED, _MONITOR, _MWAIT, _INVD, _WBINVD = (
    int(K.RDRAND), int(K.RDSEED), int(K.MONITOR), int(K.MWAIT), int(K.INVD), int(K.WBINVD),
)  # fmt: skip

_INT, _INT3, _INTO, _INT1 = 0xCD, 0xCC, 0xCE, 0xF1
_CLTS_OPCODE, _INVD_OPCODE, _RDTSC_OPCODE, _RDTSC_BYTES = 0x0F06, 0x0F08, 0x0F31, 0x310F
_GROUP_7, _GROUP_9 = 0x0F01, 0x0FC7
_VMCALL, _VMMCALL = 0xC1010F, 0xD9010F  # the whole instruction, low byte first
_MONITOR_MODRM, _MWAIT_MODRM, _VMRUN_MODRM, _INVLPGA_MODRM = 0xC8, 0xC9, 0xD8, 0xDF
_RDRAND_MODRM, _RDSEED_MODRM = 0xF0, 0xF8
_OSXSAVE = 1 << 27  # CPUID 1.ECX, which follows CR4


@kernel
def _complete_unless_stopped(b, length):  # type: ignore[no-untyped-def]
    """The end of an instruction that a compiled handler has answered."""
    if ld64(b + _X_KIND):
        return 0
    return complete(b, length, 1)


@kernel
def _written(b, kind, otherwise):  # type: ignore[no-untyped-def]
    """What an instruction is about to write into a control, debug or model-specific register."""
    env = ld64(b + _ENV)
    if kind == _WRMSR:
        return (ld64(env + _RDX) & 0xFFFFFFFF) << 32 | (ld64(env + _RAX) & 0xFFFFFFFF)
    if kind == _CR_WRITE or kind == _DR_WRITE:
        return ld64(env + _REGS + 8 * (ld64(b + _D_RM) & 15))
    return otherwise


@kernel
def _report(b, kind, first, second):  # type: ignore[no-untyped-def]
    st64(b + _X_INFO, first)
    st64(b + _X_INFO + 8, second)
    count(b, kind)
    if kind == _INVLPG:
        ring(b, kind, 0, first)
    else:
        ring(b, kind, first, _written(b, kind, second))
    return stop(b, kind, 1)


@kernel
def _raise_after(b, vector, kind, length):  # type: ignore[no-untyped-def]
    """Deliver an event that is raised after the instruction at RIP."""
    st64(b + _NOW, ld64(b + _NOW) + length)
    env = ld64(b + _ENV)
    rip = ld64(env + _EIP) + length
    if ld32(env + _HFLAGS) & _CS64 == 0:
        rip &= 0xFFFFFFFF
    return raise_event(b, vector, 0, kind, rip, 1)


@kernel
def _raised_by_instruction(b, vector, kind, length):  # type: ignore[no-untyped-def]
    """INT1, INT3 and INTO are exceptions: to the handler that listens, else to the guest."""
    if (ld64(b + _LISTEN_EXCEPTIONS) >> vector) & 1:
        st64(b + _D_LENGTH, length)
        st64(b + _X_INFO + 16, 0)
        st64(b + _X_INFO + 32, kind)
        return _report(b, _EXCEPTION, vector, 0)
    count(b, _EXCEPTION)
    return _raise_after(b, vector, kind, length)


@kernel
def _undefined(b):  # type: ignore[no-untyped-def]
    """#UD: some instructions that we serve or that handlers can have arrive as one."""
    word = opcode_bytes(b) & 0xFFFFFF
    if word == _VMCALL or word == _VMMCALL:
        length, opcode, modrm = 3, _GROUP_7, word >> 16
        st64(b + _D_LENGTH, length)
    else:
        length = decode(b)
        opcode, modrm = ld64(b + _D_OPCODE), ld64(b + _D_MODRM)
    if length:
        if opcode == _GROUP_7 and (modrm == _VMCALL >> 16 or modrm == _VMMCALL >> 16):
            if answered(b, _HYPERCALL, ld64(b + _C_HYPERCALL), ld64(ld64(b + _ENV) + _RAX), 0):
                return _complete_unless_stopped(b, length)
            if listens(b, _HYPERCALL):
                return _report(b, _HYPERCALL, 0, 0)
        elif opcode == _GROUP_7 and (modrm == _MONITOR_MODRM or modrm == _MWAIT_MODRM):
            kind = _MONITOR if modrm == _MONITOR_MODRM else _MWAIT
            if listens(b, kind):
                return _report(b, kind, 0, 0)
        elif opcode == _GROUP_7 and modrm >= _VMRUN_MODRM and modrm <= _INVLPGA_MODRM:
            if listens(b, _SVM):
                return _report(b, _SVM, modrm, 0)
        elif (
            opcode == _GROUP_9 and modrm >= _RDRAND_MODRM and ld64(b + _D_REPEAT) == 0
        ):  # with F3 it is RDPID, which is none
            kind = _RDRAND if modrm < _RDSEED_MODRM else _RDSEED
            if listens(b, kind):
                return _report(b, kind, 0, 0)
        elif opcode == _INT1:
            return _raised_by_instruction(b, DB, PRIVILEGED, length)
    return raise_exception(b, UD, 0, 1)


@kernel
def _software_interrupt(b):  # type: ignore[no-untyped-def]
    word = opcode_bytes(b)
    first = word & 0xFF if word >= 0 else 0
    vector, length, kind = 0, 1, SOFTWARE | 4
    if first == _INT:
        vector, length, kind = (word >> 8) & 0xFF, 2, SOFTWARE
    elif first == _INT3:
        vector = BP
    elif first == _INTO:
        vector = OF
    else:
        length = decode(b)
        opcode = ld64(b + _D_OPCODE)
        if opcode == _INT:
            vector, kind = ld64(b + _D_IMMEDIATE), SOFTWARE
        else:
            vector = BP if opcode == _INT3 else OF
    if length == 0 or vector < 0:
        return unreadable(b)
    st64(b + _D_LENGTH, length)
    if kind != SOFTWARE:
        return _raised_by_instruction(b, vector, kind, length)
    if listens(b, _INT_N):
        st64(b + _X_INFO + 16, kind)
        return _report(b, _INT_N, vector, length)
    count(b, _INT_N)
    return _raise_after(b, vector, kind, length)


@kernel
def _window(b):  # type: ignore[no-untyped-def]
    """The guest can take an interrupt now: its controller is asked for one."""
    cpu = ld64(b + _CPU)
    st32(cpu + _REQUEST, ld32(cpu + _REQUEST) & ~_VIRQ)
    if ld64(b + _X_KIND) == 0 and ld64(b + _FAULT) < 0:
        stop(b, _WINDOW, 1)
    return 0


@kernel
def _exception(b, vector):  # type: ignore[no-untyped-def]
    """An exception of the guest's, at RIP."""
    if vector == UD:
        return _undefined(b)
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
        return _complete_unless_stopped(b, length)
    if listens(b, _CPUID_KIND):
        return _report(b, _CPUID_KIND, 0, 0)
    count(b, _CPUID_KIND)
    _look_up(b)
    return complete(b, length, 1)


@kernel
def _msr(b):  # type: ignore[no-untyped-def]
    """RDMSR or WRMSR: the hardware's EXITINFO1, here the error code, tells which."""
    env, length = ld64(b + _ENV), length_of(b, 2)
    if length == 0:
        return unreadable(b)
    write, register = ld32(env + _ERROR_CODE) & 1, ld64(env + _RCX) & 0xFFFFFFFF
    if write == 0 and answered(b, _RDMSR, ld64(b + _C_RDMSR), register, 0):
        return _complete_unless_stopped(b, length)
    return _report(b, _WRMSR if write else _RDMSR, register, 0)


@kernel
def _flush_page(b):  # type: ignore[no-untyped-def]
    """INVLPG without a listener: the page of its operand is forgotten."""
    va = ld64(b + _D_EA)
    index = (va >> 21) & 4095
    if (ld64(ld64(b + _ALIAS) + 8 * (index >> 6)) >> (index & 63)) & 1:
        flush_tlb(b)  # the page may be part of a large one, which the TLB holds in pieces
    else:
        call2(ld64(b + _F_TLB_FLUSH_PAGE), ld64(b + _CPU), va & ~0xFFF)
        forget(b)
    return 0


@kernel
def _invlpg(b):  # type: ignore[no-untyped-def]
    length = decode(b)
    if length == 0:
        return unreadable(b)
    if listens(b, _INVLPG):
        return _report(b, _INVLPG, ld64(b + _D_EA), 0)
    _flush_page(b)
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
        return _report(b, kind, 0, 0)
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
def _control_register(b, code, opcode):  # type: ignore[no-untyped-def]
    """MOV from and to a control register, CLTS, LMSW and SMSW."""
    number = code & 15
    if opcode == _CLTS_OPCODE:
        return _report(b, _CLTS, 0, 0)
    if opcode == _GROUP_7:
        return _report(b, _LMSW if code >= code_.CR0_WRITE else _SMSW, 0, 0)
    if code < code_.CR0_WRITE:  # a write has taken its time, see `time_and_control.write_control`
        st64(b + _NOW, ld64(b + _NOW) + ld64(b + _CR_READ_COSTS + 8 * number))
    return _report(b, ld64(b + _KINDS + 8 * code), number, 0)


@kernel
def _told(b, code):  # type: ignore[no-untyped-def]
    """What goes to Python, with its operands decoded."""
    length = decode(b)
    if length == 0:
        return unreadable(b)
    if code == code_.PAUSE and not listens(b, _PAUSE):
        return _pause(b, length)
    opcode = ld64(b + _D_OPCODE)
    if code < code_.DR0_READ:
        return _control_register(b, code, opcode)
    if code < code_.EXCP0:
        return _report(b, ld64(b + _KINDS + 8 * code), code & 15, 0)
    kind = _FAILED
    if code == code_.INVD or code == code_.WBINVD:
        kind = _INVD if opcode == _INVD_OPCODE else _WBINVD
    elif code < code_.CODES:
        kind = ld64(b + _KINDS + 8 * code)
    return _report(b, kind, code, 0)


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
        return _software_interrupt(b)
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
