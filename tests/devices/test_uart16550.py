"""The 16550A against its data sheet (PC16550D, section 8)."""

from __future__ import annotations

import pytest

from hypervisor.bus import Line
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.uart16550 import BACKLOG_LIMIT, Uart16550

RBR = THR = DLL = 0
IER = DLM = 1
IIR = FCR = 2
LCR, MCR, LSR, MSR, SCR = 3, 4, 5, 6, 7


class Port:
    """A UART with its line and sink, read and written by register."""

    def __init__(self, clock: ManualClock, hold_when_full: bool = True) -> None:
        self.clock = clock
        self.changes: list[bool] = []
        self.line = Line("irq4", self.changes.append)
        self.sent: list[bytes] = []
        self.uart = Uart16550(self.line, clock, self.sent.append, hold_when_full=hold_when_full)
        self[LCR] = 0x80
        self[DLL] = 1  # 115200 baud
        self[DLM] = 0
        self[LCR] = 0x03  # 8N1

    def __getitem__(self, register: int) -> int:
        return self.uart.read(register, 1)

    def __setitem__(self, register: int, value: int) -> None:
        self.uart.write(register, 1, value)

    def raised(self) -> bool:
        return self.line.level

    def characters(self, count: int) -> None:
        self.clock.advance(count * self.uart.character_ns)


@pytest.fixture
def port(clock: ManualClock) -> Port:
    return Port(clock)


def test_reset_values(clock: ManualClock) -> None:
    uart = Uart16550(Line(), clock, print)
    assert [uart.read(n, 1) for n in range(1, 8)] == [0, 0x01, 0, 0, 0x60, 0xB0, 0]


def test_transmit_is_immediate_and_always_ready(port: Port) -> None:
    for byte in b"Hi":
        assert port[LSR] == 0x60
        port[THR] = byte
    assert b"".join(port.sent) == b"Hi"


def test_a_character_takes_its_time_on_the_line(port: Port) -> None:
    assert port.uart.character_ns == 10 * 16 * 10**9 // 1_843_200  # 8N1 at 115200: 86.8 us
    assert port.uart.receive(b"A") == 1
    port.clock.advance(port.uart.character_ns - 1)
    assert port[LSR] & 1 == 0
    port.clock.advance(1)
    assert port[LSR] & 1 == 1
    assert port[RBR] == ord("A")
    assert port[LSR] & 1 == 0


@pytest.mark.parametrize(
    ("lcr", "divisor", "bits"), [(0x03, 12, 10), (0x00, 12, 7), (0x07, 1, 11), (0x1F, 3, 12), (0x04, 1, 8)]
)
def test_the_line_rate_follows_divisor_and_format(port: Port, lcr: int, divisor: int, bits: int) -> None:
    port[LCR] = 0x80 | lcr
    port.uart.write(DLL, 2, divisor)  # a word access reaches DLL and DLM
    port[LCR] = lcr
    assert port.uart.character_ns == bits * 16 * divisor * 10**9 // 1_843_200


def test_dlab_hides_the_data_and_enable_registers(port: Port) -> None:
    port[IER] = 0x05
    port[LCR] = 0x83
    port[DLL], port[DLM] = 0x34, 0x12
    assert (port[DLL], port[DLM]) == (0x34, 0x12)
    port[LCR] = 0x03
    assert port[IER] == 0x05
    assert port.sent == []


def test_received_data_interrupt_without_fifo(port: Port) -> None:
    port[IER] = 1
    port.uart.receive(b"xy")
    port.characters(1)
    assert port.raised() and port[IIR] == 0x04
    port.characters(5)  # the far end holds while the one-byte receiver is full
    assert port[LSR] & 0x02 == 0
    assert port[RBR] == ord("x")
    assert not port.raised() and port[IIR] == 0x01
    port.characters(1)
    assert port[RBR] == ord("y")


@pytest.mark.parametrize(("bits", "level"), [(0x00, 1), (0x40, 4), (0x80, 8), (0xC0, 14)])
def test_fifo_trigger_levels(port: Port, bits: int, level: int) -> None:
    port[FCR] = 0x01 | bits
    port[IER] = 1
    port.uart.receive(bytes(level))
    for _ in range(level - 1):
        port.characters(1)
        assert port[IIR] == 0xC1
    port.characters(1)
    assert port[IIR] == 0xC4
    port[RBR]
    assert port[IIR] == 0xC1  # below the level again


def test_character_timeout_after_four_characters_and_its_end(port: Port) -> None:
    port[FCR] = 0xC1
    port[IER] = 1
    port.uart.receive(b"ab")
    port.characters(2)
    port.clock.advance(4 * port.uart.character_ns - 1)
    assert port[IIR] == 0xC1
    port.clock.advance(1)
    assert port.raised() and port[IIR] == 0xCC
    assert port[RBR] == ord("a")
    assert not port.raised() and port[IIR] == 0xC1
    port.characters(4)
    assert port[IIR] == 0xCC
    assert port[RBR] == ord("b")
    port.characters(10)
    assert port[IIR] == 0xC1  # an empty FIFO has no timeout


def test_overrun_keeps_the_fifo_and_loses_the_newest(clock: ManualClock) -> None:
    port = Port(clock, hold_when_full=False)
    port[FCR] = 0x01
    port[IER] = 0x04
    port.uart.receive(bytes(range(18)))
    port.characters(16)
    assert not port.raised()
    port.characters(2)
    assert port.raised() and port[IIR] == 0xC6
    assert port[LSR] & 0x02
    assert not port.raised() and port[LSR] & 0x02 == 0  # reading cleared it
    assert [port[RBR] for _ in range(16)] == list(range(16))
    assert port[LSR] & 1 == 0


def test_overrun_without_fifo_loses_the_oldest(clock: ManualClock) -> None:
    port = Port(clock, hold_when_full=False)
    port.uart.receive(b"ab")
    port.characters(2)
    assert port[LSR] & 0x03 == 0x03
    assert port[RBR] == ord("b")


def test_nothing_is_lost_when_the_far_end_holds(port: Port) -> None:
    port[FCR] = 0x01
    text = bytes(range(256)) * 2
    port.uart.receive(text)
    got = bytearray()
    while len(got) < len(text):
        port.characters(20)
        assert port[LSR] & 0x02 == 0
        while port[LSR] & 1:
            got.append(port[RBR])
    assert got == text


def test_the_backlog_is_bounded(port: Port) -> None:
    assert port.uart.receive(bytes(BACKLOG_LIMIT - 1)) == BACKLOG_LIMIT - 1
    assert port.uart.receive(b"abc") == 1
    assert port.uart.receive(b"abc") == 0


def test_thre_interrupt_on_enable_on_write_and_cleared_by_iir(port: Port) -> None:
    port[IER] = 2
    assert port.raised()
    assert port[IIR] == 0x02
    assert not port.raised() and port[IIR] == 0x01
    port[IER] = 2  # already enabled: nothing new
    assert not port.raised()
    port[THR] = 0x41
    assert port.raised() and port[IIR] == 0x02
    assert not port.raised()


def test_a_write_with_thre_pending_makes_a_new_edge(port: Port) -> None:
    port[IER] = 2
    port.changes.clear()
    port[THR] = 0x41
    assert port.changes == [False, True]


def test_reading_iir_for_a_higher_cause_keeps_thre(port: Port) -> None:
    port[IER] = 3
    port.uart.receive(b"q")
    port.characters(1)
    assert port[IIR] == 0x04
    port[RBR]
    assert port[IIR] == 0x02
    assert port[IIR] == 0x01


def test_interrupt_priorities(port: Port) -> None:
    port[FCR] = 0x01
    port[IER] = 0x0F
    port.uart.receive_break()
    port[MCR] = 0x14
    port[MCR] = 0x00  # RI fell in loop mode: TERI
    assert port[IIR] == 0xC6
    assert port[LSR] & 0x9A == 0x98  # break, framing error, error in FIFO
    assert port[IIR] == 0xC4
    assert port[RBR] == 0
    assert port[LSR] & 0x80 == 0
    assert port[IIR] == 0xC2
    assert port[IIR] == 0xC0
    assert port[MSR] & 0x0F
    assert port[IIR] == 0xC1


def test_loopback_returns_data_and_modem_lines(port: Port) -> None:
    port[MCR] = 0x1E
    port[THR] = 0xAE
    assert port[RBR] == 0xAE  # at once: firmware and kernels test a port like this
    assert port.sent == []
    for mcr, msr in ((0x11, 0x20), (0x12, 0x10), (0x14, 0x40), (0x18, 0x80), (0x10, 0x00)):
        port[MCR] = mcr
        assert port[MSR] & 0xF0 == msr
        assert port[MSR] & 0x0F == 0
    port[LCR] = 0x00  # five bits
    port[THR] = 0xFF
    assert port[RBR] == 0x1F


def test_loopback_overruns(port: Port) -> None:
    port[MCR] = 0x10
    port[FCR] = 1
    for value in range(17):
        port[THR] = value
    assert port[LSR] & 0x03 == 0x03
    assert [port[RBR] for _ in range(16)] == list(range(16))


def test_loop_mode_keeps_host_input_for_later(port: Port) -> None:
    port.uart.receive(b"k")
    port[MCR] = 0x10
    port.characters(3)
    assert port[LSR] & 1 == 0
    port[MCR] = 0x03
    port.characters(1)
    assert port[RBR] == ord("k")


def test_fifo_control(port: Port) -> None:
    port[FCR] = 0xC1
    assert port[IIR] == 0xC1
    port.uart.receive(b"abc")
    port.characters(3)
    port[FCR] = 0xC3
    assert port[LSR] == 0x60
    port.uart.receive(b"d")
    port.characters(1)
    port[FCR] = 0x00  # leaving FIFO mode clears, too
    assert port[LSR] == 0x60 and port[IIR] == 0x01
    port[FCR] = 0xC0  # without bit 0 nothing is programmed
    assert port[IIR] == 0x01


def test_scratch_and_reserved_bits(port: Port) -> None:
    port[SCR], port[IER], port[MCR], port[LSR], port[MSR] = 0xA5, 0xFF, 0xFF, 0xFF, 0xFF
    assert (port[SCR], port[IER], port[MCR], port[LSR]) == (0xA5, 0x0F, 0x1F, 0x60)


def test_restore_takes_the_character_on_the_line_and_the_timeout_along(port: Port) -> None:
    port[FCR], port[IER] = 0xC1, 1
    port.uart.receive(b"zz")
    port.clock.advance(port.uart.character_ns * 3 // 2)
    twin = Port(port.clock)
    twin.uart.restore(port.uart.state())
    for _ in range(8):
        port.clock.advance(port.uart.character_ns)
        assert twin.uart.state() == port.uart.state()
        assert twin.raised() == port.raised()
    assert twin[IIR] == 0xCC


def test_reset_lowers_the_line_and_stops_the_receiver(port: Port) -> None:
    port.uart.receive(b"abc")
    port[IER] = 2
    port.uart.reset()
    assert not port.raised()
    port.clock.advance(10**9)
    assert port[LSR] == 0x60
