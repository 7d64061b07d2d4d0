"""The 8259A pair against its data sheet."""

from __future__ import annotations

import random

import pytest

from hypervisor.bus import Device, Line
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.i8254 import I8254
from hypervisor.devices.i8259 import I8259Pair
from hypervisor.errors import DeviceError

MASTER, MASTER_DATA, SLAVE, SLAVE_DATA, ELCR1, ELCR2 = range(6)


class Pic(I8259Pair):
    """A pair initialised as PC kernels do: vectors 20h and 28h, nothing masked."""

    def __init__(self, icw4: int = 0x01, slave_icw4: int = 0x01) -> None:
        self.changes: list[bool] = []
        super().__init__(Line("intr", self.changes.append))
        for offset, value in (
            (MASTER, 0x11), (MASTER_DATA, 0x20), (MASTER_DATA, 0x04), (MASTER_DATA, icw4),
            (SLAVE, 0x11), (SLAVE_DATA, 0x28), (SLAVE_DATA, 0x02), (SLAVE_DATA, slave_icw4),
        ):  # fmt: skip
            self.write(offset, 1, value)

    def command(self, value: int, chip: int = MASTER) -> None:
        self.write(chip, 1, value)

    def irr(self, chip: int = MASTER) -> int:
        self.write(chip, 1, 0x0A)
        return self.read(chip, 1)

    def isr(self, chip: int = MASTER) -> int:
        self.write(chip, 1, 0x0B)
        return self.read(chip, 1)


@pytest.fixture
def pic() -> Pic:
    return Pic()


def test_nothing_interrupts_before_initialisation() -> None:
    pair = I8259Pair(Line())
    pair.line(3).raise_()
    assert not pair.pending()
    pair.write(MASTER_DATA, 1, 0xA5)  # the mask reads back: this is how kernels probe for the chip
    assert pair.read(MASTER_DATA, 1) == 0xA5


def test_request_acknowledge_end(pic: Pic) -> None:
    pic.line(4).raise_()
    assert pic.pending() and pic.irr() == 0x10 and pic.isr() == 0
    assert pic.acknowledge() == 0x24
    assert not pic.pending() and pic.irr() == 0 and pic.isr() == 0x10
    pic.command(0x20)
    assert pic.isr() == 0 and not pic.pending()


def test_an_edge_interrupts_once_until_the_wire_falls(pic: Pic) -> None:
    pic.line(1).raise_()
    pic.acknowledge()
    pic.command(0x20)
    assert not pic.pending()
    pic.line(1).lower()
    pic.line(1).raise_()
    assert pic.pending()


def test_an_edge_stays_requested_when_the_wire_falls(pic: Pic) -> None:
    pic.line(1).pulse()
    assert pic.acknowledge() == 0x21


def test_mask_hides_and_keeps_a_request(pic: Pic) -> None:
    pic.write(MASTER_DATA, 1, 0x02)
    pic.line(1).pulse()
    assert not pic.pending() and pic.irr() == 0x02
    pic.write(MASTER_DATA, 1, 0x00)
    assert pic.pending()


def test_fully_nested_priorities(pic: Pic) -> None:
    pic.line(5).pulse()
    assert pic.acknowledge() == 0x25
    pic.line(6).pulse()
    assert not pic.pending()
    pic.line(3).pulse()
    assert pic.acknowledge() == 0x23
    assert pic.isr() == 0x28
    pic.command(0x20)  # non-specific: ends the highest
    assert pic.isr() == 0x20
    pic.command(0x65)  # specific
    assert pic.acknowledge() == 0x26


def test_slave_requests_come_through_ir2(pic: Pic) -> None:
    pic.line(12).raise_()
    assert pic.irr() == 0x04 and pic.irr(SLAVE) == 0x10
    assert pic.acknowledge() == 0x2C
    assert pic.isr() == 0x04 and pic.isr(SLAVE) == 0x10
    pic.line(8).raise_()  # higher on the slave, but its master's level is in service
    assert not pic.pending()
    pic.command(0x20, SLAVE)
    assert not pic.pending()
    pic.command(0x20)
    assert pic.acknowledge() == 0x28


def test_slave_sits_between_irq_1_and_3(pic: Pic) -> None:
    for irq in (3, 9, 1):
        pic.line(irq).pulse()
    order = []
    while pic.pending():
        vector = pic.acknowledge()
        order.append(vector)
        if vector >= 0x28:
            pic.command(0x20, SLAVE)
        pic.command(0x20)
    assert order == [0x21, 0x29, 0x23]


def test_special_fully_nested_mode_lets_the_slave_interrupt_itself() -> None:
    pic = Pic(icw4=0x11)
    pic.line(12).pulse()
    assert pic.acknowledge() == 0x2C
    pic.line(8).pulse()
    assert pic.pending() and pic.acknowledge() == 0x28
    assert pic.isr(SLAVE) == 0x11


def test_spurious_interrupts_of_master_and_slave(pic: Pic) -> None:
    pic.write(ELCR1, 2, 0x0808)
    pic.line(3).raise_()
    pic.line(3).lower()
    assert not pic.pending()
    assert pic.acknowledge() == 0x27 and pic.isr() == 0
    pic.line(11).raise_()
    pic.line(11).lower()  # the slave has told the master, who remembers
    assert pic.acknowledge() == 0x2F
    assert pic.isr() == 0x04 and pic.isr(SLAVE) == 0


def test_level_triggered_requests_last_as_long_as_the_wire(pic: Pic) -> None:
    pic.write(ELCR2, 1, 0x08)
    pic.line(11).raise_()
    assert pic.acknowledge() == 0x2B
    pic.command(0x20, SLAVE)
    pic.command(0x20)
    assert pic.pending() and pic.acknowledge() == 0x2B
    pic.line(11).lower()
    pic.command(0x20, SLAVE)
    pic.command(0x20)
    assert not pic.pending()


def test_elcr_cannot_make_system_inputs_level_triggered(pic: Pic) -> None:
    pic.write(ELCR1, 2, 0xFFFF)
    assert pic.read(ELCR1, 2) == 0xDEF8


def test_elcr_shows_a_wire_that_is_already_high(pic: Pic) -> None:
    pic.line(5).raise_()
    pic.acknowledge()
    pic.command(0x20)
    assert not pic.pending()
    pic.write(ELCR1, 1, 0x20)
    assert pic.pending()


def test_automatic_end_of_interrupt() -> None:
    pic = Pic(icw4=0x03)
    pic.line(3).pulse()
    pic.line(4).pulse()
    assert pic.acknowledge() == 0x23 and pic.isr() == 0
    assert pic.acknowledge() == 0x24


def test_automatic_end_on_the_slave_tells_the_master_of_the_next() -> None:
    pic = Pic(icw4=0x03, slave_icw4=0x03)
    pic.line(9).pulse()
    pic.line(10).pulse()
    assert [pic.acknowledge(), pic.acknowledge()] == [0x29, 0x2A]
    assert not pic.pending()


def test_automatic_rotation_takes_turns() -> None:
    pic = Pic(icw4=0x03)
    pic.command(0x80)
    for irq in (3, 4):
        pic.line(irq).pulse()
    first = pic.acknowledge()
    pic.line(3).pulse()
    assert [first, pic.acknowledge(), pic.acknowledge()] == [0x23, 0x24, 0x23]
    pic.command(0x00)
    assert pic.state().master.rotate_auto_eoi is False


def test_rotate_on_non_specific_end(pic: Pic) -> None:
    pic.line(3).pulse()
    pic.acknowledge()
    pic.command(0xA0)  # 3 is the lowest now, 4 the highest
    pic.line(3).pulse()
    pic.line(0).pulse()
    pic.line(4).pulse()
    assert pic.acknowledge() == 0x24
    pic.command(0x20)
    assert pic.acknowledge() == 0x20


def test_rotate_on_specific_end_and_set_priority(pic: Pic) -> None:
    pic.line(6).pulse()
    pic.acknowledge()
    pic.command(0xE6)
    assert pic.isr() == 0 and pic.state().master.top == 7
    pic.command(0xC4)  # 4 lowest, 5 highest
    pic.line(4).pulse()
    pic.line(5).pulse()
    assert pic.acknowledge() == 0x25


def test_special_mask_mode(pic: Pic) -> None:
    pic.line(3).pulse()
    pic.acknowledge()
    pic.write(MASTER_DATA, 1, 0x08)
    pic.line(6).pulse()
    assert not pic.pending()
    pic.command(0x68)
    assert pic.pending()  # the masked level in service holds nobody back
    assert pic.acknowledge() == 0x26
    pic.command(0x20)
    assert pic.isr() == 0x08  # and a non-specific EOI does not end it
    pic.command(0x48)
    pic.line(7).pulse()
    assert not pic.pending()


def test_poll_mode_acknowledges(pic: Pic) -> None:
    pic.command(0x0C)
    assert pic.read(MASTER, 1) == 0
    pic.line(4).pulse()
    pic.command(0x0C)
    assert pic.read(MASTER_DATA, 1) == 0x84
    assert pic.isr() == 0x10 and not pic.pending()
    pic.line(10).pulse()
    pic.command(0x0C, SLAVE)
    assert pic.read(SLAVE, 1) == 0x82
    assert pic.isr(SLAVE) == 0x04


def test_icw1_starts_over(pic: Pic) -> None:
    pic.line(1).raise_()
    pic.line(4).pulse()
    pic.acknowledge()
    pic.write(MASTER_DATA, 1, 0xFF)
    pic.command(0x13)  # single, with ICW4
    assert not pic.pending()
    pic.write(MASTER_DATA, 1, 0x47)
    pic.write(MASTER_DATA, 1, 0x01)
    assert pic.read(MASTER_DATA, 1) == 0 and pic.irr() == 0 and pic.isr() == 0
    assert not pic.pending()  # IRQ 1 is still high: it needs a new edge
    pic.line(1).lower()
    pic.line(1).raise_()
    assert pic.acknowledge() == 0x41


def test_icw1_without_icw4_ends_after_icw3(pic: Pic) -> None:
    pic.command(0x10)
    pic.write(MASTER_DATA, 1, 0x30)
    pic.write(MASTER_DATA, 1, 0x04)
    pic.line(0).pulse()
    assert pic.acknowledge() == 0x30


@pytest.mark.parametrize("irq", [-1, 2, 16])
def test_inputs_that_do_not_exist(pic: Pic, irq: int) -> None:
    with pytest.raises(DeviceError, match=f"no interrupt input {irq}"):
        pic.line(irq)


def test_intr_follows_pending(pic: Pic) -> None:
    pic.line(7).pulse()
    assert pic.changes == [True]
    pic.acknowledge()
    assert pic.changes == [True, False]


def test_restore_brings_requests_back(pic: Pic) -> None:
    pic.line(10).raise_()
    twin = I8259Pair(Line())
    twin.restore(pic.state())
    twin.line(10).raise_()  # the device at the other end shows its level: no new edge
    assert twin.pending() and twin.acknowledge() == 0x2A
    twin.write(SLAVE, 1, 0x20)
    twin.write(MASTER, 1, 0x20)
    assert not twin.pending()


@pytest.mark.parametrize("pic_first", [True, False])
def test_a_restored_board_gets_every_tick(pic_first: bool) -> None:
    clock = ManualClock()

    def board() -> tuple[Pic, I8254]:
        pic = Pic(icw4=0x03)
        return pic, I8254(pic.line(0), clock)

    pic, pit = board()
    for port, value in ((3, 0x36), (0, 0x9C), (0, 0x2E)):
        pit.write(port, 1, value)
    clock.advance(17_000_000)  # into the low half of the second period
    while pic.pending():
        pic.acknowledge()
    new_pic, new_pit = board()
    states: list[tuple[Device, object]] = [(new_pic, pic.state()), (new_pit, pit.state())]
    for device, state in states if pic_first else reversed(states):
        device.restore(state)
    for _ in range(5):
        clock.advance(10_000_000)
        assert [pic.pending(), new_pic.pending()] == [True, True]
        assert [pic.acknowledge(), new_pic.acknowledge()] == [0x20, 0x20]


def test_reset_keeps_the_levels_of_the_wires(pic: Pic) -> None:
    pic.line(9).raise_()
    pic.reset()
    assert not pic.pending() and pic.state().slave.levels == 0x02


class Oracle:
    """One 8259A in fully nested mode by the words of the data sheet, one level at a time."""

    def __init__(self) -> None:
        self.requests: set[int] = set()
        self.serving: list[int] = []
        self.order = list(range(8))

    def best(self, mask: int) -> int | None:
        for irq in self.order:
            if irq in self.serving:
                return None
            if irq in self.requests and not mask >> irq & 1:
                return irq
        return None


@pytest.mark.parametrize("seed", range(5))
def test_random_walk_of_the_master_agrees_with_an_oracle(seed: int) -> None:
    rng = random.Random(seed)
    pic, oracle, mask = Pic(), Oracle(), 0
    for _ in range(2000):
        action = rng.randrange(5)
        if action == 0:
            irq = rng.choice((0, 1, 3, 4, 5, 6, 7))
            pic.line(irq).pulse()
            oracle.requests.add(irq)
        elif action == 1:
            mask = rng.getrandbits(8) & rng.getrandbits(8)
            pic.write(MASTER_DATA, 1, mask)
        elif action == 2:
            best = oracle.best(mask)
            if best is not None:
                assert pic.acknowledge() == 0x20 + best
                oracle.requests.remove(best)
                oracle.serving.append(best)
            else:
                assert pic.acknowledge() == 0x27
        else:
            rotate = rng.random() < 0.3
            pic.command(0xA0 if rotate else 0x20)
            ended = next((irq for irq in oracle.order if irq in oracle.serving), None)
            if ended is not None:
                oracle.serving.remove(ended)
                if rotate:
                    at = oracle.order.index(ended)
                    oracle.order = oracle.order[at + 1 :] + oracle.order[: at + 1]
        assert pic.pending() == (oracle.best(mask) is not None)
