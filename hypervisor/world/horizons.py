"""How far each machine of a world may run, so that no frame can come to it in its past.

Conservative synchronisation (Chandy and Misra, CACM 24(4), 1981). A machine that stands at some time sends nothing
before it, and what it sends is under way for at least its link's latency and that of whom it is for; one that sleeps
sends nothing before its next timer, or the next frame that can come to it. From that follow the frames that the
switches may forward, which must be in the order of their times, and each machine's *horizon*: whatever may still come
to it, comes no earlier. None of this looks at the host, but where machines stand when somebody asks does; so all of it
is bounds, which change when things are done and never what is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from hypervisor.network.network import Network, Port
from hypervisor.units import FOREVER_NS


@dataclass
class Station:
    """A machine as its world's time knows it. All times are virtual nanoseconds."""

    name: str
    wake: Callable[[], object]
    """Have its run look whether it may go on; from any thread."""
    stands_ns: int
    """It does nothing before this, unless a frame comes."""
    asleep: bool = False
    """Whether a frame may have it do something before."""
    horizon_ns: int = 0
    """No frame that it does not know of comes to it before this."""
    promised_ns: int = 0
    """Others have relied on it that it sends nothing before this."""
    waits_ns: int = -1
    """Its run waits until the horizon is beyond this; -1 if it does not wait."""
    out: bool = False
    """Whether it will never do anything again."""
    ports: list[Port] = field(default_factory=list)

    @property
    def coming_ns(self) -> int:
        """When the next frame comes to it, of those that it has not taken."""
        return min([port.next_ns for port in self.ports], default=FOREVER_NS)

    @property
    def next_ns(self) -> int:
        """When it does something next, as far as is known."""
        if self.out:
            return FOREVER_NS
        known_ns = min(self.stands_ns, self.coming_ns) if self.asleep else self.stands_ns
        return max(known_ns, self.promised_ns)


class Timing:
    """The stations and networks of a world. All methods are called with `lock` held."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stations: list[Station] = []
        self.networks: list[Network] = []

    def settle(self) -> list[Station]:
        """Forward what can be forwarded, and see how far everybody may run. Who waits no longer: they are to be woken,
        without the lock.
        """
        least_ns = min([port.link.latency_ns for network in self.networks for port in network.ports], default=0)
        unforwarded_ns = self._forward()
        if self.silent:  # nobody relies on anything: what comes from outside may come at any time
            return self._no_longer_waiting()
        first_ns = min([station.next_ns for station in self.stations], default=FOREVER_NS)
        wakes_ns = first_ns + 2 * least_ns
        """No frame comes to anybody before this of which its station does not know: one that the switch still has is
        there because somebody may send another one before it, which is then `least_ns` from the switch, too."""
        for station in self.stations:
            quiet_ns = min(station.next_ns, wakes_ns) if station.asleep else station.next_ns
            station.promised_ns = max(station.promised_ns, min(quiet_ns, FOREVER_NS))
        reach = {network: self._reach(network) for network in self.networks}
        for station in self.stations:
            horizon_ns = FOREVER_NS
            for port in station.ports:
                (at_ns, who), (others_ns, _) = reach[port.network]
                if who is not station:
                    others_ns = at_ns
                horizon_ns = min(horizon_ns, min(unforwarded_ns, others_ns) + port.link.latency_ns)
            station.horizon_ns = max(station.horizon_ns, min(horizon_ns, FOREVER_NS))
        return self._no_longer_waiting()

    def _no_longer_waiting(self) -> list[Station]:
        found = [station for station in self.stations if station.waits_ns >= 0 and self.may_go_on(station)]
        for station in found:
            station.waits_ns = -1
        return found

    def _reach(self, network: Network) -> list[tuple[int, Station | None]]:
        """From when on frames that are not sent yet may come to the switch, and whose: the first station's, and those
        of the next one.
        """
        nobody: tuple[int, Station | None] = (FOREVER_NS, None)
        found = [
            (station.promised_ns + port.link.latency_ns, station)
            for station in self.stations
            for port in station.ports
            if port.network is network and not station.out
        ]
        first = min(found, key=_time, default=nobody)
        return [first, min([one for one in found if one[1] is not first[1]], key=_time, default=nobody)]

    def _forward(self) -> int:
        """Forward frames in the order of their times, over all networks, up to the first before which somebody may
        still send another one; when that is. What has just been forwarded may have a station send something.
        """
        while True:
            network = min(self.networks, key=lambda one: one.next_ns, default=None)
            if network is None or network.next_ns >= FOREVER_NS:
                return FOREVER_NS
            first_ns = network.next_ns
            senders = [
                station.next_ns + port.link.latency_ns
                for station in self.stations
                for port in station.ports
                if port.network is network and not station.out
            ]
            if min(senders, default=FOREVER_NS) <= first_ns:
                return first_ns
            network.forward(first_ns + 1)
            for station in self.stations:
                if station.out:
                    for port in station.ports:
                        port.coming.clear()

    def may_go_on(self, station: Station) -> bool:
        """Whether one that waits need not."""
        return station.horizon_ns > station.waits_ns or station.coming_ns < station.horizon_ns or self.silent

    @property
    def silent(self) -> bool:
        """Whether nothing will ever happen again: all sleep without a timer, and no frame is under way."""
        return all(station.next_ns >= FOREVER_NS for station in self.stations) and all(
            network.next_ns >= FOREVER_NS for network in self.networks
        )


def _time(one: tuple[int, Station | None]) -> int:
    return one[0]


__all__ = ["Station", "Timing"]
