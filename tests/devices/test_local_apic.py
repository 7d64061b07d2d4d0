"""The local APIC: registers, and priorities."""

from __future__ import annotations

import random

import pytest

from hypervisor.arch import apic_registers as r
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.apic_bus import ApicBus
from hypervisor.devices.parts.apic_state import after_reset, new_page, record_of
from tests.devices.local_apics import Cpu, interrupt

# ---- reset and registers (SDM 10.4.7.1)


def test_registers_after_reset(clock: ManualClock) -> None:
    cpu = Cpu(clock, ApicBus(), 3)
    expected = {r.ID: 3 << 24, r.VERSION: 0x50014, r.SVR: 0xFF, r.DFR: 0xFFFFFFFF, r.LDR: 0, r.TPR: 0, r.PPR: 0}
    expected |= dict.fromkeys((r.LVT_TIMER, r.LVT_LINT0, r.LVT_LINT1, r.LVT_ERROR, r.LVT_THERMAL), r.MASKED)
    assert {offset: cpu.read(offset) for offset in expected} == expected
    assert all(cpu.read(base + 16 * n) == 0 for base in (r.ISR, r.TMR, r.IRR) for n in range(8))


@pytest.mark.parametrize("bootstrap", [True, False])
@pytest.mark.parametrize("apic_id", [0, 3])
def test_a_new_page_is_that_of_the_record_and_nobody_elses(apic_id: int, bootstrap: bool) -> None:
    page = new_page(apic_id, bootstrap)
    assert record_of(page) == after_reset(apic_id, bootstrap)
    page.tpr, page.irr = 0x20, 1 << 80
    assert record_of(new_page(apic_id, bootstrap)) == after_reset(apic_id, bootstrap)


@pytest.mark.parametrize("offset", [row.offset for row in r.REGISTERS])
def test_a_register_changes_in_its_writable_bits_only(cpu: Cpu, offset: int) -> None:
    row = next(row for row in r.REGISTERS if row.offset == offset)
    before = cpu.read(offset)
    cpu.write(offset, before)
    if "w" not in row.access:
        cpu.write(offset, before ^ 0xFFFFFFFF)
        assert cpu.read(offset) == before
    if offset in r.LVT_WRITABLE:
        cpu.write(offset, 0xFFFFFFFF)
        assert cpu.read(offset) == r.LVT_WRITABLE[offset]


def test_entries_stay_masked_while_the_software_enable_is_off(clock: ManualClock) -> None:
    cpu = Cpu(clock, ApicBus()).enable()
    cpu.write(r.LVT_TIMER, 0x40)
    cpu.write(r.SVR, 0xFF)
    assert cpu.read(r.LVT_TIMER) == r.MASKED | 0x40
    cpu.write(r.LVT_TIMER, 0x41)
    assert cpu.read(r.LVT_TIMER) == r.MASKED | 0x41


def test_narrow_and_wide_accesses(cpu: Cpu) -> None:
    cpu.write(r.LDR, 0x12345678)
    assert cpu.read(r.LDR) == 0x12000000
    assert cpu.apic.read(r.LDR + 3, 1) == 0x12
    assert cpu.apic.read(r.LDR + 4, 4) == 0
    assert cpu.apic.read(r.LDR, 8) == 0x12000000
    cpu.apic.write(r.LDR, 1, 0xFF)
    cpu.apic.write(r.LDR + 4, 4, 0xFF)  # behind a register there is nothing, and that is no error
    assert cpu.read(r.LDR) == 0x12000000
    cpu.write(r.ESR, 0)
    assert cpu.read(r.ESR) == 0


def test_an_address_without_a_register_is_an_error_that_interrupts_once(cpu: Cpu) -> None:
    cpu.write(r.LVT_ERROR, 0x33)
    cpu.read(0x40)
    assert cpu.apic.acknowledge() == 0x33
    cpu.write(r.EOI, 0)
    cpu.read(0x40)
    assert not cpu.intr.level
    assert cpu.read(r.ESR) == 0
    cpu.write(r.ESR, 0)
    assert cpu.read(r.ESR) == r.ESR_REGISTER
    cpu.write(r.ESR, 0)
    assert cpu.read(r.ESR) == 0


# ---- priorities (SDM 10.8.3)


def test_the_highest_vector_comes_first_and_a_lower_class_waits(cpu: Cpu) -> None:
    for vector in (0x31, 0x55, 0x52):
        interrupt(cpu, vector)
    assert cpu.apic.acknowledge() == 0x55
    assert not cpu.intr.level  # 52h is of the class in service
    assert cpu.read(r.PPR) == 0x50
    cpu.write(r.EOI, 0)
    assert cpu.apic.acknowledge() == 0x52
    cpu.write(r.EOI, 0)
    assert cpu.apic.acknowledge() == 0x31
    cpu.write(r.EOI, 0)
    assert not cpu.intr.level
    assert cpu.apic.acknowledge() == 0xFF  # spurious, and nothing is in service
    assert cpu.read(r.PPR) == 0


def test_the_task_priority_holds_its_class_back_and_is_cr8(cpu: Cpu) -> None:
    interrupt(cpu, 0x45)
    cpu.write(r.TPR, 0x4F)
    assert not cpu.intr.level
    assert (cpu.apic.task_class, cpu.read(r.PPR)) == (4, 0x4F)
    cpu.apic.task_class = 3
    assert cpu.intr.level
    assert cpu.read(r.TPR) == 0x30


def test_random_interrupts_are_served_as_the_manual_orders_them(clock: ManualClock) -> None:
    """Against a model that is a list of vectors, sorted anew each time."""
    rng = random.Random(3)
    cpu = Cpu(clock, ApicBus()).enable()
    waiting: set[int] = set()
    serving: list[int] = []
    task = 0

    def deliverable() -> int | None:
        floor = max([task >> 4, *(vector >> 4 for vector in serving)])
        best = max(waiting, default=0)
        return best if best >> 4 > floor else None

    for _ in range(20_000):
        match rng.randrange(4):
            case 0:
                vector = rng.randrange(16, 256)
                waiting.add(vector)
                interrupt(cpu, vector)
            case 1:
                task = rng.randrange(256) & rng.choice((0, 0x3F, 0xFF))
                cpu.write(r.TPR, task)
            case 2:
                cpu.write(r.EOI, 0)
                serving.remove(max(serving)) if serving else None
            case 3:
                best = deliverable()
                assert cpu.intr.level == (best is not None)
                if best is not None:
                    assert cpu.apic.acknowledge() == best
                    waiting.remove(best)
                    serving.append(best)
    words = sum(cpu.read(r.IRR + 16 * n) << 32 * n for n in range(8))
    assert words == sum(1 << vector for vector in waiting)
