"""The wires between local APICs and I/O APICs: interrupt messages and their destinations.

Source: Intel SDM volume 3A, 10.6.2 "Determining IPI Destination", 10.6.2.4 "Lowest Priority Delivery Mode".

Lowest-priority delivery goes to the accepting APIC with the lowest processor priority, and among equals to the lowest
APIC id: the manual leaves the choice to the processor, and this one repeats.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from hypervisor.arch.apic_registers import BROADCAST, Mode


class Message(NamedTuple):
    """One interrupt on its way."""

    mode: Mode
    vector: int
    destination: int = BROADCAST
    """An APIC id (`BROADCAST` is everybody), or a logical destination."""
    logical: bool = False
    level: bool = False
    """Level triggered: the end of interrupt is told to the I/O APICs."""


def from_byte(destination: int, logical: bool) -> int:
    """Whom an xAPIC or an I/O APIC means by eight bits: FFh is everybody, unless it is a logical destination."""
    return BROADCAST if destination == 0xFF and not logical else destination


class Receiver(Protocol):
    """A local APIC as its peers see it."""

    @property
    def apic_id(self) -> int:
        """What the ID register says."""
        ...

    @property
    def priority(self) -> int:
        """The processor priority, for lowest-priority arbitration."""
        ...

    def answers(self, destination: int, logical: bool) -> bool:
        """Whether a message with this destination is for this APIC."""
        ...

    @property
    def accepts(self) -> bool:
        """Whether it takes fixed interrupts: software-enabled."""
        ...

    def receive(self, message: Message) -> None:
        """Take a message."""
        ...


class EoiListener(Protocol):
    """An I/O APIC as it hears the end of level-triggered interrupts."""

    def end_of_interrupt(self, vector: int) -> None:
        """The EOI message that a local APIC broadcasts."""
        ...


class ApicBus:
    """Carries messages at once and in order. It has no state of its own."""

    def __init__(self) -> None:
        self._receivers: list[Receiver] = []
        self._listeners: list[EoiListener] = []

    def join(self, receiver: Receiver) -> None:
        """A local APIC joins."""
        self._receivers.append(receiver)

    def listen(self, listener: EoiListener) -> None:
        """An I/O APIC joins."""
        self._listeners.append(listener)

    def send(self, message: Message) -> bool:
        """Deliver to whom the message is addressed; False if nobody takes it."""
        found = [one for one in self._receivers if one.answers(message.destination, message.logical)]
        return self._deliver(message, found)

    def send_all(self, message: Message, but: Receiver | None = None) -> bool:
        """Deliver to everybody, or to everybody but one."""
        return self._deliver(message, [one for one in self._receivers if one is not but])

    def end_of_interrupt(self, vector: int) -> None:
        """A level-triggered interrupt has been served."""
        for listener in self._listeners:
            listener.end_of_interrupt(vector)

    @staticmethod
    def _deliver(message: Message, found: list[Receiver]) -> bool:
        if message.mode is Mode.FIXED or message.mode is Mode.LOWEST:
            found = [one for one in found if one.accepts]
            if message.mode is Mode.LOWEST and len(found) > 1:
                found = [min(found, key=lambda one: (one.priority, one.apic_id))]
        for one in found:
            one.receive(message)
        return bool(found)
