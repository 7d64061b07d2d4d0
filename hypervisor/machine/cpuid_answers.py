"""The built-in answer to CPUID: for the engine, and for exits that a handler listens to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch import cpuid
from hypervisor.arch.flags import CR4_OSXSAVE
from hypervisor.traps.verdicts import HANDLED

if TYPE_CHECKING:
    from hypervisor.vcpu.processor import Processor
    from hypervisor.vm.vm import VM


def install(vm: VM) -> None:
    """Describe the processors of a VM whose board is built. Both kinds of CPUID are answered from one table."""

    def answer(vcpu: Processor, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        found = cpuid.answer(_table(vcpu, vm.cpus), leaf, subleaf)
        if leaf == cpuid.LEAF_FEATURES and vcpu.cr4 & CR4_OSXSAVE:
            return found._replace(ecx=found.ecx | cpuid.OSXSAVE)
        return found

    tell_engine(vm)
    for vcpu in vm.vcpus:
        vcpu.builtin_cpuid = answer
    vm.traps.cpuid(lambda vcpu, exit: HANDLED, name="builtin.cpuid", rank="builtin")
    for told in (vm.on_reset, vm.on_restore):
        told.append(lambda: tell_engine(vm))


def tell_engine(vm: VM) -> None:
    """Give the engine each vCPU's table, as it is now: a guest has switched a local APIC on or off."""
    vm.tables.set_cpuid([_rows(_table(vcpu, vm.cpus)) for vcpu in vm.vcpus])


def _table(vcpu: Processor, cpus: int) -> cpuid.Table:
    apic = None if vcpu.apic is None else vcpu.apic.enabled
    return cpuid.leaves(cpus, vcpu.number, apic=apic is not None, apic_enabled=apic is not False)


def _rows(table: cpuid.Table) -> list[tuple[int, int, int, int, int, int]]:
    """The table as `GuestTables.set_cpuid` takes it."""
    return [(leaf, subleaf if leaf in cpuid.SUBLEAVES else -1, *answer) for (leaf, subleaf), answer in table.items()]
