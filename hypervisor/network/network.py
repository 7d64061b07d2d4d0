"""One named network: a switch with a port for each machine, and the frames that are under way in it.

It has no clock. Machines say when they send; who knows that none of them can send before a certain time any more has it
forward what came before that (`forward`). So what it does depends on the times that frames were sent at alone.
"""

from __future__ import annotations

import heapq
import os
from typing import NamedTuple

from hypervisor.errors import ConfigError
from hypervisor.network.capture import LIMIT, Capture
from hypervisor.network.ethernet import MAX_FRAME
from hypervisor.network.ethernet_switch import MAX_PORTS, Switch, SwitchState
from hypervisor.network.link import MAX_SENT, Direction, DirectionState, Link
from hypervisor.state import blob, copied, number, part, record, several, time_ns, wrong
from hypervisor.units import FOREVER_NS

MOST_COMING = 1 << 16
"""Frames that a state may have on the way to one place."""


class UnderWay(NamedTuple):
    """A frame on its way through one direction of a port's link: when it arrives; and, among equal times, the port and
    the order in which it was sent.
    """

    at_ns: int
    port: int
    order: int
    frame: bytes


@record
class UnderWayState:
    """An `UnderWay` as a record."""

    at_ns: int = time_ns()
    port: int = number(0, MAX_PORTS - 1)
    order: int = number(0, MAX_SENT)
    frame: bytes = blob(MAX_FRAME)


@record
class PortState:
    """Both directions of a port's link, and what comes to the machine."""

    up: DirectionState = part(DirectionState)
    down: DirectionState = part(DirectionState)
    order: int = number(0, MAX_SENT)
    coming: list[UnderWayState] = several(UnderWayState, MOST_COMING)


@record
class NetworkState:
    """What the switch knows, its ports, and what comes to it."""

    switch: SwitchState = part(SwitchState)
    ports: list[PortState] = several(PortState, MAX_PORTS)
    coming: list[UnderWayState] = several(UnderWayState, MOST_COMING)


class Port:
    """Where one machine is plugged in."""

    def __init__(self, network: Network, number: int, name: str, link: Link, seed: str) -> None:
        self.network, self.number, self.name, self.link = network, number, name, link
        self.up, self.down = Direction(link, f"{seed} up"), Direction(link, f"{seed} down")
        self.coming: list[UnderWay] = []
        """What comes to the machine, by time: a heap."""
        self.order = 0

    def send(self, now_ns: int, frame: bytes) -> None:
        """The machine sends a frame; its times do not go back."""
        for at_ns in self.up.send(now_ns, len(frame)):
            self.order += 1
            heapq.heappush(self.network.coming, UnderWay(at_ns, self.number, self.order, frame))

    @property
    def next_ns(self) -> int:
        """When the next frame comes to the machine."""
        return self.coming[0].at_ns if self.coming else FOREVER_NS

    def take(self, until_ns: int) -> list[UnderWay]:
        """What comes to the machine up to this time, in order. It is under way no longer."""
        taken = []
        while self.coming and self.coming[0].at_ns <= until_ns:
            taken.append(heapq.heappop(self.coming))
        return taken


class Network:
    """A switch and what hangs on it."""

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.seed = name, seed
        self.ports: list[Port] = []
        self.coming: list[UnderWay] = []
        """What comes to the switch, by time: a heap."""
        self._switch = Switch()
        self._captures: list[Capture] = []

    def plug(self, name: str, link: Link) -> Port:
        """One port more, for the machine of this name."""
        if len(self.ports) >= MAX_PORTS:
            raise ConfigError(f"The network {self.name} has no port left for {name}: it has {MAX_PORTS}.")
        number = len(self.ports)
        port = Port(self, number, name, link, f"{self.seed} {self.name} {number}")
        self.ports.append(port)
        return port

    def capture(self, path: str | os.PathLike[str], limit: int = LIMIT) -> Capture:
        """Write each frame that comes to the switch into a pcap file, up to so many bytes. Raises `ConfigError`."""
        made = Capture(path, limit)
        self._captures.append(made)
        return made

    @property
    def next_ns(self) -> int:
        """When the next frame comes to the switch."""
        return self.coming[0].at_ns if self.coming else FOREVER_NS

    def forward(self, before_ns: int) -> None:
        """No frame comes to the switch before this time that it does not know of: deal with those."""
        coming = self.coming
        while coming and coming[0].at_ns < before_ns:
            at_ns, number, _, frame = heapq.heappop(coming)
            for capture in self._captures:
                capture.write(at_ns, frame)
            for way in self._switch.ways(at_ns, number, frame, len(self.ports)):
                port = self.ports[way]
                for arrives_ns in port.down.send(at_ns, len(frame)):
                    port.order += 1
                    heapq.heappush(port.coming, UnderWay(arrives_ns, way, port.order, frame))

    def flush(self) -> None:
        """Let others read what has been captured."""
        for capture in self._captures:
            capture.flush()

    def close(self) -> None:
        """Finish the captures."""
        for capture in self._captures:
            capture.close()

    def state(self) -> NetworkState:
        """A copy of all that is under way and known."""
        ports = [
            PortState(copied(port.up.state), copied(port.down.state), port.order, _as_records(port.coming))
            for port in self.ports
        ]
        return NetworkState(self._switch.state(), ports, _as_records(self.coming))

    def restore(self, state: NetworkState) -> None:
        """Go on from ``state``. Raises `ConfigError` for one of a network with other ports."""
        problem = wrong(NetworkState, state)
        if problem or len(state.ports) != len(self.ports):
            raise ConfigError(f"This state is none of the network {self.name}: {problem or 'it has other ports'}.")
        self._switch.restore(state.switch)
        self.coming = _as_heap(state.coming)
        for port, one in zip(self.ports, state.ports, strict=True):
            port.up.state, port.down.state = copied(one.up), copied(one.down)
            port.order, port.coming = one.order, _as_heap(one.coming)


def _as_records(heap: list[UnderWay]) -> list[UnderWayState]:
    return [UnderWayState(*one) for one in sorted(heap)]


def _as_heap(records: list[UnderWayState]) -> list[UnderWay]:
    return [UnderWay(one.at_ns, one.port, one.order, one.frame) for one in records]  # sorted, which a heap is


__all__ = ["Network", "NetworkState", "Port"]
