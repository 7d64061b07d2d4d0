"""How the machines of a world are plugged in: what a second world like it needs to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hypervisor.network.link import Link
from hypervisor.network.network import Port
from hypervisor.world.member import Socket

if TYPE_CHECKING:
    from hypervisor.world.world import World


class Interface(NamedTuple):
    """An interface of a machine: its network, the number of its port there, its cable, and where it is on the board."""

    lan: str
    port: int
    link: Link
    socket: Socket


def interfaces(world: World, name: str) -> list[Interface]:
    """Those of the machine of this name, in their order on its board."""
    member = world.members.get(name)
    if member is None:
        return []
    return [
        Interface(port.network.name, port.number, port.link, socket)
        for port, socket in zip(member.station.ports, member.sockets, strict=True)
    ]


def plugged(world: World, machines: Mapping[str, Sequence[Interface]]) -> dict[str, list[Port]]:
    """Plug in the machines of a world that has none yet, each interface into the port that it has: what becomes of
    frames is drawn from its number. Raises ValueError, with the end of a sentence, where that is not to be had.
    """
    wanted = [(one.lan, one.port, name, n) for name, those in machines.items() for n, one in enumerate(those)]
    made: dict[tuple[str, int], Port] = {}
    for lan, number, name, n in sorted(wanted):
        port = made[name, n] = world.lan(lan).network.plug(name, machines[name][n].link)
        if port.number != number:
            raise ValueError(f"the network {lan} has no port {port.number}, but one of a higher number")
    return {name: [made[name, n] for n in range(len(those))] for name, those in machines.items()}


__all__ = ["Interface", "interfaces", "plugged"]
