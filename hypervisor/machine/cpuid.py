"""The built-in answer to CPUID: for the engine, and for exits that a handler listens to."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from hypervisor.arch import cpuid
from hypervisor.arch.flags import CR4_OSXSAVE
from hypervisor.core import HANDLED

if TYPE_CHECKING:
    from hypervisor.core import VM, Vcpu


def install(vm: VM) -> None:
    """Describe the processors of a VM whose board is built. Both kinds of CPUID are answered from one table."""
    has_apic = vm.vcpu.apic is not None
    vm.tables.set_cpuid([_rows(vm.cpus, number, has_apic) for number in range(vm.cpus)])
    tables = [cpuid.leaves(vm.cpus, number, apic=has_apic) for number in range(vm.cpus)]

    def answer(vcpu: Vcpu, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        found = cpuid.answer(tables[vcpu.number], leaf, subleaf)
        if leaf == cpuid.LEAF_FEATURES and vcpu.cr4 & CR4_OSXSAVE:
            return found._replace(ecx=found.ecx | cpuid.OSXSAVE)
        return found

    vm.builtin_cpuid = answer
    vm.traps.cpuid(lambda vcpu, exit: HANDLED, name="builtin.cpuid", rank="builtin")


@cache
def _rows(vcpus: int, number: int, apic: bool) -> list[tuple[int, int, int, int, int, int]]:
    """The table as `GuestTables.set_cpuid` takes it."""
    return [
        (leaf, subleaf if leaf in cpuid.SUBLEAVES else -1, *answer)
        for (leaf, subleaf), answer in cpuid.leaves(vcpus, number, apic=apic).items()
    ]
