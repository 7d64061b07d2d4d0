"""The PCI part of the board: which functions there are, and what their windows show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch.address_map import PCI_HOLE
from hypervisor.bus import AddressSpace, Device, Line, Mapping, SharedLine
from hypervisor.devices.pci import PciBus, PciFunction, Space, piix
from hypervisor.devices.pci.i440fx import I440Fx
from hypervisor.devices.power_ports import ResetControl
from hypervisor.vm.board import Part, Parts

if TYPE_CHECKING:
    from hypervisor.vm.device_memory import MemoryBlock
    from hypervisor.vm.vm import VM


class Windows:
    """What is behind the windows of PCI functions, mapped wherever the guest places them.

    Ports and addresses that the board gave to another device stay with it, and of two windows in one place the one
    shows that the board has wired first: it follows from the registers, not from the order in which they were written.
    """

    def __init__(self, vm: VM) -> None:
        self._vm = vm
        self._windows: list[tuple[AddressSpace, Device, int]] = []
        self._places: list[int | None] = []
        self._beneath: list[tuple[AddressSpace, Device, int, int]] = []
        self._mapped: list[tuple[AddressSpace, Mapping]] = []

    def beneath(self, device: Device, ports: range) -> None:
        """Let ``device`` answer at these ports while no window is there."""
        self._beneath.append((self._vm.ports, device, ports.start, len(ports)))
        self._vm.ports.follow(self._rebuild)

    def device(self, function: PciFunction, window: str, device: Device) -> None:
        """Let ``device`` answer in this window, at offsets from its start."""
        size, space = function.windows[window].size, function.windows[window].space
        where = self._vm.ports if space is Space.IO else self._vm.mmio
        number = len(self._windows)
        self._windows.append((where, device, size))
        self._places.append(None)

        def move(address: int | None) -> None:
            self._places[number] = address
            self._vm.ports.follow(self._rebuild)

        function.on_move(window, move)

    def memory(self, function: PciFunction, window: str, block: MemoryBlock) -> None:
        """Let a block of memory show in this window, above RAM: the host bridge keeps addresses of RAM to itself."""
        top = min(self._vm.memory.size, PCI_HOLE)

        def move(address: int | None) -> None:
            block.unmap()
            if address is not None and address + block.size > top:
                beneath = max(top - address, 0)
                block.map(address + beneath, beneath)

        function.on_move(window, move)

    def _rebuild(self) -> None:
        for space, mapping in self._mapped:
            space.remove(mapping)
        self._mapped = []
        placed = [
            (space, device, address, size)
            for (space, device, size), address in zip(self._windows, self._places, strict=True)
            if address is not None
        ]
        for space, device, address, size in (*placed, *self._beneath):
            self._show(space, device, address, size)

    def _show(self, space: AddressSpace, device: Device, address: int, size: int) -> None:
        """Map it where nothing else is."""
        start, end = address, min(address + size, space.limit)
        for taken in space.overlapping(range(start, end)):
            self._map(space, device, start, taken.start, address)
            start = taken.end
        self._map(space, device, start, end, address)

    def _map(self, space: AddressSpace, device: Device, start: int, end: int, base: int) -> None:
        if start < end:
            self._mapped.append((space, space.attach(device, range(start, end), base=base)))


def windows(vm: VM, parts: Parts) -> Windows:
    """The board's windows: one collection for each VM, made when it is first asked for."""
    return parts.once("windows", Windows, lambda: Windows(vm))


def shared_irq(vm: VM, parts: Parts, irq: int) -> SharedLine:
    """The interrupt line of this number, for one driver of several: `tap` it."""
    return parts.once(f"irq{irq}", SharedLine, lambda: SharedLine(vm.irq_line(irq)))


def wire(vm: VM, parts: Parts) -> None:
    """Put the functions into their slots, and lead the interrupt wires through the ISA bridge."""
    bus, bridge = parts.get("pci", PciBus), parts.get("piix3", piix.Piix3)
    if bus is None:
        return
    for name, (device, number) in parts.slots.items():
        bus.attach(parts.need(name, PciFunction), device, number)
    if bridge is not None:
        taps: dict[int, Line] = {}

        def drive(irq: int, level: bool) -> None:
            if irq not in taps:
                taps[irq] = shared_irq(vm, parts, irq).tap()
            taps[irq].set(level)

        bridge.irq = drive


def _bus(vm: VM, parts: Parts) -> PciBus:
    bridge, reset = parts.get("piix3", piix.Piix3), parts.get("cf9", ResetControl)
    return PciBus(reset, bridge.wire) if bridge is not None else PciBus(reset)


PARTS = (
    Part("i440fx", lambda vm, _: I440Fx(), slot=(0, 0)),
    Part("piix3", lambda vm, _: piix.Piix3(), slot=(1, 0)),
    Part("piix3-ide", lambda vm, _: piix.ide(), slot=(1, 1)),
    Part("piix4-pm", lambda vm, _: piix.power_management(), slot=(1, 3)),
    Part("pci", _bus, ((range(0xCF8, 0xD00), 0xCF8),)),
)
"""The parts of the board that make its PCI bus, in the slots where QEMU has them. ``cf9`` comes before them, and is
reached through ``pci``.
"""
