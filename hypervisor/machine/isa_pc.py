"""The first board: a PC as toy kernels, boot sectors and Linux know it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hypervisor.arch.address_map import PCI_HOLE
from hypervisor.bus import Line, SharedLine
from hypervisor.console.keyboard import Keyboard
from hypervisor.console.mouse import Mouse
from hypervisor.console.speaker import Speaker
from hypervisor.console.streams import Stream
from hypervisor.devices.debug_ports import DebugConsole, DebugExit, PostPort
from hypervisor.devices.i8042 import I8042
from hypervisor.devices.i8254 import I8254
from hypervisor.devices.i8259 import I8259Pair
from hypervisor.devices.mc146818 import Mc146818
from hypervisor.devices.port61 import Port61
from hypervisor.devices.power_ports import POWER_OFF_PORTS, Port92, PowerOffPort, ResetControl
from hypervisor.devices.uart16550 import Uart16550
from hypervisor.machine import acpi, apic, board_streams, drives, hpet_part, pci, vga
from hypervisor.vm.board import Board, Part, Parts

if TYPE_CHECKING:
    from hypervisor.vm.vm import VM


COM_PORTS = ((0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3))
"""First I/O port and interrupt of each serial port, COM1 to COM4 (IBM PC AT Technical Reference; by custom for the
last two).
"""


def _at(start: int, count: int, base: int | None = None) -> tuple[range, int]:
    return range(start, start + count), start if base is None else base


def _debugcon(vm: VM) -> Stream:
    made = vm.debugcon = board_streams.stream(vm, "the debug console", shown=True)
    return made


def _rtc(vm: VM, parts: Parts) -> Mc146818:
    low = min(vm.memory.size, PCI_HOLE)
    rtc = Mc146818(hpet_part.legacy_line(parts, 8), vm.clock, low, above_4g=vm.memory.size - low)
    rtc.preset(drives.cmos(vm.media.floppies))
    return rtc


def _uart(vm: VM, parts: Parts, number: int, irq: int) -> Uart16550:
    """A serial port. COM1 and COM3 share an interrupt, and so do COM2 and COM4; the user sees COM1 only."""
    pic = parts.need("pic", I8259Pair)
    line = parts.once(f"irq{irq}", SharedLine, lambda: SharedLine(pic.line(irq)))
    port = board_streams.serial(vm, number, shown=number == 0)
    return Uart16550(line.tap(), vm.clock, port.write, f"uart{number}")


def _power_off(vm: VM, parts: Parts, port: int, word: int) -> PowerOffPort:
    """A port of older emulators, where this board has nothing unless firmware puts a window there, as OVMF does."""
    made = PowerOffPort(vm.power_off, word)
    pci.windows(vm, parts).beneath(made, range(port, port + 2))
    return made


def _keyboard_controller(vm: VM, pic: I8259Pair) -> I8042:
    return I8042(pic.line(1), pic.line(12), vm.set_a20, vm.request_reset)


def _wire(vm: VM, parts: Parts) -> None:
    apic.wire(vm, parts)
    for number, port in vm.serial.items():
        uart = parts.get(f"uart{number}", Uart16550)
        if uart is not None:
            port.connect(uart)
    _wire_people(vm, parts)
    vm.bios_tty = board_streams.stream(vm, "the BIOS teletype", shown=True)
    pci.wire(vm, parts)
    vga.wire(vm, parts)
    acpi.wire(vm, parts)


def _wire_people(vm: VM, parts: Parts) -> None:
    """The keyboard, the mouse and the speaker: what a person at the machine touches and hears."""
    controller, port61 = parts.get("i8042", I8042), parts.get("port61", Port61)
    if controller is not None:
        keyboard, mouse = Keyboard(vm, controller), Mouse(vm, controller)
        vm.keyboard, vm.mouse = keyboard, mouse
        for person in (keyboard, mouse):
            controller.when_taken(person.taken)
    if port61 is not None:
        vm.speaker = Speaker(vm)
        port61.play = vm.speaker.play


PC = Board(
    "pc",
    (
        Part("pic", lambda vm, _: I8259Pair(Line("INT")), (_at(0x20, 2), _at(0xA0, 2, 0x9E), _at(0x4D0, 2, 0x4CC))),
        *apic.PARTS,
        *hpet_part.PARTS,
        Part("pit", lambda vm, p: I8254(hpet_part.legacy_line(p, 0), vm.clock), (_at(0x40, 4),)),
        Part("port61", lambda vm, p: Port61(p.need("pit", I8254), vm.clock), (_at(0x61, 1),)),
        Part(
            "i8042",
            # Address line 20 is what the keyboard controller or port 92h said last, as in QEMU and Bochs.
            lambda vm, p: _keyboard_controller(vm, p.need("pic", I8259Pair)),
            (_at(0x60, 1), _at(0x64, 1, 0x63)),
        ),
        Part("rtc", _rtc, (_at(0x70, 2),)),
        Part("post", lambda vm, _: PostPort(), (_at(0x80, 1),)),
        Part("port92", lambda vm, _: Port92(vm.set_a20, vm.request_reset), (_at(0x92, 1),)),
        Part("debugcon", lambda vm, _: DebugConsole(_debugcon(vm).write), (_at(0xE9, 1),)),
        Part("debugexit", lambda vm, _: DebugExit(vm.debug_exit), (_at(0xF4, 4),)),
        *vga.PARTS,
        *(
            Part(f"uart{n}", partial(_uart, number=n, irq=irq), (_at(port, 8),))
            for n, (port, irq) in enumerate(COM_PORTS)
        ),
        Part("cf9", lambda vm, _: ResetControl(vm.request_reset)),
        *pci.PARTS,
        *acpi.PARTS,
        *drives.PARTS,
        *(
            Part(f"poweroff{port:x}", partial(_power_off, port=port, word=word))
            for port, word in POWER_OFF_PORTS.items()
        ),
    ),
    _wire,
)
"""The board that `boot` uses."""


def pc() -> Board:
    """The first board, to be taken apart and extended."""
    return PC
