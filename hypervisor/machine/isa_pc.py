"""The first board: a PC of the ISA age, as toy kernels, boot sectors and Linux with ``noapic`` know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypervisor.devices.debug_ports import DebugConsole, DebugExit, PostPort
from hypervisor.devices.i8042 import I8042
from hypervisor.devices.i8254 import I8254
from hypervisor.devices.i8259 import I8259Pair
from hypervisor.devices.mc146818 import Mc146818
from hypervisor.devices.port61 import Port61
from hypervisor.devices.power_ports import POWER_OFF_PORTS, Port92, PowerOffPort, ResetControl
from hypervisor.devices.uart16550 import Uart16550
from hypervisor.devices.vga_text import VgaText
from hypervisor.machine import pci
from hypervisor.machine.board import Board, Part
from hypervisor.machine.console import GuestConsole

if TYPE_CHECKING:
    from hypervisor.core import VM


class A20:
    """Address line 20 has two drivers on a PC: it passes when either lets it. Both loaders and firmware leave it on."""

    def __init__(self, vm: VM) -> None:
        self._vm = vm
        self._levels = {"keyboard": True, "port92": False}

    def drive(self, who: str, on: bool) -> None:
        """One of the drivers changes."""
        self._levels[who] = on
        self._vm.set_a20(any(self._levels.values()))


def _at(start: int, count: int, base: int | None = None) -> tuple[range, int]:
    return range(start, start + count), start if base is None else base


def _console(vm: VM) -> GuestConsole:
    if vm.console is None:
        vm.console = GuestConsole(vm)
    return vm.console  # type: ignore[no-any-return]


def _a20(vm: VM, parts: dict[str, Any]) -> A20:
    if "a20" not in parts:
        parts["a20"] = A20(vm)
    return parts["a20"]  # type: ignore[no-any-return]


def _wire(vm: VM, parts: dict[str, Any]) -> None:
    pic = parts.get("pic")
    if pic is not None:
        vm.interrupt_controller = pic
        vm.irq_lines = pic.line
    uart = parts.get("uart0")
    if uart is not None:
        _console(vm).connect(uart)
    pci.wire(vm, parts)


PC = Board(
    "pc",
    (
        Part("pic", lambda vm, _: I8259Pair(vm.intr), (_at(0x20, 2), _at(0xA0, 2, 0x9E), _at(0x4D0, 2, 0x4CC))),
        Part("pit", lambda vm, p: I8254(p["pic"].line(0), vm.clock), (_at(0x40, 4),)),
        Part("port61", lambda vm, p: Port61(p["pit"], vm.clock), (_at(0x61, 1),)),
        Part(
            "i8042",
            lambda vm, p: I8042(
                p["pic"].line(1), p["pic"].line(12), lambda on: _a20(vm, p).drive("keyboard", on), vm.request_reset
            ),
            (_at(0x60, 1), _at(0x64, 1, 0x63)),
        ),
        Part("rtc", lambda vm, p: Mc146818(p["pic"].line(8), vm.clock, vm.memory.size), (_at(0x70, 2),)),
        Part("post", lambda vm, _: PostPort(), (_at(0x80, 1),)),
        Part(
            "port92",
            lambda vm, p: Port92(lambda on: _a20(vm, p).drive("port92", on), vm.request_reset),
            (_at(0x92, 1),),
        ),
        Part("debugcon", lambda vm, _: DebugConsole(_console(vm).write), (_at(0xE9, 1),)),
        Part("debugexit", lambda vm, _: DebugExit(vm.debug_exit), (_at(0xF4, 4),)),
        Part("vga", lambda vm, _: VgaText(vm.memory, vm.clock), (_at(0x3C0, 32),)),
        Part("uart0", lambda vm, p: Uart16550(p["pic"].line(4), vm.clock, _console(vm).write), (_at(0x3F8, 8),)),
        Part("cf9", lambda vm, _: ResetControl(vm.request_reset)),
        *pci.PARTS,
        *(
            Part(f"poweroff{port:x}", lambda vm, _, word=word: PowerOffPort(vm.power_off, word), (_at(port, 2),))  # type: ignore[misc]
            for port, word in POWER_OFF_PORTS.items()
        ),
    ),
    _wire,
)
"""The board that `boot` uses."""


def pc() -> Board:
    """The first board, to be taken apart and extended."""
    return PC
