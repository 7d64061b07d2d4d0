"""The local APIC in x2APIC mode (SDM volume 3A, 10.12): which MSRs exist, what they take, and who is meant."""

from __future__ import annotations

import random
from itertools import product

import pytest

from hypervisor.arch import apic_registers as r
from hypervisor.arch import msr
from hypervisor.arch.apic_registers import Mode, Shorthand
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.apic_bus import ApicBus, Message
from hypervisor.devices.ioapic import IOREGSEL, IOWIN, IoApic
from hypervisor.devices.local_apic import LocalApic
from hypervisor.errors import DeviceError
from tests.devices.local_apics import Cpu, Pic, interrupt

ENABLED = 0x1FF
EVERYBODY = 0xFFFF_FFFF
WORD = 0xFFFF_FFFF
READ_ONLY = [0x802, 0x803, 0x80A, 0x80D, *range(0x810, 0x828), 0x839]
WRITE_ONLY = {0x80B: 0, 0x83F: 0xFF}
BOTH = {
    0x808: 0xFF,
    0x80F: 0x3FF,
    0x828: 0,
    0x830: WORD << 32 | 0xCCFFF & ~(1 << 12),
    0x832: 0x310FF,
    0x833: 0x117FF,
    0x834: 0x117FF,
    0x835: 0x1F7FF,
    0x836: 0x1F7FF,
    0x837: 0x110FF,
    0x838: WORD,
    0x83E: 0xB,
}
"""Table 10-6, with the bits that may be set: figures 10-8, 10-10, 10-18, 10-23, 10-28 to 10-31."""


class X2Cpu(Cpu):
    """A processor whose APIC is in x2APIC mode."""

    def __init__(self, clock: ManualClock, bus: ApicBus, number: int = 0, external: Pic | None = None) -> None:
        super().__init__(clock, bus, number, external)
        self.apic.switch(True, True)
        self.wrmsr(0x80F, ENABLED)

    def rdmsr(self, number: int) -> int:
        value = self.apic.msrs.read(number)
        assert value is not None, f"#GP from RDMSR {number:#x}"
        return value

    def wrmsr(self, number: int, value: int) -> None:
        assert self.apic.msrs.write(number, value), f"#GP from WRMSR {number:#x}"


@pytest.fixture
def cpu(clock: ManualClock) -> X2Cpu:
    return X2Cpu(clock, ApicBus())


# ---- registers


def test_the_registers_that_exist_are_those_of_the_table(cpu: X2Cpu) -> None:
    readable = [number for number in range(0x800, 0x900) if cpu.apic.msrs.read(number) is not None]
    writable = [number for number in range(0x800, 0x900) if cpu.apic.msrs.write(number, 0)]
    assert readable == sorted([*READ_ONLY, *BOTH])
    assert writable == sorted([*WRITE_ONLY, *BOTH])


@pytest.mark.parametrize("number", [*WRITE_ONLY, *BOTH])
def test_a_reserved_bit_is_refused_and_changes_nothing(cpu: X2Cpu, number: int) -> None:
    taken = (WRITE_ONLY | BOTH)[number]
    for bit in range(64):
        before = cpu.apic.state()
        if not taken >> bit & 1:
            assert not cpu.apic.msrs.write(number, 1 << bit), bit
            assert cpu.apic.state() == before
        else:
            assert cpu.apic.msrs.write(number, 1 << bit), bit


def test_in_another_mode_there_are_none_and_in_this_one_there_is_no_page(clock: ManualClock) -> None:
    cpu = Cpu(clock, ApicBus()).enable()
    for enabled, x2apic in ((True, False), (False, False)):
        cpu.apic.switch(enabled, x2apic)
        assert all(cpu.apic.msrs.read(n) is None and not cpu.apic.msrs.write(n, 0) for n in range(0x800, 0x900))
    cpu.apic.switch(True, False)
    cpu.apic.switch(True, True)
    before = cpu.apic.state()
    for offset in range(0, 0x400, 4):
        assert cpu.read(offset) == WORD
        cpu.write(offset, 0x33)
    assert cpu.apic.read(r.ID, 8) == (1 << 64) - 1
    assert cpu.apic.state() == before


def test_the_ids_are_32_bits_wide_and_the_logical_one_follows(clock: ManualClock) -> None:
    found = []
    for number in (0, 3, 17, 255):
        cpu = X2Cpu(clock, ApicBus(), number)
        found.append((cpu.rdmsr(0x802), cpu.rdmsr(0x80D)))
    assert found == [(0, 1), (3, 8), (17, 0x1_0002), (255, 0xF_8000)]


def test_the_icr_is_one_register(cpu: X2Cpu) -> None:
    cpu.wrmsr(0x830, 0x1234_5678_0000_4455)
    assert cpu.rdmsr(0x830) == 0x1234_5678_0000_4455
    cpu.wrmsr(0x83F, 0x61)
    assert cpu.rdmsr(0x830) == 0x1234_5678_0000_4455


def test_bits_that_are_read_only_may_be_written_back(cpu: X2Cpu) -> None:
    cpu.wrmsr(0x835, r.LEVEL | 0x44)
    cpu.apic.lint0(True)
    value = cpu.rdmsr(0x835)
    assert value == r.LEVEL | r.REMOTE_IRR | 0x44
    cpu.wrmsr(0x835, value | r.PENDING)
    assert cpu.rdmsr(0x835) == value


def test_priorities_the_timer_and_errors_are_those_of_the_other_mode(cpu: X2Cpu, clock: ManualClock) -> None:
    interrupt(cpu, 0x55)
    assert cpu.rdmsr(0x822) == 1 << 0x15
    assert (cpu.apic.acknowledge(), cpu.rdmsr(0x812), cpu.rdmsr(0x80A)) == (0x55, 1 << 0x15, 0x50)
    cpu.wrmsr(0x80B, 0)
    cpu.wrmsr(0x808, 0x67)
    assert (cpu.rdmsr(0x80A), cpu.apic.task_class) == (0x67, 6)
    cpu.wrmsr(0x83E, 0xB)
    cpu.wrmsr(0x832, 0x71)
    cpu.wrmsr(0x838, 1000)
    clock.advance(400)
    assert cpu.rdmsr(0x839) == 600
    clock.advance(600)
    assert cpu.apic.acknowledge() == 0x71
    cpu.wrmsr(0x83F, 0x0F)
    cpu.wrmsr(0x828, 0)
    assert cpu.rdmsr(0x828) == r.ESR_SEND_ILLEGAL


# ---- modes

_X, _E = msr.APIC_BASE_X2APIC, msr.APIC_BASE_ENABLE
LEGAL = {
    (_E, _E), (_E, 0), (_E, _E | _X),  # from xAPIC mode
    (_E | _X, _E | _X), (_E | _X, 0),  # from x2APIC mode
    (0, 0), (0, _E),  # from where it is disabled
}  # fmt: skip
"""Figure 10-27, and staying in a mode."""


def test_only_the_manuals_transitions_are_legal() -> None:
    at = msr.APIC_BASE_RESET | msr.APIC_BASE_BSP
    for before, after in product((0, _E, _E | _X), (0, _E, _X, _E | _X)):
        assert (msr.apic_base_after(at | before, at | after) is not None) == ((before, after) in LEGAL), (before, after)
    assert msr.apic_base_after(at | _E, at | _E | _X, offered=False) is None
    assert msr.apic_base_after(at | _E, 0xD000_0000 | _E | _X) == 0xD000_0000 | _E | _X | msr.APIC_BASE_BSP


def test_entering_the_mode_keeps_all_but_the_ids_and_the_upper_half_of_the_icr(clock: ManualClock) -> None:
    cpu = Cpu(clock, ApicBus(), 3).enable()
    cpu.write(r.TPR, 0x22)
    cpu.write(r.LVT_ERROR, 0x99)
    cpu.write(r.ID, 9 << 24)
    cpu.write(r.LDR, 4 << 24)
    cpu.send(r.LOGICAL | 0x77, to=4)
    before = cpu.apic.state()
    cpu.apic.switch(True, True)
    after = cpu.apic.state()
    assert (after.x2apic, after.id, after.ldr, after.icr_high) == (True, 3, 0, 0)
    before.x2apic, before.id, before.ldr, before.icr_high = True, 3, 0, 0
    assert before == after and after.irr == 1 << 0x77


@pytest.mark.parametrize("how", ["INIT", "reset", "off and on"])
def test_what_is_left_of_it(clock: ManualClock, how: str) -> None:
    """10.12.5.1: an INIT keeps the mode, a reset and a visit to the disabled state do not."""
    cpu, fresh = X2Cpu(clock, ApicBus(), 3), Cpu(clock, ApicBus(), 3).apic.state()
    cpu.wrmsr(0x808, 0x22)
    cpu.wrmsr(0x830, 7 << 32 | 0x40)
    if how == "INIT":
        cpu.apic.receive(Message(Mode.INIT, 0))
        fresh.x2apic = True
    elif how == "reset":
        cpu.apic.reset()
    else:
        cpu.apic.switch(False, False)
        assert cpu.apic.state().x2apic is False
        cpu.apic.switch(True, False)
    assert cpu.apic.state() == fresh


def test_a_state_of_the_invalid_mode_is_refused(cpu: X2Cpu) -> None:
    state = cpu.apic.state()
    cpu.apic.restore(state)
    state.enabled = False
    with pytest.raises(DeviceError, match="x2apic is set, and"):
        cpu.apic.restore(state)


# ---- destinations


@pytest.fixture
def cpus(clock: ManualClock) -> list[X2Cpu]:
    """Those with the ids 0, 1, 15, 16, 17, 32 and 255."""
    bus = ApicBus()
    return [X2Cpu(clock, bus, number) for number in (0, 1, 15, 16, 17, 32, 255)]


def hit(cpus: list[X2Cpu], vector: int) -> list[int]:
    found = [cpu for cpu in cpus if cpu.apic.state().irr >> vector & 1]
    for cpu in found:
        assert cpu.apic.acknowledge() == vector
        cpu.wrmsr(0x80B, 0)
    return [cpu.apic.apic_id for cpu in found]


@pytest.mark.parametrize(
    "to, expected",
    [(0, [0]), (15, [15]), (255, [255]), (2, []), (0x1_0010, []), (EVERYBODY, [0, 1, 15, 16, 17, 32, 255])],
)
def test_physical_destinations(cpus: list[X2Cpu], to: int, expected: list[int]) -> None:
    cpus[1].wrmsr(0x830, to << 32 | 0x50)
    assert hit(cpus, 0x50) == expected


@pytest.mark.parametrize(
    "to, expected",
    [
        (0x0000_8003, [0, 1, 15]),
        (0x0001_FFFF, [16, 17]),
        (0x0001_0002, [17]),
        (0x0002_0001, [32]),
        (0x000F_8000, [255]),
        (0x000F_7FFF, []),
        (0x0003_FFFF, []),
        (0, []),
        (0x0000_00FF, [0, 1]),
        (EVERYBODY, [0, 1, 15, 16, 17, 32, 255]),
    ],
)
def test_logical_destinations(cpus: list[X2Cpu], to: int, expected: list[int]) -> None:
    cpus[1].wrmsr(0x830, to << 32 | r.LOGICAL | 0x50)
    assert hit(cpus, 0x50) == expected


@pytest.mark.parametrize(
    "shorthand, expected",
    [
        (Shorthand.SELF, [1]),
        (Shorthand.ALL, [0, 1, 15, 16, 17, 32, 255]),
        (Shorthand.OTHERS, [0, 15, 16, 17, 32, 255]),
    ],
)
def test_shorthands(cpus: list[X2Cpu], shorthand: Shorthand, expected: list[int]) -> None:
    cpus[1].wrmsr(0x830, 17 << 32 | shorthand << 18 | 0x50)
    assert hit(cpus, 0x50) == expected


def test_self_ipi_reaches_itself_alone_and_only_when_it_accepts(cpus: list[X2Cpu]) -> None:
    cpus[2].wrmsr(0x83F, 0x50)
    assert hit(cpus, 0x50) == [15]
    cpus[2].wrmsr(0x80F, 0xFF)
    cpus[2].wrmsr(0x83F, 0x50)
    assert hit(cpus, 0x50) == []


def test_start_up_reaches_those_that_are_not_in_this_mode_yet(clock: ManualClock) -> None:
    bus = ApicBus()
    first, others = X2Cpu(clock, bus), [Cpu(clock, bus, number) for number in (1, 2)]
    first.wrmsr(0x830, 2 << 32 | Mode.INIT << 8 | r.ASSERT)
    first.wrmsr(0x830, 2 << 32 | Mode.STARTUP << 8 | 0x9A)
    assert [one.events for one in others] == [[], ["init", 0x9A]]
    first.wrmsr(0x830, EVERYBODY << 32 | Mode.NMI << 8)
    assert [one.events for one in (first, *others)] == [["nmi"], ["nmi"], ["init", 0x9A, "nmi"]]


@pytest.mark.parametrize(
    "entry, expected",
    [
        (0x11 << 56 | 0x50, [17]),
        (0xFF << 56 | 0x50, [0, 1, 15, 16, 17, 32, 255]),
        (0x03 << 56 | r.LOGICAL | 0x50, [0, 1]),
    ],
)
def test_messages_of_an_io_apic_have_eight_bits(clock: ManualClock, entry: int, expected: list[int]) -> None:
    bus = ApicBus()
    cpus = [X2Cpu(clock, bus, number) for number in (0, 1, 15, 16, 17, 32, 255)]
    ioapic = IoApic(bus)
    for index, value in ((0x15, entry >> 32), (0x14, entry & WORD)):
        ioapic.write(IOREGSEL, 4, index)
        ioapic.write(IOWIN, 4, value)
    ioapic.drive(2, True)
    assert hit(cpus, 0x50) == expected


def test_random_programs_are_the_same_in_both_modes(clock: ManualClock) -> None:
    """What the modes have in common: the same accesses, by MSR and by the page, leave the same."""
    rng, bus = random.Random(5), (ApicBus(), ApicBus())
    there, here = Cpu(clock, bus[0]).enable(), X2Cpu(clock, bus[1])
    offsets = [r.TPR, r.EOI, r.SVR, r.ESR, r.TIMER_INITIAL, r.TIMER_DIVIDE, *r.LVT_WRITABLE]
    for _ in range(3000):
        offset = rng.choice(offsets)
        number = 0x800 + (offset >> 4)
        value = rng.getrandbits(32) & (WRITE_ONLY | BOTH)[number]
        there.write(offset, value)
        here.wrmsr(number, value)
        vector = rng.randrange(16, 256)
        interrupt(there, vector)
        interrupt(here, vector)
        if rng.random() < 0.5:
            assert there.apic.acknowledge() == here.apic.acknowledge()
        clock.advance(rng.randrange(2000))
        seen = [n for n in (*READ_ONLY, *BOTH) if n not in (0x80D, 0x830)]
        assert [there.read(n - 0x800 << 4) for n in seen] == [here.rdmsr(n) for n in seen]
        assert there.intr.level == here.intr.level


def test_a_name_for_each_register_of_the_mode() -> None:
    named = [number for number in msr.NAMES if number in r.X2APIC_MSRS]
    assert sorted(named) == sorted([*READ_ONLY, *WRITE_ONLY, *BOTH])
    assert (msr.NAMES[0x808], msr.NAMES[0x830], msr.NAMES[0x83F]) == ("X2APIC_TPR", "X2APIC_ICR", "X2APIC_SELF_IPI")


def test_the_page_and_the_mode_are_in_a_state(clock: ManualClock) -> None:
    one, other = X2Cpu(clock, ApicBus(), 3), LocalApic(Cpu(clock, ApicBus()).apic.pins, clock, ApicBus(), 3)
    one.wrmsr(0x830, 0x1234_5678_0000_0077)
    other.restore(one.apic.state())
    assert other.msrs.read(0x830) == 0x1234_5678_0000_0077 and other.read(r.ID, 4) == WORD
