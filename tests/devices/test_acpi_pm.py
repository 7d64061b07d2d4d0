"""ACPI's fixed hardware: the timer, events, S5 and the switch to ACPI mode."""

from __future__ import annotations

import pytest

from hypervisor.bus import Line
from hypervisor.bus.clock import ManualClock
from hypervisor.devices import acpi_pm as p


class Pm:
    def __init__(self, clock: ManualClock) -> None:
        self.sci = Line()
        self.off = 0
        self.device = p.AcpiPm(self.sci, clock, self._power_off)

    def _power_off(self) -> None:
        self.off += 1


@pytest.fixture
def pm(clock: ManualClock) -> Pm:
    return Pm(clock)


def test_the_timer_counts_at_its_rate_and_wraps_at_24_bits(pm: Pm, clock: ManualClock) -> None:
    assert pm.device.read(p.TIMER, 4) == 0
    clock.advance(1_000_000_000)
    assert pm.device.read(p.TIMER, 4) == 3_579_545
    assert sum(pm.device.read(p.TIMER + n, 1) << 8 * n for n in range(4)) == 3_579_545
    clock.advance(4_000_000_000)
    assert pm.device.read(p.TIMER, 4) == 5 * 3_579_545 & 0xFFFFFF


def test_the_carry_interrupts_when_it_is_enabled(pm: Pm, clock: ManualClock) -> None:
    pm.device.write(p.SMI, 1, p.ACPI_ENABLE)
    pm.device.write(p.EVENT + 2, 2, p.TMR_STS)
    half = (1 << 23) * 1_000_000_000 // p.TIMER_HZ
    clock.advance(half - 1000)
    assert not pm.sci.level
    clock.advance(2000)
    assert pm.sci.level
    assert pm.device.read(p.EVENT, 2) == p.TMR_STS
    pm.device.write(p.EVENT, 2, p.TMR_STS)
    assert not pm.sci.level
    clock.advance(half)
    assert pm.sci.level


def test_the_carry_sets_its_status_without_an_interrupt(pm: Pm, clock: ManualClock) -> None:
    clock.advance(3_000_000_000)
    assert pm.device.read(p.EVENT, 2) == p.TMR_STS
    assert not pm.sci.level


def test_the_power_button_interrupts_in_acpi_mode(pm: Pm) -> None:
    pm.device.write(p.EVENT + 2, 2, p.PWRBTN_STS)
    pm.device.press_power_button()
    assert not pm.sci.level
    pm.device.write(p.SMI, 1, p.ACPI_ENABLE)
    assert pm.sci.level
    pm.device.write(p.EVENT + 1, 1, p.PWRBTN_STS >> 8)
    assert not pm.sci.level


def test_acpi_mode_is_switched_by_the_smi_port(pm: Pm) -> None:
    assert not pm.device.read(p.CONTROL, 2) & p.SCI_EN
    pm.device.write(p.SMI, 1, p.ACPI_ENABLE)
    assert pm.device.read(p.CONTROL, 2) & p.SCI_EN
    pm.device.write(p.SMI, 1, p.ACPI_DISABLE)
    assert not pm.device.read(p.CONTROL, 2) & p.SCI_EN


@pytest.mark.parametrize("size", [2, 4])
def test_s5_powers_off_and_other_sleeps_do_not(pm: Pm, size: int) -> None:
    pm.device.write(p.CONTROL, size, p.SLP_EN | 3 << 10)
    pm.device.write(p.CONTROL, size, p.S5 << 10)
    assert pm.off == 0
    pm.device.write(p.CONTROL, size, p.SLP_EN | p.S5 << 10)
    assert pm.off == 1
