"""Filling the exit record from what the engine decoded: one small function per kind, found by index."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.vectors import PF
from hypervisor.engine.state import GPR
from hypervisor.vcpu.exit import UNWRITTEN, Exit
from hypervisor.vcpu.operands import read_word

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.vcpu.processor import Processor

_MASK32 = 0xFFFFFFFF
_MASK64 = (1 << 64) - 1
_SVM_FIRST = 0xD8  # ModRM of VMRUN; VMMCALL, VMLOAD, ... follow

_Fill = Callable[[Exit, "Processor", "PCpu"], None]


def _cpuid(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.leaf, exit.subleaf = leaf, subleaf = vcpu.registers.cpuid_question()
    exit.eax, exit.ebx, exit.ecx, exit.edx = vcpu.builtin_cpuid(vcpu, leaf, subleaf)


def _rdmsr(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.msr = pcpu.report.info_0
    exit.value = UNWRITTEN


def _no_value(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.value = UNWRITTEN


def _wrmsr(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    get = vcpu.registers.get
    exit.msr = pcpu.report.info_0
    exit.value = (get("rdx") & _MASK32) << 32 | get("rax") & _MASK32


def _number(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.number = pcpu.report.info_0
    exit.value = UNWRITTEN


def _register_write(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.number = pcpu.report.info_0
    value = vcpu.registers.get(GPR[pcpu.report.d_rm])
    exit.value = value if vcpu.mode == 64 else value & _MASK32


def _exception(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.known_length = 0
    report = pcpu.report
    exit.vector, exit.error_code, address = report.info_0, report.info_1, report.info_2
    exit.address = address & _MASK64 if exit.vector == PF else UNWRITTEN


def _hypercall(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.number = vcpu.registers.get("rax")


def _interrupt(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.known_length = 0
    exit.vector = pcpu.report.info_0


def _int_n(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.vector = pcpu.report.info_0


def _svm(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.number = pcpu.report.info_0 - _SVM_FIRST


def _execute(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.known_length = 0
    exit.address = pcpu.report.info_0 & _MASK64


def _fetch(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    """Loads and stores are served in place; only fetches come here."""
    exit.known_length = 0
    exit.gva = vcpu.linear_rip
    exit.gpa = vcpu.translate(exit.gva)
    exit.size, exit.access = 1, "x"


def _address(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.address = pcpu.report.d_ea & _MASK64


def _selector(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.value = read_word(pcpu, vcpu)


def _sldt(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.value = vcpu.ldtr.selector


def _str(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.value = vcpu.tr.selector


def _rdpmc(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.number = vcpu.registers.get("rcx") & _MASK32
    exit.value = UNWRITTEN


def _random(exit: Exit, vcpu: Processor, pcpu: PCpu) -> None:
    exit.size = pcpu.report.d_size
    exit.value = UNWRITTEN


_BY_KIND: dict[K, _Fill] = {
    K.RDTSC: _no_value, K.RDTSCP: _no_value, K.SMSW: _no_value, K.CPUID: _cpuid, K.RDMSR: _rdmsr, K.WRMSR: _wrmsr,
    K.CR_READ: _number, K.DR_READ: _number, K.CR_WRITE: _register_write, K.DR_WRITE: _register_write,
    K.EXCEPTION: _exception, K.HYPERCALL: _hypercall, K.INT_N: _int_n, K.INTERRUPT: _interrupt, K.SVM: _svm,
    K.INVLPG: _address, K.LGDT: _address, K.LIDT: _address, K.SGDT: _address, K.SIDT: _address, K.EXECUTE: _execute,
    K.MEMORY: _fetch, K.LMSW: _selector, K.LLDT: _selector, K.LTR: _selector, K.SLDT: _sldt, K.STR: _str,
    K.RDPMC: _rdpmc, K.RDRAND: _random, K.RDSEED: _random,
}  # fmt: skip
_FILL: list[_Fill | None] = [None] * 128
for _kind in K:
    _FILL[_kind] = _BY_KIND.get(_kind)


def fill(vcpu: Processor, pcpu: PCpu, kind: int) -> Exit:
    """The vCPU's record for exits of this kind, with the fields of this one; results are None."""
    exit = vcpu.exit = vcpu.exits[kind]
    exit.rip = vcpu.registers.rip
    exit.known_length = pcpu.report.d_length
    function = _FILL[kind]
    if function is not None:
        function(exit, vcpu, pcpu)
    return exit
