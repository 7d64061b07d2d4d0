"""INT 15h AH=53h: the part of advanced power management that switches the machine off, and what drivers ask before.

Source: APM BIOS Interface Specification 1.2, section 4. The protected-mode entry is the ROM's `APM_ENTRY`, one for 16-
and 32-bit code: the far call there does what INT 15h does in real mode, with the result in the live carry flag.
"""

from __future__ import annotations

from hypervisor.firmware.bios.call import WAIT, Call, Outcome, Vm
from hypervisor.firmware.bios.rom import APM_ENTRY, SEGMENT
from hypervisor.firmware.bios.service import service

VERSION = 0x0102
SIGNATURE = 0x504D
"""PM."""
INTERFACES = 0b11
"""A 16-bit and a 32-bit protected-mode interface."""
ROM_LIMIT = 0xFFF0
UNKNOWN_DEVICE, BAD_STATE, NO_EVENT = 0x09, 0x0A, 0x80
ALL_DEVICES = 0x0001
STANDBY, SUSPEND, OFF = 1, 2, 3


class Apm:
    """The power-management services."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        self.idle = False
        """Whether the guest is in the middle of the call that waits for an interrupt."""

    @service(0x15, 0x5300, "APM: installation check")
    def _check(self, call: Call) -> Outcome:
        call.regs.ax, call.regs.bx, call.regs.cx = VERSION, SIGNATURE, INTERFACES
        return call.ok()

    @service(0x15, 0x5301, "APM: connect the real-mode interface")
    @service(0x15, 0x5304, "APM: disconnect")
    @service(0x15, 0x5306, "APM: CPU busy")
    @service(0x15, 0x5308, "APM: enable or disable power management")
    @service(0x15, 0x530D, "APM: enable or disable power management of a device")
    @service(0x15, 0x530F, "APM: engage or disengage power management")
    def _accept(self, call: Call) -> Outcome:
        return call.ok()

    @service(0x15, 0x5302, "APM: connect the 16-bit protected-mode interface")
    def _connect_16(self, call: Call) -> Outcome:
        regs = call.regs
        regs.ax, regs.bx, regs.cx, regs.si, regs.di = SEGMENT, APM_ENTRY, SEGMENT, ROM_LIMIT, ROM_LIMIT
        return call.ok()

    @service(0x15, 0x5303, "APM: connect the 32-bit protected-mode interface")
    def _connect_32(self, call: Call) -> Outcome:
        regs = call.regs
        regs.ax, regs.ebx, regs.cx, regs.dx = SEGMENT, APM_ENTRY, SEGMENT, SEGMENT
        regs.esi, regs.di = ROM_LIMIT << 16 | ROM_LIMIT, ROM_LIMIT
        return call.ok()

    @service(0x15, 0x5305, "APM: CPU idle, until the next interrupt")
    def _cpu_idle(self, call: Call) -> Outcome:
        self.idle = call.waits and not self.idle
        return WAIT if self.idle else call.ok()

    @service(0x15, 0x5307, "APM: set power state; state 3 of all devices is off")
    def _set_state(self, call: Call) -> Outcome:
        if call.regs.bx != ALL_DEVICES:
            return call.fail(UNKNOWN_DEVICE)
        if call.regs.cx == OFF:
            self.vm.power_off()
        elif call.regs.cx not in (STANDBY, SUSPEND):
            return call.fail(BAD_STATE)
        return call.ok()

    @service(0x15, 0x530A, "APM: power status: on line, no battery")
    def _power_status(self, call: Call) -> Outcome:
        call.regs.bx, call.regs.cx, call.regs.dx = 0x01FF, 0x80FF, 0xFFFF
        call.regs.si = 0
        return call.ok()

    @service(0x15, 0x530B, "APM: next event (there are none)")
    def _next_event(self, call: Call) -> Outcome:
        return call.fail(NO_EVENT)

    @service(0x15, 0x530C, "APM: power state (always enabled)")
    def _get_state(self, call: Call) -> Outcome:
        call.regs.cx = 0
        return call.ok()

    @service(0x15, 0x530E, "APM: driver version")
    def _driver_version(self, call: Call) -> Outcome:
        call.regs.ax = VERSION
        return call.ok()

    @service(0x15, 0x5310, "APM: capabilities: no battery, nothing that wakes")
    def _capabilities(self, call: Call) -> Outcome:
        call.regs.bl, call.regs.cx = 0, 0
        return call.ok()
