"""What is behind the windows of PCI functions, as the guest moves them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

import hypervisor as hv
from hypervisor.devices.pci import Identity, PciFunction, io_bar, memory_bar
from hypervisor.devices.pci import config_registers as r
from hypervisor.machine import Part
from hypervisor.machine.pci import windows
from hypervisor.vm.board import Parts


@dataclass
class NoState:
    pass


class Echo:
    """A device that reads as the offset."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, offset: int, size: int) -> int:
        return offset & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        pass

    def reset(self) -> None:
        pass

    def state(self) -> NoState:
        return NoState()

    def restore(self, state: NoState) -> None:
        pass


def card(name: str, pin: int = 0) -> PciFunction:
    bars = (io_bar(0, 16, "ports"), memory_bar(1, 0x100000, "memory"), memory_bar(2, 0x1000, "registers"))
    return PciFunction(name, Identity(0x1234, 0x5678, 0x000000, pin=pin), bars=bars)


@pytest.fixture
def vm() -> Iterator[hv.VM]:
    board = hv.pc()
    wire = board.wire

    def wired(vm: hv.VM, parts: Parts) -> None:
        wire(vm, parts)
        for number, name in enumerate(("one", "two")):
            function = parts[name]
            assert isinstance(function, PciFunction)
            parts["pci"].attach(function, 5 + number)
            shown = windows(vm, parts)
            shown.device(function, "ports", Echo(f"{name}-ports"))
            shown.device(function, "registers", Echo(f"{name}-registers"))
            shown.memory(function, "memory", vm.add_memory(None, 0x100000, name))

    for name in ("one", "two"):
        board = board.with_part(Part(name, lambda vm, parts, name=name: card(name)))  # type: ignore[misc]
    with hv.Host("16M").create_vm(memory="4M", board=replace(board, wire=wired)) as vm:
        yield vm


def place(vm: hv.VM, name: str, index: int, address: int) -> None:
    function = vm.devices[name]
    function.write(r.COMMAND, 2, 3)
    function.write(r.BASE_ADDRESS + 4 * index, 4, address)


def who(vm: hv.VM, port: int) -> str | None:
    found = vm.ports.find(port)
    return None if found is None else f"{found.device.name}+{port - found.base}"


def test_the_board_assigns_every_window_a_place_of_its_own(vm: hv.VM) -> None:
    places = [vm.devices[name].places for name in ("one", "two")]
    taken = [place[window] for place in places for window in ("memory", "registers")]
    assert None not in taken
    assert len({*taken}) == 4
    assert places[0]["ports"] != places[1]["ports"]
    assert who(vm, places[0]["ports"] + 3) == "one-ports+3"


def test_ports_follow_their_window(vm: hv.VM) -> None:
    place(vm, "one", 0, 0x5000)
    assert [who(vm, port) for port in (0x4FFF, 0x5000, 0x500F, 0x5010)] == [None, "one-ports+0", "one-ports+15", None]
    place(vm, "one", 0, 0x6000)
    assert who(vm, 0x5000) is None
    vm.devices["one"].write(r.COMMAND, 2, 0)
    assert who(vm, 0x6000) is None


def test_the_boards_own_ports_stay_with_it(vm: hv.VM) -> None:
    place(vm, "one", 0, 0x60)
    assert [who(vm, port) for port in (0x60, 0x61, 0x62, 0x64, 0x6F)] == [
        "i8042+0", "port61+0", "one-ports+2", "i8042+1", "one-ports+15",
    ]  # fmt: skip
    place(vm, "one", 0, 0x5000)
    assert who(vm, 0x62) is None
    assert who(vm, 0x60) == "i8042+0"


def test_of_two_windows_in_one_place_the_first_shows(vm: hv.VM) -> None:
    place(vm, "one", 0, 0x5000)
    place(vm, "two", 0, 0x5000)
    assert who(vm, 0x5000) == "one-ports+0"
    place(vm, "one", 0, 0x7000)
    assert who(vm, 0x5000) == "two-ports+0"


def test_memory_follows_its_window(vm: hv.VM) -> None:
    place(vm, "one", 1, 0xE0000000)
    vm.memory.write(0xE0000010, b"here")
    assert vm.memory.read(0xE0000010, 4) == b"here"
    place(vm, "one", 1, 0xD0000000)
    assert vm.memory.read(0xE0000010, 4) == b"\xff" * 4
    assert vm.memory.read(0xD0000010, 4) == b"here"


def test_ram_stays_where_it_is(vm: hv.VM) -> None:
    vm.memory.write(0x300000, b"ram")
    place(vm, "one", 1, 0x300000)
    assert vm.memory.read(0x300000, 3) == b"ram"
    place(vm, "one", 2, 0x200000)
    vm.memory.write(0x200000, b"ram")
    assert vm.memory.read(0x200000, 3) == b"ram"


def test_a_window_anywhere_is_borne(vm: hv.VM) -> None:
    for address in (0, 0xFFFFFFFF, 0xFFF00000, 0xFFE00000, 0x10, 0xFEE00000, 0xA0000):
        for index in range(3):
            place(vm, "one", index, address)
    vm.reset()
    assert vm.devices["one"].places["memory"] is not None


@pytest.mark.parametrize(("device", "irq"), [("one", 10), ("two", 10), ("three", 11)])
def test_interrupts_reach_the_controller_by_the_routed_wire(device: str, irq: int) -> None:
    """INTA# of slots 5, 6 and 7 is on wires A, B and C."""
    board = hv.pc()
    wire = board.wire
    functions = {name: card(name, pin=1) for name in ("one", "two", "three")}

    def wired(vm: hv.VM, parts: Parts) -> None:
        wire(vm, parts)
        for slot, function in enumerate(functions.values(), 5):
            parts["pci"].attach(function, slot)

    with hv.Host("8M").create_vm(memory="4M", board=replace(board, wire=wired)) as vm:
        function, line = functions[device], vm.irq_line(irq)
        assert function.read(r.INTERRUPT_LINE, 1) == irq
        function.intx.raise_()
        assert line.level
        function.write(r.COMMAND, 2, r.COMMAND_NO_INTX)
        assert not line.level
        function.write(r.COMMAND, 2, 0)
        other = functions["two" if device == "one" else "one"]
        other.intx.raise_()
        function.intx.lower()
        assert line.level is (irq == 10)  # shared with another slot
        other.intx.lower()
        assert not line.level
