"""The registers of a PC16550D, and their bits (data sheet, section 8)."""

from __future__ import annotations

from hypervisor.devices.parts.common import Register

SIZE = 8
"""Bytes of the register window."""
LSR = 5
"""The offset of the line status register."""

REGISTERS = (
    Register(0, "RBR", "rc", "receiver buffer, the oldest character (DLAB=0)"),
    Register(0, "THR", "w", "transmitter holding register (DLAB=0)"),
    Register(0, "DLL", "rw", "divisor latch, low byte (DLAB=1)"),
    Register(1, "IER", "rw", "interrupt enable (DLAB=0)"),
    Register(1, "DLM", "rw", "divisor latch, high byte (DLAB=1)"),
    Register(2, "IIR", "rc", "interrupt identification; reading it clears a THRE interrupt"),
    Register(2, "FCR", "w", "FIFO control"),
    Register(3, "LCR", "rw", "line control: word length, stop bits, parity, break, DLAB"),
    Register(4, "MCR", "rw", "modem control: DTR, RTS, OUT1, OUT2, loop"),
    Register(5, "LSR", "rc", "line status; reading it clears the error bits"),
    Register(6, "MSR", "rc", "modem status; reading it clears the delta bits"),
    Register(7, "SCR", "rw", "scratch"),
)

XTAL_HZ = 1_843_200
"""The PC's UART crystal: baud = XTAL / (16 * divisor)."""
FIFO_SIZE = 16

IER_RDA, IER_THRE, IER_LINE, IER_MODEM = 0x01, 0x02, 0x04, 0x08
IIR_NONE, IIR_LINE, IIR_RDA, IIR_TIMEOUT, IIR_THRE, IIR_MODEM = 0x01, 0x06, 0x04, 0x0C, 0x02, 0x00
IIR_FIFO = 0xC0
FCR_ENABLE, FCR_CLEAR_RX = 0x01, 0x02
FCR_TRIGGERS = (1, 4, 8, 14)
LCR_STOP2, LCR_PARITY, LCR_DLAB = 0x04, 0x08, 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 0x01, 0x02, 0x04, 0x08, 0x10
LSR_DR, LSR_OE, LSR_PE, LSR_FE, LSR_BI = 0x01, 0x02, 0x04, 0x08, 0x10
LSR_THRE, LSR_TEMT, LSR_FIFO_ERROR = 0x20, 0x40, 0x80
LSR_ERRORS = LSR_OE | LSR_PE | LSR_FE | LSR_BI
LSR_IDLE = LSR_THRE | LSR_TEMT
MSR_TERI = 0x04
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80
MSR_CONNECTED = MSR_CTS | MSR_DSR | MSR_DCD
