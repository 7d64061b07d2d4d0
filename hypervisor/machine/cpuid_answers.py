"""The built-in answer to CPUID: for the engine, and for exits that a handler listens to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.arch import cpuid
from hypervisor.arch.flags import CR4_OSXSAVE
from hypervisor.traps.verdicts import HANDLED

if TYPE_CHECKING:
    from hypervisor.vcpu.processor import Processor
    from hypervisor.vm.vm import VM


def install(vm: VM) -> None:
    """Describe the processors of a VM whose board is built. Both kinds of CPUID are answered from one table."""
    tell(vm)
    vm.traps.cpuid(lambda vcpu, exit: HANDLED, name="builtin.cpuid", rank="builtin")
    for told in (vm.on_reset, vm.on_restore):
        told.append(lambda: tell(vm))


def tell(vm: VM) -> None:
    """Give the engine and each vCPU the table as it is now: a guest has switched a local APIC on or off."""
    tables = [_table(vcpu, vm.cpus) for vcpu in vm.vcpus]
    vm.tables.set_cpuid([_rows(table) for table in tables])
    for vcpu, table in zip(vm.vcpus, tables, strict=True):
        vcpu.builtin_cpuid = _answers(table)


def _answers(table: cpuid.Table) -> Callable[[Processor, int, int], cpuid.Answer]:
    def answer(vcpu: Processor, leaf: int, subleaf: int) -> cpuid.Answer:
        found = cpuid.answer(table, leaf, subleaf)
        if leaf == cpuid.LEAF_FEATURES and vcpu.cr4 & CR4_OSXSAVE:
            return found._replace(ecx=found.ecx | cpuid.OSXSAVE)
        return found

    return answer


def _table(vcpu: Processor, cpus: int) -> cpuid.Table:
    apic = None if vcpu.apic is None else vcpu.apic.enabled
    return cpuid.leaves(cpus, vcpu.number, apic=apic is not None, apic_enabled=apic is not False)


def _rows(table: cpuid.Table) -> list[tuple[int, int, int, int, int, int]]:
    """The table as `GuestTables.set_cpuid` takes it."""
    return [(leaf, subleaf if leaf in cpuid.SUBLEAVES else -1, *answer) for (leaf, subleaf), answer in table.items()]
