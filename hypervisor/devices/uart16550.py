"""The serial port: National Semiconductor PC16550D.

Source: PC16550D data sheet (TL/C/8652, June 1995), section 8 "Registers" and section 8.6 "FIFO interrupt mode
operation".

Two decisions of the model:

* *Transmit takes no time.* A byte written to THR goes to the sink at once, THRE and TEMT always read as set, and the
  THRE interrupt follows at once, so that no guest ever waits for a slow line. The transmit FIFO is therefore always
  empty.
* *Receive takes the line's time.* Host input waits in a bounded backlog and enters the receiver one character per
  character time (from divisor and LCR) of the VM's clock. When the receiver is full the far end holds, as with
  hardware flow control; with ``hold_when_full=False`` it does not, and characters are lost with an overrun as on a
  bare line.

``line`` is the chip's INTRPT pin. The PC's gate of that pin by OUT2 is not modelled (guests that forget OUT2 work, as
they do on QEMU). Parity and framing errors do not happen: the host's bytes arrive intact.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from hypervisor.bus import Clock, Line, TimedRegister
from hypervisor.devices.parts import uart_registers as r
from hypervisor.devices.parts.common import ByteDevice, RegisterTable, nothing
from hypervisor.devices.parts.device_state import adopt
from hypervisor.state import InRecord, data, flag, number, numbers, record, time_ns, u8
from hypervisor.units import NS_PER_S

BACKLOG_LIMIT = 65_536
"""Bytes of host input that may wait for the line."""
POLLS_TO_LISTEN = 64
"""Reads of LSR, with nothing sent and nothing received in between, after which a guest waits for input. (One that sends
reads it a few times for each character.)
"""

_BYTES = [bytes((value,)) for value in range(256)]


@record
class Uart16550State:
    """All that a 16550 remembers. A character in ``fifo`` carries its LSR error bits in bits 15:8."""

    divisor: int = number(0, 0xFFFF, 12)
    ier: int = number(0, 0x0F)
    fcr: int = number(0, 0xC1)
    lcr: int = u8()
    mcr: int = number(0, 0x1F)
    lsr: int = u8(r.LSR_IDLE)
    msr: int = u8(r.MSR_CONNECTED)
    scr: int = u8()
    rbr: int = u8()
    thre_pending: bool = flag()
    timeout_pending: bool = flag()
    timeout_at: int = time_ns()
    arrives_at: int = time_ns()
    receiving: bool = flag()
    polls: int = number(0, POLLS_TO_LISTEN)
    listens: bool = flag()
    fifo: list[int] = numbers(r.FIFO_SIZE, 0, 0xFFFF)
    backlog: bytearray = data(BACKLOG_LIMIT)


class Uart16550(ByteDevice, InRecord[Uart16550State]):
    """A 16550A at 8 consecutive ports (COM1: 3f8h, IRQ 4).

    ``line`` is its interrupt output; ``sink`` takes each transmitted byte at once.
    """

    def __init__(
        self,
        line: Line,
        clock: Clock,
        sink: Callable[[bytes], object],
        name: str = "uart0",
        *,
        hold_when_full: bool = True,
    ) -> None:
        self.name = name
        self.line = line
        self.clock = clock
        self._sink = sink
        self._hold = hold_when_full
        self.source: Callable[[], bytes] = bytes
        """Asked for host input when there is none left and the guest listens: it has enabled the receiver's interrupt,
        or polls. What it gives (at most `BACKLOG_LIMIT` bytes) arrives as if it had been there all the time.
        """
        self.queued: Callable[[], bytes] = bytes
        """Asked before `source`, whether the guest listens or not: what was received and had no room."""
        self._arrival = clock.timer(name, "arrival", self._arrive)
        self._timeout = clock.timer(name, "timeout", self._time_out)
        self._s = Uart16550State()
        self._idle = TimedRegister(1)
        self.timed_registers = {r.LSR: self._idle}
        """LSR is read once for each character that is sent. It is known while nothing is received."""
        self._show_lsr()

    @cached_property
    def _tables(self) -> tuple[RegisterTable, RegisterTable]:
        """Without and with the divisor's latch in the place of the first two."""
        high_readers = [self._read_lcr, self._read_mcr, self._read_lsr, self._read_msr, self._read_scr]
        high_writers = [self._write_lcr, self._write_mcr, nothing, nothing, self._write_scr]
        return (
            (
                [self._read_rbr, self._read_ier, self._read_iir, *high_readers],
                [self._write_thr, self._write_ier, self._write_fcr, *high_writers],
            ),
            (
                [self._read_dll, self._read_dlm, self._read_iir, *high_readers],
                [self._write_dll, self._write_dlm, self._write_fcr, *high_writers],
            ),
        )

    def _registers(self) -> RegisterTable:
        return self._tables[bool(self._s.lcr & r.LCR_DLAB)]

    # ---- host side

    def receive(self, data: bytes) -> int:
        """Queue host input for the line; returns how many bytes were taken (the backlog holds `BACKLOG_LIMIT`)."""
        s = self._s
        taken = data[: BACKLOG_LIMIT - len(s.backlog)]
        s.backlog += taken
        self._resume()
        return len(taken)

    def receive_break(self) -> None:
        """A break condition on the line: one zero character with BI and FE, at once."""
        self._push(0, r.LSR_BI | r.LSR_FE)
        self._update()

    @property
    def character_ns(self) -> int:
        """Time of one character on the line, in nanoseconds, with start, parity and stop bits (1.5 count as 2)."""
        s = self._s
        bits = 7 + (s.lcr & 3) + bool(s.lcr & r.LCR_STOP2) + bool(s.lcr & r.LCR_PARITY)
        return bits * 16 * (s.divisor or 0x10000) * NS_PER_S // r.XTAL_HZ

    # ---- device contract

    def _up_to_date(self) -> Uart16550State:
        self._s.polls = self._polls
        return self._s

    def reset(self) -> None:
        """Master reset; host input that still waits is dropped."""
        self._take(Uart16550State())
        self._s.backlog += self.queued()[:BACKLOG_LIMIT]
        self._resume()

    def restore(self, state: Uart16550State) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._take(adopt(self.name, Uart16550State, state))

    def _take(self, state: Uart16550State) -> None:
        self._s = state
        self._idle.active = False
        self._switch_registers()
        self._arrival.clear()
        self._timeout.clear()
        if state.receiving:
            self._arrival.set(state.arrives_at)
        if state.timeout_at:
            self._timeout.set(state.timeout_at)
        self._show_lsr()
        self._update()

    # ---- LSR without us

    @property
    def _polls(self) -> int:
        """How often LSR has been read in vain, by those also who did not ask us."""
        idle = self._idle
        return POLLS_TO_LISTEN - 1 - idle.reads if idle.active and idle.reads >= 0 else self._s.polls

    def _show_lsr(self) -> None:
        """Say what reads of LSR give from now on, where that is simple, and until one of them is to be noticed."""
        s = self._s
        polls = s.polls = self._polls
        if s.lsr == r.LSR_IDLE and not s.receiving:
            self._idle.holds(r.LSR_IDLE, POLLS_TO_LISTEN - 1 - polls if polls < POLLS_TO_LISTEN else -1)
        else:
            self._idle.active = False

    # ---- receiver

    def _resume(self) -> None:
        """Put the next character on the line, if there is one and the line is free."""
        s = self._s
        if s.receiving or not s.backlog or s.mcr & r.MCR_LOOP or (self._hold and self._full()):
            return
        s.receiving = True
        s.arrives_at = self.clock.now_ns + self.character_ns
        self._arrival.set(s.arrives_at)
        self._show_lsr()

    def _listen(self) -> None:
        """The guest waits for input."""
        s = self._s
        if not s.listens:
            s.listens = True
            if not s.backlog:
                s.backlog += self.source()[:BACKLOG_LIMIT]
                self._resume()

    def _full(self) -> bool:
        return len(self._s.fifo) >= (r.FIFO_SIZE if self._s.fcr & r.FCR_ENABLE else 1)

    def _arrive(self) -> None:
        """The character on the line is complete; follow with the next at the line's own pace."""
        s = self._s
        while s.receiving and s.arrives_at <= self.clock.now_ns:
            s.receiving = False
            if not s.backlog or s.mcr & r.MCR_LOOP or (self._hold and self._full()):
                break
            byte = s.backlog[0]
            del s.backlog[:1]
            self._push(byte, 0)
            if not s.backlog:
                s.backlog += self.queued()[:BACKLOG_LIMIT]
                if not s.backlog and s.listens:
                    s.backlog += self.source()[:BACKLOG_LIMIT]
            if s.backlog and not (self._hold and self._full()):
                s.receiving = True
                s.arrives_at += self.character_ns
        if s.receiving:
            self._arrival.set(s.arrives_at)
        else:
            self._arrival.clear()
        self._show_lsr()
        self._update()

    def _push(self, byte: int, errors: int) -> None:
        """A character reaches the receiver (data sheet 8.4: overrun; with FIFOs the shift register is overwritten)."""
        s = self._s
        if self._full():
            s.lsr |= r.LSR_OE
            if not s.fcr & r.FCR_ENABLE:  # the buffer register itself is overwritten
                s.fifo[0] = byte | errors << 8
                s.lsr |= errors
            self._show_lsr()
            return
        s.fifo.append(byte | errors << 8)
        if len(s.fifo) == 1:
            s.lsr |= r.LSR_DR | errors
        if s.fcr & r.FCR_ENABLE:
            if errors:
                s.lsr |= r.LSR_FIFO_ERROR
            self._restart_timeout()
        self._show_lsr()

    def _restart_timeout(self) -> None:
        """Four character times without a new character or a read raise the timeout (data sheet 8.6)."""
        s = self._s
        s.timeout_at = self.clock.now_ns + 4 * self.character_ns
        self._timeout.set(s.timeout_at)

    def _stop_timeout(self) -> None:
        self._s.timeout_pending = False
        self._s.timeout_at = 0
        self._timeout.clear()

    def _time_out(self) -> None:
        s = self._s
        s.timeout_at = 0
        s.timeout_pending = bool(s.fifo)
        self._update()

    def _clear_receiver(self) -> None:
        s = self._s
        s.fifo.clear()
        s.lsr &= ~(r.LSR_DR | r.LSR_FIFO_ERROR)
        self._show_lsr()
        self._stop_timeout()

    # ---- interrupts

    def _cause(self) -> int:
        """The IIR's low four bits: the highest of the enabled causes (data sheet table V)."""
        s = self._s
        ier = s.ier
        if ier & r.IER_LINE and s.lsr & r.LSR_ERRORS:
            return r.IIR_LINE
        if ier & r.IER_RDA:
            if s.fifo and (not s.fcr & r.FCR_ENABLE or len(s.fifo) >= r.FCR_TRIGGERS[s.fcr >> 6]):
                return r.IIR_RDA
            if s.timeout_pending:
                return r.IIR_TIMEOUT
        if ier & r.IER_THRE and s.thre_pending:
            return r.IIR_THRE
        if ier & r.IER_MODEM and s.msr & 0x0F:
            return r.IIR_MODEM
        return r.IIR_NONE

    def _update(self) -> None:
        self.line.set(self._s.ier != 0 and self._cause() != r.IIR_NONE)

    # ---- registers

    def _read_rbr(self) -> int:
        s = self._s
        if s.receiving:
            self._arrive()
        if not s.fifo:
            return 0 if s.fcr & r.FCR_ENABLE else s.rbr
        s.rbr = s.fifo.pop(0) & 0xFF
        s.timeout_pending = False
        if s.fifo:
            s.lsr |= s.fifo[0] >> 8
            self._restart_timeout()
        else:
            s.lsr &= ~r.LSR_DR
            self._stop_timeout()
        if s.lsr & r.LSR_FIFO_ERROR and not any(character >> 8 for character in s.fifo):
            s.lsr &= ~r.LSR_FIFO_ERROR
        self._show_lsr()
        if s.backlog:
            self._resume()
        self._update()
        return s.rbr

    def _write_thr(self, value: int) -> None:
        s = self._s
        s.polls = 0
        if self._idle.active:
            self._idle.reads = POLLS_TO_LISTEN - 1
        if s.mcr & r.MCR_LOOP:
            self._push(value & (0xFF >> (3 - (s.lcr & 3))), 0)
            self._update()
        else:
            self._sink(_BYTES[value])
        if s.ier & r.IER_THRE:
            # The byte fills the register and leaves it at once: the cause goes and returns, a new edge.
            s.thre_pending = False
            self._update()
            s.thre_pending = True
            self._update()

    def _read_ier(self) -> int:
        return self._s.ier

    def _write_ier(self, value: int) -> None:
        s = self._s
        if value & r.IER_THRE and not s.ier & r.IER_THRE:
            s.thre_pending = True  # THRE is set and newly enabled: interrupts at once
        s.ier = value & 0x0F
        self._update()
        if value & r.IER_RDA:
            self._listen()

    def _read_iir(self) -> int:
        s = self._s
        if s.receiving:
            self._arrive()
        cause = self._cause()
        if cause == r.IIR_THRE:
            s.thre_pending = False
            self._update()
        return cause | (r.IIR_FIFO if s.fcr & r.FCR_ENABLE else 0)

    def _write_fcr(self, value: int) -> None:
        s = self._s
        if (value ^ s.fcr) & r.FCR_ENABLE or (value & r.FCR_ENABLE and value & r.FCR_CLEAR_RX):
            self._clear_receiver()  # a change of mode clears the FIFOs too
        s.fcr = value & 0xC1 if value & r.FCR_ENABLE else 0  # the other bits take effect only together with bit 0
        self._resume()
        self._update()

    def _read_lcr(self) -> int:
        return self._s.lcr

    def _write_lcr(self, value: int) -> None:
        self._s.lcr = value
        self._switch_registers()

    def _read_mcr(self) -> int:
        return self._s.mcr

    def _write_mcr(self, value: int) -> None:
        s = self._s
        s.mcr = value & 0x1F
        if value & r.MCR_LOOP:
            levels = (
                (r.MSR_CTS if value & r.MCR_RTS else 0)
                | (r.MSR_DSR if value & r.MCR_DTR else 0)
                | (r.MSR_RI if value & r.MCR_OUT1 else 0)
                | (r.MSR_DCD if value & r.MCR_OUT2 else 0)
            )
        else:
            levels = r.MSR_CONNECTED
        changed = (levels ^ s.msr) & 0xF0
        deltas = changed >> 4 & ~r.MSR_TERI
        if changed & r.MSR_RI and not levels & r.MSR_RI:
            deltas |= r.MSR_TERI
        s.msr = levels | s.msr & 0x0F | deltas
        self._resume()
        self._update()

    def _read_lsr(self) -> int:
        s = self._s
        if s.receiving:
            self._arrive()
        value, s.polls = s.lsr, self._polls
        self._idle.active = False
        if s.polls < POLLS_TO_LISTEN:
            s.polls = 0 if value & r.LSR_DR else s.polls + 1
            if s.polls == POLLS_TO_LISTEN:
                self._listen()
        if value & r.LSR_ERRORS:
            s.lsr = value & ~r.LSR_ERRORS
            self._update()
        self._show_lsr()
        return value

    def _read_msr(self) -> int:
        s = self._s
        value = s.msr
        if value & 0x0F:
            s.msr = value & 0xF0
            self._update()
        return value

    def _read_scr(self) -> int:
        return self._s.scr

    def _write_scr(self, value: int) -> None:
        self._s.scr = value

    def _read_dll(self) -> int:
        return self._s.divisor & 0xFF

    def _read_dlm(self) -> int:
        return self._s.divisor >> 8

    def _write_dll(self, value: int) -> None:
        self._s.divisor = self._s.divisor & 0xFF00 | value

    def _write_dlm(self, value: int) -> None:
        self._s.divisor = self._s.divisor & 0x00FF | value << 8
