"""Filling the exit record from what the engine decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch.exits import ExitKind as K
from hypervisor.core.exits import Exit
from hypervisor.engine import block as b
from hypervisor.engine.state import GPR

if TYPE_CHECKING:
    from hypervisor.core.vcpu import Vcpu
    from hypervisor.engine.pcpu import PCpu

_INFO = b.X_INFO >> 3
_LENGTH, _REG, _RM, _MODRM, _SIZE, _EA = (
    b.D_LENGTH >> 3, b.D_REG >> 3, b.D_RM >> 3, b.D_MODRM >> 3, b.D_SIZE >> 3, b.D_EA >> 3,
)  # fmt: skip
_MASK64 = (1 << 64) - 1
_SVM_FIRST = 0xD8  # ModRM of VMRUN; VMMCALL, VMLOAD, ... follow


def _operand(vcpu: Vcpu, pcpu: PCpu, size: int) -> int:
    """The value of a ModRM register or memory operand, ``size`` bytes."""
    words = pcpu.words
    if words[_MODRM] >= 0xC0:
        return vcpu.get(GPR[words[_RM]]) & (1 << 8 * size) - 1
    return int.from_bytes(vcpu.read(words[_EA] & _MASK64, size), "little")


def fill(vcpu: Vcpu, pcpu: PCpu, kind: K) -> Exit:
    """The vCPU's exit record for an exit of this kind."""
    words = pcpu.words
    exit = vcpu.exit.begin(kind, vcpu.rip, words[_LENGTH])
    if kind is K.CPUID:
        exit.leaf, exit.subleaf = vcpu.get("rax") & 0xFFFFFFFF, vcpu.get("rcx") & 0xFFFFFFFF
    elif kind is K.RDMSR:
        exit.msr = words[_INFO]
    elif kind is K.WRMSR:
        exit.msr = words[_INFO]
        exit.value = (vcpu.get("rdx") & 0xFFFFFFFF) << 32 | vcpu.get("rax") & 0xFFFFFFFF
    elif kind in (K.CR_READ, K.DR_READ):
        exit.number = words[_INFO]
    elif kind in (K.CR_WRITE, K.DR_WRITE):
        exit.number = words[_INFO]
        value = vcpu.get(GPR[words[_RM]])
        exit.value = value if vcpu.mode == 64 else value & 0xFFFFFFFF
    elif kind is K.EXCEPTION:
        exit.vector, error, address = words[_INFO], words[_INFO + 1], words[_INFO + 2]
        exit.error = error
        exit.length = 0
        if exit.vector == 14:
            exit.address = address & _MASK64
    elif kind is K.HYPERCALL:
        exit.number = vcpu.get("rax")
    elif kind is K.INT_N:
        exit.vector = words[_INFO]
    elif kind is K.SVM:
        exit.number = words[_INFO] - _SVM_FIRST
    elif kind is K.INVLPG:
        exit.address = words[_EA] & _MASK64
    elif kind is K.EXECUTE:
        exit.address = words[_INFO] & _MASK64
        exit.length = 0
    elif kind is K.MEMORY:
        exit.gpa = words[_INFO]
        exit.address = vcpu.linear_rip
        exit.number = exit.address
        exit.size, exit.access = 1, "x"
    elif kind is K.LMSW or kind in (K.LLDT, K.LTR):
        exit.value = _operand(vcpu, pcpu, 2)
    elif kind is K.SLDT:
        exit.value = vcpu.ldtr.selector
    elif kind is K.STR:
        exit.value = vcpu.tr.selector
    elif kind is K.RDPMC:
        exit.number = vcpu.get("rcx") & 0xFFFFFFFF
    elif kind in (K.RDRAND, K.RDSEED):
        exit.size = words[_SIZE]
    return exit
