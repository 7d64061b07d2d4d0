"""A clock that tests turn by hand, and local APICs on it."""

from __future__ import annotations

import pytest

from hypervisor.bus.clock import ManualClock
from hypervisor.devices.apic_bus import ApicBus
from tests.devices.local_apics import Cpu


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cpu(clock: ManualClock) -> Cpu:
    return Cpu(clock, ApicBus()).enable()


@pytest.fixture
def cpus(clock: ManualClock) -> list[Cpu]:
    bus = ApicBus()
    return [Cpu(clock, bus, number).enable() for number in range(4)]
