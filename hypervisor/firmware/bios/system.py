"""INT 15h, 11h and 12h: memory map, A20, waiting and block moves.

Sources: ACPI 6.5, section 15.1 ("INT 15H, E820H"); IBM PS/2 and PC BIOS Interface Technical Reference, section 2,
"Interrupt 15h".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hypervisor.firmware.bios import bda
from hypervisor.firmware.bios.call import DONE, UNSERVED, WAIT, Call, Outcome, Ports, Vm, Waiting
from hypervisor.firmware.bios.rom import CONFIGURATION, SEGMENT
from hypervisor.firmware.bios.rtc import PERIODIC, REGISTER_B, Rtc
from hypervisor.firmware.bios.service import service

SMAP = 0x534D4150
A20_PORT = 0x92
A20_BIT = 1 << 1
A20_KEYBOARD, A20_PORT_92 = 1 << 0, 1 << 1
MAX_MOVE_WORDS = 0x8000
MAX_EXTENDED_KIB = 63 << 10
"""The most that function 88h tells, which many programs hold to be the most that there is."""
TIMER_PERIODS_NS = 110_000_000
"""Two periods of the timer's 18.2 Hz."""


class System:
    """The system services."""

    def __init__(self, vm: Vm, area: bda.Bda, memory_map: Sequence[tuple[int, int, int]], ports: Ports | None) -> None:
        self.vm = vm
        self.area = area
        self.memory_map = list(memory_map)
        self.ports = ports
        self._rtc = None if ports is None else Rtc(ports)
        self.waiting = Waiting(vm.clock)
        self.ticking = False
        """Whether we have switched the RTC's periodic interrupt on."""

    @service(0x11, None, "equipment list")
    def equipment(self, call: Call) -> Outcome:
        """INT 11h."""
        call.regs.ax = self.area.word(bda.EQUIPMENT)
        return DONE

    @service(0x12, None, "conventional memory in KiB")
    def conventional_memory(self, call: Call) -> Outcome:
        """INT 12h: KiB from address 0."""
        call.regs.ax = self.area.word(bda.MEMORY_KIB)
        return DONE

    @service(0x15, 0x2400, "A20 gate off")
    @service(0x15, 0x2401, "A20 gate on")
    @service(0x15, 0x2402, "A20 gate state")
    @service(0x15, 0x2403, "A20 gate support")
    def _a20(self, call: Call) -> Outcome:
        regs, ports = call.regs, self.ports
        if regs.al == 3:
            regs.bx = A20_KEYBOARD | A20_PORT_92
        elif ports is None or regs.al > 3:
            return UNSERVED
        else:
            value = ports.read(A20_PORT, 1)
            if regs.al == 2:
                regs.al = value >> 1 & 1
            else:
                # Bit 0 would reset the machine.
                ports.write(A20_PORT, 1, (value & ~A20_BIT | (A20_BIT if regs.al else 0)) & ~1)
        regs.ah = 0
        return call.ok()

    @service(0x15, 0x86, "wait for CX:DX microseconds")
    def _sleep(self, call: Call) -> Outcome:
        """To the next interrupt behind that: the timer's, and for the last of it the RTC's, of 1024 a second."""
        left_ns = self.waiting.left_ns(call, 1000 * (call.regs.cx << 16 | call.regs.dx))
        if left_ns > 0:
            if left_ns < TIMER_PERIODS_NS and self._rtc is not None and not self.ticking:
                self.ticking = not _periodic(self._rtc, on=True)
            return WAIT
        self.waiting.end()
        if self.ticking and self._rtc is not None:
            _periodic(self._rtc, on=False)
            self.ticking = False
        return call.ok()

    @service(0x15, 0x87, "move a block of extended memory")
    def _move_block(self, call: Call) -> Outcome:
        """CX words between two descriptors' bases. Limits are not checked, as on most BIOSes."""
        regs = call.regs
        if regs.cx > MAX_MOVE_WORDS:
            return call.fail(0x02)
        table = call.read(regs.es, regs.si, 48)
        data = self.vm.dma.read(_base(table, 0x10), 2 * regs.cx)
        self.vm.dma.write(_base(table, 0x18), data)
        regs.ah = 0
        return call.ok()

    @service(0x15, 0x88, "extended memory in KiB, at most 63 MiB")
    def _extended_memory(self, call: Call) -> Outcome:
        call.regs.ax = min(bda.extended_bytes(self.memory_map) >> 10, MAX_EXTENDED_KIB)
        return call.ok()

    @service(0x15, 0xC0, "configuration table")
    def _configuration(self, call: Call) -> Outcome:
        call.regs.set("es", SEGMENT)
        call.regs.bx, call.regs.ah = CONFIGURATION, 0
        return call.ok()

    @service(0x15, 0xC1, "segment of the extended data area")
    def _ebda(self, call: Call) -> Outcome:
        segment = self.area.word(bda.EBDA_SEGMENT)
        if not segment:
            return UNSERVED
        call.regs.set("es", segment)
        return call.ok()

    @service(0x15, 0xE801, "extended memory below and above 16 MiB")
    def _memory_sizes(self, call: Call) -> Outcome:
        regs = call.regs
        extended = bda.extended_bytes(self.memory_map)
        below = min(extended, 15 << 20)
        regs.ax = regs.cx = below >> 10
        regs.bx = regs.dx = min((extended - below) >> 16, 0xFFFF)
        return call.ok()

    @service(0x15, 0xE820, "memory map")
    def _memory_map(self, call: Call) -> Outcome:
        regs = call.regs
        index = regs.ebx
        if regs.edx != SMAP or regs.ecx < 20 or index >= len(self.memory_map):
            return call.fail(0x86)
        call.write(regs.es, regs.di, struct.pack("<QQI", *self.memory_map[index]))
        regs.eax, regs.ecx = SMAP, 20
        regs.ebx = index + 1 if index + 1 < len(self.memory_map) else 0
        return call.ok()


def _periodic(rtc: Rtc, *, on: bool) -> bool:
    """Switch the RTC's periodic interrupt; whether it was on."""
    before = rtc.read(REGISTER_B)
    rtc.write(REGISTER_B, before | PERIODIC if on else before & ~PERIODIC)
    return bool(before & PERIODIC)


def _base(table: bytes, at: int) -> int:
    """The base address of the descriptor at ``at`` (AMD APM volume 2, section 4.7)."""
    return int.from_bytes(table[at + 2 : at + 5], "little") | table[at + 7] << 24
