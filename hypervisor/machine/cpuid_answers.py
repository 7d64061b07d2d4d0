"""The built-in answer to CPUID: for the engine, and for exits that a handler listens to."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from hypervisor.arch import cpuid
from hypervisor.arch.flags import CR4_OSXSAVE
from hypervisor.engine.tables import cpuid_rows
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
    tables = [_table(vm.cpus, vcpu.number, None if vcpu.apic is None else vcpu.apic.enabled) for vcpu in vm.vcpus]
    if all(vcpu.builtin_cpuid is table.answer for vcpu, table in zip(vm.vcpus, tables, strict=True)):
        return  # they have been told
    vm.tables.set_cpuid([table.rows for table in tables])
    for vcpu, table in zip(vm.vcpus, tables, strict=True):
        vcpu.builtin_cpuid = table.answer


class _Table(NamedTuple):
    """One vCPU's answers, for exits, and its table as `GuestTables.set_cpuid` takes it."""

    answer: Callable[[Processor, int, int], cpuid.Answer]
    rows: bytes


@cache
def _table(cpus: int, number: int, apic: bool | None) -> _Table:
    """Of vCPU ``number`` of so many; ``apic`` is whether its local APIC is on, None without one. The same for all VMs,
    so what a vCPU has been told is known by its function.
    """
    table = cpuid.leaves(cpus, number, apic=apic is not None, apic_enabled=apic is not False)

    def answer(vcpu: Processor, leaf: int, subleaf: int) -> cpuid.Answer:
        found = cpuid.answer(table, leaf, subleaf)
        if leaf == cpuid.LEAF_FEATURES and vcpu.cr4 & CR4_OSXSAVE:
            return found._replace(ecx=found.ecx | cpuid.OSXSAVE)
        return found

    rows = [(leaf, subleaf if leaf in cpuid.SUBLEAVES else -1, *found) for (leaf, subleaf), found in table.items()]
    return _Table(answer, cpuid_rows(rows))
