"""The board's interrupt wiring around APICs: a local APIC for each vCPU, an I/O APIC beside the 8259 pair.

As on every PC with both, each interrupt line leads to the 8259 pair and to the I/O APIC (IRQ 0 to pin 2 there), and the
8259's output leads to LINT0 of the local APICs and to pin 0 of the I/O APIC.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hypervisor.arch import apic_registers as r
from hypervisor.arch import msr
from hypervisor.arch.apic_registers import Mode
from hypervisor.devices.apic_bus import ApicBus
from hypervisor.devices.i8259 import CASCADE, I8259Pair
from hypervisor.devices.ioapic import IoApic
from hypervisor.devices.local_apic import SIZE, LocalApic, LocalApicState, Pins
from hypervisor.devices.parts.apic_state import check
from hypervisor.errors import DeviceError
from hypervisor.machine.apic_base import ApicBase, place
from hypervisor.state import record, several
from hypervisor.vm.board import Part, Parts
from hypervisor.vm.config import MAX_CPUS

if TYPE_CHECKING:
    from hypervisor.vm.vcpu import Vcpu
    from hypervisor.vm.vm import VM

LOCAL_APIC = msr.APIC_BASE_RESET
IO_APIC = 0xFEC00000
IO_APIC_ID = 0
ISA_LINES = [irq for irq in range(16) if irq != CASCADE]
PIC_PIN, TIMER_PIN = 0, 2
"""Pins of the I/O APIC for the 8259's output and for IRQ 0; the other ISA interrupts have their own number."""

VIRTUAL_WIRE = (
    (r.SVR, r.SVR_ENABLE | 0xFF),  # the spurious interrupt has vector 255
    (r.LVT_LINT0, r.LEVEL | Mode.EXTINT << r.MODE_SHIFT),
    (r.LVT_LINT1, r.LEVEL | Mode.NMI << r.MODE_SHIFT),
)
"""How firmware leaves the local APIC of the first processor (MultiProcessor Specification 1.4, 3.6.2.2)."""


@record
class LocalApicsState:
    """The states of all local APICs, by vCPU."""

    apics: list[LocalApicState] = several(LocalApicState, MAX_CPUS)


class LocalApics:
    """The local APICs of a VM as one device: each vCPU sees its own at the same addresses."""

    name = "lapic"

    def __init__(self, vm: VM, pic: I8259Pair | None) -> None:
        self._vm = vm
        self._turns = vm.turns
        self.bus = ApicBus()
        self.apics = [self._make(vcpu, pic) for vcpu in vm.vcpus]

    def _make(self, vcpu: Vcpu, pic: I8259Pair | None) -> LocalApic:
        pins = Pins(vcpu.intr, vcpu.nmi, vcpu.init, vcpu.startup)
        name = f"lapic{vcpu.number}"
        clock = self._vm.clock
        return LocalApic(pins, clock, self.bus, vcpu.number, bootstrap=not vcpu.number, external=pic, name=name)

    def read(self, offset: int, size: int) -> int:
        """The vCPU that runs reads its own APIC."""
        return self.apics[self._turns.current.number].read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """The vCPU that runs writes its own APIC."""
        self.apics[self._turns.current.number].write(offset, size, value)

    def reset(self) -> None:
        """Power-on state of each, at the usual address."""
        for apic in self.apics:
            apic.reset()

    def state(self) -> LocalApicsState:
        """A copy of all mutable state."""
        return LocalApicsState([apic.state() for apic in self.apics])

    def is_still(self, state: LocalApicsState) -> bool:
        """See `hypervisor.state.InRecord`."""
        return len(state.apics) == len(self.apics) and all(
            apic.likeness.holds(apic.page, one) for apic, one in zip(self.apics, state.apics, strict=True)
        )

    def restore(self, state: LocalApicsState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        if not isinstance(state, LocalApicsState) or len(state.apics) != len(self.apics):
            raise DeviceError(f"{self.name}: this is not a state of {len(self.apics)} local APICs; use state().")
        for apic, one in zip(self.apics, state.apics, strict=True):
            check(apic.name, one)
        for apic, one in zip(self.apics, state.apics, strict=True):
            apic.take(one)


def wire(vm: VM, parts: Parts) -> None:
    """Connect the interrupt controllers that the board has with each other and with the vCPUs."""
    pic, apics = parts.get("pic", I8259Pair), parts.get("lapic", LocalApics)
    if pic is not None:
        vm.irq_lines = pic.line
    if apics is None:
        if pic is not None:
            vm.vcpu.interrupt_controller = pic
            pic.intr.fork(vm.vcpu.intr.set)
        return
    for vcpu, apic in zip(vm.vcpus, apics.apics, strict=True):
        vcpu.apic = ApicBase(vm, apics, apic)
        vcpu.interrupt_controller = apic
        serve = partial(vcpu.state.serve_apic, apic.page)
        serve()
        vm.on_cast.append(serve)
        if pic is not None:
            pic.intr.fork(apic.lint0)
    place(vm, apics)
    for told in (vm.on_reset, vm.on_restore):
        told.append(lambda: place(vm, apics))


def set_up(parts: Parts) -> None:
    """Do what firmware does to the APICs of a board that has just been reset; one without them is left alone."""
    apics = parts.get("lapic", LocalApics)
    if apics is not None:
        for offset, value in VIRTUAL_WIRE:
            apics.apics[0].write(offset, 4, value)


def _io_apic(vm: VM, parts: Parts) -> IoApic:
    """The I/O APIC. The wires are led to it when the guest first uses it: others pay nothing for it."""
    pic, apics = parts.get("pic", I8259Pair), parts.get("lapic", LocalApics)

    def connect() -> None:
        if pic is not None:
            wires = {irq or TIMER_PIN: pic.line(irq) for irq in ISA_LINES} | {PIC_PIN: pic.intr}
            drive = made.drive
            for pin, wire in wires.items():
                drive(pin, False)
                wire.fork(partial(drive, pin))  # which tells of a wire that is high

    made = IoApic(ApicBus() if apics is None else apics.bus, connect)
    return made


PARTS = (
    Part(
        "lapic",
        lambda vm, p: LocalApics(vm, p.get("pic", I8259Pair)),
        mmio=((range(LOCAL_APIC, LOCAL_APIC + SIZE), LOCAL_APIC),),
    ),
    Part("ioapic", _io_apic, mmio=((range(IO_APIC, IO_APIC + SIZE), IO_APIC),)),
)
"""The parts of the board that make its APICs; ``pic`` comes before them."""
