"""Local APICs with processors that write down what happens to them."""

from __future__ import annotations

from hypervisor.arch import apic_registers as r
from hypervisor.arch.apic_registers import Mode
from hypervisor.bus import Line
from hypervisor.bus.clock import ManualClock
from hypervisor.devices.apic_bus import ApicBus, Message
from hypervisor.devices.local_apic import LocalApic, Pins

ENABLED = 0x1FF


class Cpu:
    """A local APIC with a processor that writes down what happens to it."""

    def __init__(self, clock: ManualClock, bus: ApicBus, number: int = 0, external: Pic | None = None) -> None:
        self.intr = Line()
        self.events: list[object] = []
        pins = Pins(
            self.intr,
            lambda: self.events.append("nmi"),
            lambda: self.events.append("init"),
            lambda vector: self.events.append(vector),
        )
        self.apic = LocalApic(pins, clock, bus, number, bootstrap=number == 0, external=external)

    def write(self, offset: int, value: int) -> None:
        self.apic.write(offset, 4, value)

    def read(self, offset: int) -> int:
        return self.apic.read(offset, 4)

    def enable(self) -> Cpu:
        self.write(r.SVR, ENABLED)
        return self

    def send(self, value: int, to: int = 0) -> None:
        self.write(r.ICR_HIGH, to << 24)
        self.write(r.ICR_LOW, value)


class Pic:
    """An 8259 that always answers with the same vector."""

    def __init__(self) -> None:
        self.acknowledged = 0

    def pending(self) -> bool:
        return True

    def acknowledge(self) -> int:
        self.acknowledged += 1
        return 0x08


def interrupt(cpu: Cpu, vector: int, level: bool = False) -> None:
    cpu.apic.receive(Message(Mode.FIXED, vector, level=level))


def hit(cpus: list[Cpu]) -> list[int]:
    return [number for number, cpu in enumerate(cpus) if cpu.intr.level]
