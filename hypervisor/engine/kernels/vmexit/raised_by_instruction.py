"""Instructions that raise an event: INT n, INT1, INT3 and INTO, and what arrives as #UD."""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.vectors import BP, DB, OF, UD
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64, st64
from hypervisor.engine.kernels.by_pointer import decode
from hypervisor.engine.kernels.memory.code_bytes import opcode_bytes
from hypervisor.engine.kernels.stopping.reporting import count, listens
from hypervisor.engine.kernels.vmexit.compiled_handlers import answered, complete_unless_stopped
from hypervisor.engine.kernels.vmexit.events import PRIVILEGED, SOFTWARE
from hypervisor.engine.kernels.vmexit.exiting_instruction import unreadable
from hypervisor.engine.kernels.vmexit.raising import raise_event, raise_exception
from hypervisor.engine.kernels.vmexit.to_python import report

_ENV, _EIP, _HFLAGS, _RAX, _CS64 = b_.ENV, l_.EIP, l_.HFLAGS, l_.RAX, l_.HF_CS64
_NOW, _X_INFO, _LISTEN_EXCEPTIONS, _C_HYPERCALL = b_.NOW, b_.X_INFO, b_.LISTEN_EXCEPTIONS, b_.C_HYPERCALL
_D_LENGTH, _D_OPCODE, _D_MODRM, _D_IMMEDIATE, _D_REPEAT = (
    b_.D_LENGTH, b_.D_OPCODE, b_.D_MODRM, b_.D_IMMEDIATE, b_.D_REPEAT,
)  # fmt: skip
_EXCEPTION, _HYPERCALL, _INT_N, _SVM = int(K.EXCEPTION), int(K.HYPERCALL), int(K.INT_N), int(K.SVM)
_MONITOR, _MWAIT, _RDRAND, _RDSEED = int(K.MONITOR), int(K.MWAIT), int(K.RDRAND), int(K.RDSEED)

_INT, _INT3, _INTO, _INT1, _GROUP_7, _GROUP_9 = 0xCD, 0xCC, 0xCE, 0xF1, 0x0F01, 0x0FC7
_VMCALL, _VMMCALL = 0xC1010F, 0xD9010F  # the whole instruction, low byte first
_MONITOR_MODRM, _MWAIT_MODRM, _VMRUN_MODRM, _INVLPGA_MODRM = 0xC8, 0xC9, 0xD8, 0xDF
_RDRAND_MODRM, _RDSEED_MODRM = 0xF0, 0xF8


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
        return report(b, _EXCEPTION, vector, 0)
    count(b, _EXCEPTION)
    return _raise_after(b, vector, kind, length)


@kernel
def undefined(b):  # type: ignore[no-untyped-def]
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
                return complete_unless_stopped(b, length)
            if listens(b, _HYPERCALL):
                return report(b, _HYPERCALL, 0, 0)
        elif opcode == _GROUP_7 and (modrm == _MONITOR_MODRM or modrm == _MWAIT_MODRM):
            kind = _MONITOR if modrm == _MONITOR_MODRM else _MWAIT
            if listens(b, kind):
                return report(b, kind, 0, 0)
        elif opcode == _GROUP_7 and modrm >= _VMRUN_MODRM and modrm <= _INVLPGA_MODRM:
            if listens(b, _SVM):
                return report(b, _SVM, modrm, 0)
        elif opcode == _GROUP_9 and modrm >= _RDRAND_MODRM and ld64(b + _D_REPEAT) == 0:  # F3 makes it RDPID: none here
            kind = _RDRAND if modrm < _RDSEED_MODRM else _RDSEED
            if listens(b, kind):
                return report(b, kind, 0, 0)
        elif opcode == _INT1:
            return _raised_by_instruction(b, DB, PRIVILEGED, length)
    return raise_exception(b, UD, 0, 1)


@kernel
def software_interrupt(b):  # type: ignore[no-untyped-def]
    """INT n, INT3 or INTO."""
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
        return report(b, _INT_N, vector, length)
    count(b, _INT_N)
    return _raise_after(b, vector, kind, length)


__all__ = ["software_interrupt", "undefined"]
