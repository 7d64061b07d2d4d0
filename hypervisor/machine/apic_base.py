"""Where the local APICs are: the MSR APIC_BASE, CR8 and x2APIC mode's MSRs, on the board's side.

Source: Intel SDM volume 3A, 10.4.3 "Enabling or Disabling the Local APIC", 10.4.5 "Relocating the Local APIC
Registers".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch import msr
from hypervisor.bus import Device
from hypervisor.devices.local_apic import SIZE, LocalApic
from hypervisor.devices.parts.x2apic import X2Apic
from hypervisor.machine import cpuid_answers

if TYPE_CHECKING:
    from hypervisor.vm.vm import VM


class ApicBase:
    """A vCPU's way to its local APIC: a `hypervisor.bus.ApicPort`."""

    def __init__(self, vm: VM, apics: Device, apic: LocalApic) -> None:
        self._vm, self._apics, self._apic = vm, apics, apic

    @property
    def task_class(self) -> int:
        """CR8."""
        return self._apic.task_class

    @task_class.setter
    def task_class(self, value: int) -> None:
        self._apic.task_class = value

    @property
    def enabled(self) -> bool:
        """Whether the MSR enables the APIC."""
        return self._apic.enabled

    @property
    def msrs(self) -> X2Apic:
        """The registers of x2APIC mode."""
        return self._apic.msrs

    def set_base(self, value: int) -> None:
        """The MSR has this value now."""
        self._apic.switch(bool(value & msr.APIC_BASE_ENABLE), bool(value & msr.APIC_BASE_X2APIC))
        place(self._vm, self._apics)
        cpuid_answers.tell(self._vm)


def place(vm: VM, apics: Device) -> None:
    """Show the local APICs where the vCPUs' MSRs say.

    The page shows at every address that one of the vCPUs has chosen, and each sees its own APIC there. Over memory it
    hides the memory; where the board has another device, that one stays.
    """
    pages = {vcpu.msr[msr.APIC_BASE] & msr.APIC_BASE_ADDRESS for vcpu in vm.vcpus}
    _show(vm, apics, pages)
    at = [mapping.start for mapping in vm.mmio if mapping.device is apics]
    vm.serve_apics_at(at[0] if len(at) == len(pages) == 1 else -1)


def _show(vm: VM, apics: Device, pages: set[int]) -> None:
    shown = [mapping for mapping in vm.mmio if mapping.device is apics]
    if {mapping.start for mapping in shown} == pages:
        return
    for mapping in shown:
        vm.mmio.remove(mapping)
        if _memory_there(vm, mapping.start):
            vm.show_memory(range(mapping.start, mapping.end))
    for page in sorted(pages):
        where = range(page, page + SIZE)
        if not vm.mmio.overlapping(where):
            vm.mmio.attach(apics, where)
            if _memory_there(vm, page):
                vm.hide_memory(where)


def _memory_there(vm: VM, page: int) -> bool:
    """Whether the VM has RAM at this address, seen or hidden."""
    return any(low <= page < high for low, high in vm.memory.ram_ranges)
