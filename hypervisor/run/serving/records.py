"""Filling the exit record from what the engine decoded: one small function per kind, found by index."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.vectors import PF
from hypervisor.engine import block as b
from hypervisor.engine.state import GPR
from hypervisor.vcpu.exit import Exit
from hypervisor.vcpu.operands import read_word

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.vcpu.processor import Processor

_INFO = b.X_INFO >> 3
_LENGTH, _RM, _SIZE, _EA = b.D_LENGTH >> 3, b.D_RM >> 3, b.D_SIZE >> 3, b.D_EA >> 3
_MASK32 = 0xFFFFFFFF
_MASK64 = (1 << 64) - 1
_SVM_FIRST = 0xD8  # ModRM of VMRUN; VMMCALL, VMLOAD, ... follow

_Fill = Callable[[Exit, "Processor", "PCpu"], None]


def _cpuid(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.leaf, exit.subleaf = leaf, subleaf = vcpu.registers.cpuid_question()
    exit.eax, exit.ebx, exit.ecx, exit.edx = vcpu.builtin_cpuid(vcpu, leaf, subleaf)


def _rdmsr(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.msr = pcpu.words[_INFO]
    exit.value = None


def _no_value(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.value = None


def _wrmsr(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    get = vcpu.registers.get
    exit.msr = pcpu.words[_INFO]
    exit.value = (get("rdx") & _MASK32) << 32 | get("rax") & _MASK32


def _number(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.number = pcpu.words[_INFO]
    exit.value = None


def _register_write(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.number = pcpu.words[_INFO]
    value = vcpu.registers.get(GPR[pcpu.words[_RM]])
    exit.value = value if vcpu.mode == 64 else value & _MASK32


def _exception(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.known_length = 0
    exit.vector, exit.error, address = pcpu.words[_INFO : _INFO + 3].tolist()
    exit.address = address & _MASK64 if exit.vector == PF else None


def _hypercall(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.number = vcpu.registers.get("rax")


def _int_n(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.vector = pcpu.words[_INFO]


def _svm(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.number = pcpu.words[_INFO] - _SVM_FIRST


def _execute(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.known_length = 0
    exit.address = pcpu.words[_INFO] & _MASK64


def _fetch(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    """Loads and stores are served in place; only fetches come here."""
    exit.known_length = 0
    exit.gva = vcpu.linear_rip
    exit.gpa = vcpu.translate(exit.gva)
    exit.size, exit.access = 1, "x"


def _address(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.address = pcpu.words[_EA] & _MASK64


def _selector(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.value = read_word(pcpu, vcpu)


def _sldt(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.value = vcpu.ldtr.selector


def _str(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.value = vcpu.tr.selector


def _rdpmc(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.number = vcpu.registers.get("rcx") & _MASK32
    exit.value = None


def _random(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.size = pcpu.words[_SIZE]
    exit.value = None


_BY_KIND: dict[K, _Fill] = {
    K.RDTSC: _no_value, K.RDTSCP: _no_value, K.SMSW: _no_value, K.CPUID: _cpuid, K.RDMSR: _rdmsr, K.WRMSR: _wrmsr,
    K.CR_READ: _number, K.DR_READ: _number, K.CR_WRITE: _register_write, K.DR_WRITE: _register_write,
    K.EXCEPTION: _exception, K.HYPERCALL: _hypercall, K.INT_N: _int_n, K.SVM: _svm, K.INVLPG: _address,
    K.LGDT: _address, K.LIDT: _address, K.SGDT: _address, K.SIDT: _address, K.EXECUTE: _execute, K.MEMORY: _fetch,
    K.LMSW: _selector, K.LLDT: _selector, K.LTR: _selector, K.SLDT: _sldt, K.STR: _str, K.RDPMC: _rdpmc,
    K.RDRAND: _random, K.RDSEED: _random,
}  # fmt: skip
_FILL: list[_Fill | None] = [None] * 128
for _kind in K:
    _FILL[_kind] = _BY_KIND.get(_kind)


def fill(vcpu: Processor, pcpu: PCpu, kind: int) -> Exit:
    """The vCPU's record for exits of this kind, with the fields of this one; results are None."""
    exit = vcpu.exit = vcpu.exits[kind]
    exit.rip = vcpu.registers.rip
    exit.known_length = pcpu.words[_LENGTH]
    function = _FILL[kind]
    if function is not None:
        function(exit, vcpu, pcpu)
    return exit
