"""A PC BIOS in trap handlers: enough for boot sectors.

`install` writes the interrupt vectors, the ROM's stubs (`rom`) and the BIOS data area (`bda`) and registers
one hypercall handler. Each stub is a hypercall whose *address* names the interrupt, so the handler needs no register
of the caller; hypercalls from elsewhere are passed on.

Blocking calls (INT 16h AH=00h, INT 15h AH=86h) never block the host: the handler sets the live CF, the stub then does
STI and HLT and calls again after the next interrupt. Hardware interrupts (timer, keyboard, RTC) are machine code in
the ROM.

What is served is declared by the methods that serve it (`service`) and listed in docs/bios.md. Everything else
returns CF = 1 and AH = 86h ("function not supported", as INT 15h says it) and is named once, in the log and in the VM's
notes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from hypervisor.arch.flags import CR0_PE, RFLAGS_CF, RFLAGS_OF, RFLAGS_VM
from hypervisor.bus import Dma
from hypervisor.errors import GuestFault
from hypervisor.firmware.bios.apm import Apm
from hypervisor.firmware.bios.bda import Bda
from hypervisor.firmware.bios.bios_record import BiosPart, KeyQueuePart
from hypervisor.firmware.bios.bootstrap import Boot
from hypervisor.firmware.bios.call import (
    AGAIN,
    DONE,
    POLL_NS,
    POLLED,
    UNSERVED,
    WAIT,
    Call,
    FarCall,
    Outcome,
    Ports,
    Stop,
    Vm,
)
from hypervisor.firmware.bios.disk.disk_services import Disk
from hypervisor.firmware.bios.disk.drive_numbers import Drives
from hypervisor.firmware.bios.input.keyboard_services import Keyboard
from hypervisor.firmware.bios.input.typeahead import KeyQueue
from hypervisor.firmware.bios.meter import CALL_NS, Meter, MeteredMemory, MeteredPorts
from hypervisor.firmware.bios.pci_bios import PciBios
from hypervisor.firmware.bios.rom import APM_ENTRY, BASE, KEYBOARD_CALL, PORT_WRITES, RESET, install_rom, vector_of
from hypervisor.firmware.bios.serial import Serial
from hypervisor.firmware.bios.service import Services
from hypervisor.firmware.bios.system import System
from hypervisor.firmware.bios.time_of_day import Time
from hypervisor.firmware.bios.video import video_rom
from hypervisor.firmware.bios.video.colours import Palette
from hypervisor.firmware.bios.video.display_adapter import Adapter
from hypervisor.firmware.bios.video.fonts import Fonts
from hypervisor.firmware.bios.video.vbe import Vbe
from hypervisor.firmware.bios.video.vbe_display import VbeDisplay
from hypervisor.firmware.bios.video.video import Video
from hypervisor.traps.verdicts import HANDLED, PASS, RETRY, stop
from hypervisor.vm.media import DEFAULT_ORDER

_warn = logging.getLogger("hypervisor.bios").warning

NOT_SUPPORTED = 0x86
MAX_NOTES = 1000
"""Different calls that are named; a guest that tries more has been heard."""

FATAL = {
    0x00: "a divide error",
    0x06: "an invalid opcode",
    0x07: "a missing coprocessor",
    0x0C: "a stack fault",
    0x0D: "a general protection fault",
}
"""Exceptions that return to the instruction that caused them: an IRET from the BIOS would repeat them for ever."""

QUIET = range(0x00, 0x08)
"""Exceptions that a BIOS ignores (single step, breakpoint, overflow, NMI, print screen)."""


class Bios:
    """The services of one VM, and the handler that finds the right one.

    The state is in guest memory, except for what is written to the disk, and the wait or the string in progress.
    """

    def __init__(
        self,
        vm: Vm,
        drives: Drives,
        keys: KeyQueue,
        tty: Callable[[bytes], None],
        memory_map: Sequence[tuple[int, int, int]],
        ports: Ports | None,
        text: Dma,
        log: Callable[[str], None],
        boot_order: str = DEFAULT_ORDER,
    ) -> None:
        self.vm = vm
        self.meter = meter = Meter()
        memory, text = MeteredMemory(vm.dma, meter), MeteredMemory(text, meter)
        ports = MeteredPorts(ports, meter) if ports is not None else None
        self.area = Bda(memory)
        self.video = Video(self.area, text, tty, Adapter(memory, ports))
        self.vbe = Vbe(self.video)
        self.disk = Disk(self.area, drives, meter)
        self.boot = Boot(vm.dma, drives, boot_order)
        self.system = System(vm, self.area, memory_map, ports)
        # How many typed keys have arrived when a call looks is the host's doing, and must not be seen in its time.
        self.keyboard = Keyboard(Bda(vm.dma), keys, vm.request_reset)
        self.time = Time(self.area, ports)
        self.apm = Apm(vm)
        self.serial = Serial(self.area, ports, vm.clock)
        self.keys = keys
        """Keys that come from the host."""
        self._log = log
        self.named: set[tuple[int, int]] = set()
        screen = (self.video, Fonts(self.video), Palette(self.video), self.vbe, VbeDisplay(self.video))
        self._services = Services(
            (
                *screen,
                self.disk,
                self.serial,
                self.system,
                self.apm,
                self.keyboard,
                self.time,
                PciBios(ports),
                self.boot,
            )
        )

    def parts(self) -> list[tuple[str, BiosPart | KeyQueuePart]]:
        """What of it has a state, by name."""
        return [("bios", BiosPart(self)), ("bios keys", KeyQueuePart(self.keys))]

    def power_on(self, memory_map: Sequence[tuple[int, int, int]], ports: Ports | None) -> None:
        """Write vectors, ROM and data area and set the devices up, as after a reset.

        ``ports`` None leaves the devices alone.
        """
        install_rom(self.vm.dma)
        self.area.power_on(memory_map)
        self.disk.power_on()
        if ports is not None:
            for port, value in PORT_WRITES:
                ports.write(port, 1, value)
        video_rom.install(self.vm.dma)
        self.video.power_on()
        self.time.power_on()
        self.serial.power_on()

    def handle(self, vcpu: Any, exit: Any) -> Any:
        """The hypercall handler."""
        if vcpu.cr0 & CR0_PE and not vcpu.rflags & RFLAGS_VM:
            return self._far_call(vcpu)
        address = vcpu.cs.base + (vcpu.rip & 0xFFFF)
        if address == BASE + KEYBOARD_CALL:
            ctrl_break = self.keyboard.scan_code(vcpu.al)
            vcpu.rflags = vcpu.rflags & ~RFLAGS_CF | (RFLAGS_CF if ctrl_break else 0)
            return HANDLED
        if address == BASE + RESET:
            self.vm.request_reset()
            return HANDLED
        vector = vector_of(address)
        if vector is None:
            return PASS
        call = Call(vcpu, vector)
        self.meter.take()
        asked = self._asked(call) if self.vm.listeners else ""
        outcome = self.serve(call)
        if asked and outcome is not WAIT and outcome is not AGAIN:
            self.vm.tell("bios", f"{asked} -> {call.result()}", vcpu)
        if isinstance(outcome, Stop):
            return stop(outcome.text, crashed=outcome.crashed)
        self.vm.spend(self.meter.take() + (POLL_NS if outcome is POLLED else CALL_NS))
        if outcome is AGAIN:
            return RETRY
        # The live flags are the stub's: IRET gives the caller its own back.
        told = RFLAGS_CF if outcome is WAIT else RFLAGS_OF if outcome is POLLED else 0
        vcpu.rflags = vcpu.rflags & ~(RFLAGS_CF | RFLAGS_OF) | told
        return HANDLED

    def _far_call(self, vcpu: Any) -> Any:
        """A hypercall in protected mode: ours if the kernel has called the ROM's entry for APM."""
        if vcpu.cs.base + vcpu.rip != BASE + APM_ENTRY or vcpu.cs.selector & 3:
            return PASS
        call = FarCall(vcpu, 0x15)
        vcpu.ah = 0x53
        self.meter.take()
        self.serve(call)
        self.vm.spend(self.meter.take() + CALL_NS)
        return HANDLED

    def serve(self, call: Call) -> Outcome:
        """Do what interrupt ``call.vector`` asks for."""
        try:
            found = self._services.find(call.vector, call.regs.ax)
            outcome = self._default(call) if found is None else found(call)
            if outcome is UNSERVED:
                self._note(call, "not provided")
                outcome = call.fail(NOT_SUPPORTED)
        except GuestFault as fault:
            # The caller's stack or buffer is not memory: the call fails, and only the call.
            self._note(call, f"an address without memory was given ({fault})")
            outcome = DONE
            # If it is the stack, the flags have no place to go, and IRET will fault in the guest as it should.
            with suppress(GuestFault):
                call.fail(NOT_SUPPORTED)
        return outcome

    def _asked(self, call: Call) -> str:
        """A call for the log: its name, the registers that most calls use, and who made it."""
        regs = call.regs
        values = " ".join(f"{name.upper()}={getattr(regs, name):04x}" for name in ("ax", "bx", "cx", "dx"))
        try:
            caller = call.caller()
        except GuestFault:
            caller = "nowhere"
        function = self._services.function(call.vector, regs.ax)
        return f"{self._services.describe(call.vector, function)} {values} from {caller}"

    def _default(self, call: Call) -> Outcome:
        if call.vector in FATAL:
            text = f"{FATAL[call.vector]} at {call.caller()}, and the guest has put no handler behind interrupt vector"
            call.go_back()
            return Stop(f"{text} {call.vector}", crashed=True)
        return DONE if call.vector in QUIET else UNSERVED

    def _note(self, call: Call, problem: str) -> None:
        """Once for each function, so that a guest cannot fill the host's log."""
        function = self._services.function(call.vector, call.regs.ax)
        if (call.vector, function) not in self.named and len(self.named) < MAX_NOTES:
            self.named.add((call.vector, function))
            self._log(f"guest called {self._services.describe(call.vector, function)}: {problem}")


PROVIDERS: tuple[type, ...] = (
    *(Video, Fonts, Palette, Vbe, VbeDisplay),
    *(Disk, Serial, System, Apm, Keyboard, Time, PciBios, Boot),
)
"""The classes that declare services."""


def install(
    vm: Vm,
    drives: Drives,
    keys: KeyQueue,
    tty: Callable[[bytes], None],
    *,
    memory_map: Sequence[tuple[int, int, int]],
    ports: Ports | None = None,
    text: Dma | None = None,
    log: Callable[[str], None] = _warn,
    boot_order: str = DEFAULT_ORDER,
    power: bool = True,
) -> Bios:
    """Give ``vm`` a BIOS: call it after the board is wired and before the first run.

    ``drives`` is what INT 13h reads; ``keys`` what INT 16h reads besides the keyboard; ``tty`` receives the
    bytes that teletype and write-string put out; ``memory_map`` is what E820 tells, (base, size, type) each;
    ``ports`` reaches the board's devices (without it the BIOS sets up no PIC, PIT or 8042: write
    `rom.PORT_WRITES` yourself, and has no RTC, A20 gate or hardware cursor); ``text`` is where B8000h to BFFFFh
    lives when that is not ``vm.dma``; ``log`` is told once of each call that is not served; ``boot_order`` are the
    letters of the devices that INT 19h tries (`hypervisor.vm.config.DRIVES`). Without ``power`` it is not powered on:
    memory and devices become those of a machine that has been running.

    Preconditions: 0 to 9FFFFh and F0000h to FFFFFh are memory.
    """
    bios = Bios(vm, drives, keys, tty, memory_map, ports, vm.dma if text is None else text, log, boot_order)
    if power:
        bios.power_on(memory_map, ports)
    vm.traps.hypercall(name="bios", rank="private")(bios.handle)
    return bios
