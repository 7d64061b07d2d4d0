"""What ends a run by itself: a guest that sleeps or spins for ever, or that dies."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hypervisor.arch.flags import CR0_PE, RFLAGS_IF
from hypervisor.arch.vectors import PF, VECTORS
from hypervisor.outcome.result import Fault, Reason
from hypervisor.run.ending.idling import spins
from hypervisor.traps.verdicts import WITH_ERROR

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.machine import Machine
    from hypervisor.vcpu.processor import Processor


class End(NamedTuple):
    """What ended a run: the reason, a sentence, the guest's debug-exit status where there is one, and the exceptions
    that led to a triple fault, oldest first.
    """

    reason: Reason
    message: str
    status: int | None = None
    chain: tuple[Fault, ...] = ()


def of_sleep(vm: Machine) -> End | None:
    """The end of a VM none of whose vCPUs is awake, unless something is left that may wake one."""
    vcpu = vm.current
    if _interrupts_off(vm):
        return End(Reason.HALTED, f"HLT with interrupts off at RIP {vcpu.rip:#x}{_everywhere(vm, vcpu)}")
    return None if _something_comes(vm) else of_silence(vm)


def of_silence(vm: Machine) -> End:
    """The end of a VM none of whose vCPUs is awake, and which nothing will wake."""
    vcpu = vm.current
    return End(Reason.IDLE, f"HLT at RIP {vcpu.rip:#x}, and nothing is left to wake the guest{_everywhere(vm, vcpu)}")


def of_spin(vm: Machine) -> End | None:
    """The end of a VM whose vCPU on the pCPU jumps to itself while no other one has anything else to do, unless
    something is left to interrupt one.
    """
    vcpu = vm.current
    if _something_comes(vm) and not _interrupts_off(vm):  # as nearly always; this looks at none of the guest's code
        return None
    if not spins(vcpu):
        return None
    others = (other for other in vm.vcpus if other is not vcpu)
    if not all(other.waiting or other.halted or spins(other) for other in others):
        return None
    jump = f"a jump to itself{{}} at RIP {vcpu.rip:#x}{{}}{_everywhere(vm, vcpu)}"
    if _interrupts_off(vm):
        return End(Reason.HALTED, jump.format(" with interrupts off", ""))
    if not any(other.intr.level for other in vm.vcpus):
        return End(Reason.IDLE, jump.format("", ", and nothing is left to interrupt it"))
    return None


def of_shutdown(vm: Machine, pcpu: PCpu) -> End:
    """The end by a triple fault, whose exceptions the engine has noted."""
    vcpu = vm.current
    chain = []
    for vector, error, address in pcpu.report.faults():
        chain.append(
            Fault(
                vector,
                error if vector in WITH_ERROR and vcpu.cr0 & CR0_PE else None,
                address & (1 << 64) - 1 if vector == PF else None,
                vcpu.rip,
            )
        )
    names = [VECTORS[f.vector].mnemonic if f.vector in VECTORS else hex(f.vector) for f in chain]
    last = next((event for event in reversed(vm.events()) if event.vector is not None), None)
    if last is not None and not str(last).startswith("#"):  # an interrupt, NMI or INT n
        names[0] = str(last)
    message = f"{_who(vm, vcpu)}triple fault at RIP {vcpu.linear_rip:#x} ({', '.join(names)})"
    return End(Reason.CRASHED, message, chain=tuple(chain))


def of_impossible_state(vm: Machine) -> End:
    """The end by an assertion of the CPU emulator's."""
    return End(
        Reason.CRASHED,
        f"{_who(vm, vm.current)}the guest led the CPU emulator into a state that it holds to be impossible, "
        f"near RIP {vm.current.rip:#x}",
    )


def _interrupts_off(vm: Machine) -> bool:
    for vcpu in vm.vcpus:
        if vcpu.registers.get("rflags") & RFLAGS_IF and not vcpu.waiting:
            return False
    return True


def _something_comes(vm: Machine) -> bool:
    return vm.input_open or vm.pace is not None or vm.clock.timers.next_ns() is not None


def _who(vm: Machine, vcpu: Processor) -> str:
    """The vCPU, where there are several, at the beginning of a sentence."""
    return f"vCPU {vcpu.number}: " if vm.cpus > 1 else ""


def _everywhere(vm: Machine, vcpu: Processor) -> str:
    """What a sentence about the vCPU that was last to run must add where there are several."""
    cpus = vm.cpus
    return "" if cpus == 1 else f" (vCPU {vcpu.number}; none of the {cpus} vCPUs can go on)"


__all__ = ["End", "of_impossible_state", "of_shutdown", "of_silence", "of_sleep", "of_spin"]
