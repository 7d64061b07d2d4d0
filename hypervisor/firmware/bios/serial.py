"""INT 14h: the serial ports, as the BIOS data area lists them at 0040:0000.

Sources: IBM PS/2 and PC BIOS Interface Technical Reference, section 2, "Interrupt 14h"; PC16550D data sheet for the
registers.
"""

from __future__ import annotations

from hypervisor.bus import Clock
from hypervisor.firmware.bios import bda
from hypervisor.firmware.bios.call import POLLED, UNSERVED, WAIT, Call, Outcome, Ports, Waiting
from hypervisor.firmware.bios.service import service
from hypervisor.units import NS_PER_S

BASES = (0x3F8, 0x2F8, 0x3E8, 0x2E8)
"""Where serial ports may be, COM1 to COM4."""
DATA, IER, LCR, MCR, LSR, MSR, SCRATCH = 0, 1, 3, 4, 5, 6, 7
DIVISOR_ACCESS, DATA_READY, READY_TO_SEND = 0x80, 0x01, 0x03
DIVISORS = (1047, 768, 384, 192, 96, 48, 24, 12)
"""110, 150, 300, 600, 1200, 2400, 4800 and 9600 baud."""
TIMED_OUT = 0x80
PATIENCE_S = 1
"""How long a call waits for a character: what 0040:007C says, in seconds, at power-on."""
PATTERN = 0x5A


class Serial:
    """The serial services; without ``ports`` there are no serial ports."""

    def __init__(self, area: bda.Bda, ports: Ports | None, clock: Clock) -> None:
        self.area = area
        self.ports = ports
        self.waiting = Waiting(clock)

    def power_on(self) -> None:
        """Find the ports and list them."""
        if self.ports is None:
            return
        found = [base for base in BASES if self._is_there(self.ports, base)]
        for number, base in enumerate(found):
            self.area.set_word(bda.COM_PORTS + 2 * number, base)
            self.area.set_byte(bda.COM_TIMEOUTS + number, PATIENCE_S)
        equipment = self.area.word(bda.EQUIPMENT) & ~bda.EQUIPMENT_COM
        self.area.set_word(bda.EQUIPMENT, equipment | len(found) << 9)

    @staticmethod
    def _is_there(ports: Ports, base: int) -> bool:
        ports.write(base + SCRATCH, 1, PATTERN)
        there = ports.read(base + SCRATCH, 1) == PATTERN
        ports.write(base + SCRATCH, 1, 0)
        return there

    def _base(self, call: Call) -> int:
        """The first I/O port of the serial port in DX, or 0."""
        number = call.regs.dx
        return self.area.word(bda.COM_PORTS + 2 * number) if number < len(BASES) and self.ports is not None else 0

    @service(0x14, 0x00, "initialize a serial port")
    def _initialize(self, call: Call) -> Outcome:
        base, ports, settings = self._base(call), self.ports, call.regs.al
        if not base or ports is None:
            return UNSERVED
        divisor = DIVISORS[settings >> 5]
        for register, value in (
            (LCR, DIVISOR_ACCESS),
            (DATA, divisor & 0xFF),
            (IER, divisor >> 8),
            (LCR, settings & 0x1F),
            (IER, 0),
        ):
            ports.write(base + register, 1, value)
        return self._status(call)

    @service(0x14, 0x01, "send a character")
    def _send(self, call: Call) -> Outcome:
        base, ports = self._base(call), self.ports
        if not base or ports is None:
            return UNSERVED
        ports.write(base + MCR, 1, READY_TO_SEND)
        ports.write(base + DATA, 1, call.regs.al)
        call.regs.ah = ports.read(base + LSR, 1)
        return call.ok()

    @service(0x14, 0x02, "receive a character, waiting for it")
    def _receive(self, call: Call) -> Outcome:
        base, ports = self._base(call), self.ports
        if not base or ports is None:
            return UNSERVED
        status = ports.read(base + LSR, 1)
        if not status & DATA_READY:
            patience_ns = self.area.byte(bda.COM_TIMEOUTS + call.regs.dx) * NS_PER_S
            if self.waiting.left_ns(call, patience_ns) > 0:
                return WAIT
            status |= TIMED_OUT
        else:
            call.regs.al = ports.read(base + DATA, 1)
        self.waiting.end()
        call.regs.ah = status & ~DATA_READY
        return call.ok()

    @service(0x14, 0x03, "status of a serial port")
    def _status(self, call: Call) -> Outcome:
        base, ports = self._base(call), self.ports
        if not base or ports is None:
            return UNSERVED
        call.regs.ax = ports.read(base + LSR, 1) << 8 | ports.read(base + MSR, 1)
        call.ok()
        return POLLED
