"""A world at one moment, as a value: what forks go on from, and what the world goes back to."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from hypervisor.errors import ConfigError
from hypervisor.network.link import Link
from hypervisor.network.network import NetworkState
from hypervisor.outcome.result import RunResult
from hypervisor.vm.snapshot import Snapshot
from hypervisor.world.member import MemberState, Socket

if TYPE_CHECKING:
    from hypervisor.vm.vm import VM
    from hypervisor.world.world import Prepare, World


class Interface(NamedTuple):
    """An interface of a machine: its network, its cable, and where it is on the board."""

    lan: str
    link: Link
    socket: Socket


class WorldSnapshot:
    """All machines of a world, and what is under way between them. `close` it, or use it in a ``with`` block."""

    def __init__(self, world: World) -> None:
        """See `World.snapshot`."""
        self._world = world
        self.machines: dict[str, Snapshot] = {}
        """The machines' own snapshots, by their names."""
        self.members: dict[str, MemberState] = {}
        self.networks: dict[str, NetworkState] = {}
        self.ended: dict[str, RunResult] = {}
        try:
            with world.paused():
                for name, vm in world.vms.items():
                    self.machines[name] = vm.snapshot()
                for name, member in world.members.items():
                    result = world.ended.get(name) or member.vm.result
                    if member.station.out and result is not None:
                        self.ended[name] = result
                with world.timing.lock:
                    self.members = {name: member.state() for name, member in world.members.items()}
                    self.networks = {name: lan.network.state() for name, lan in world.lans.items()}
        except BaseException:
            self.close()
            raise
        self._interfaces = {name: _interfaces(world, name) for name in world.vms}

    def fork(self, name: str | None = None) -> World:
        """A second world on the same host that goes on from here: its machines are called as the first one's, with
        ``name`` behind that. Raises what `Snapshot.fork` raises.
        """
        from hypervisor.world.world import World

        suffix = name or self._world.fork_name()
        made = World(host=self._world.host, seed=self._world.seed)
        try:
            for lan in self.networks:
                made.lan(lan)
            for one, snapshot in self.machines.items():
                prepare = self._world.prepared[one]
                snapshot.fork(f"{one}.{suffix}", partial(self._furnish, made, one, prepare))
            self._put(made)
        except BaseException:
            made.close()
            raise
        return made

    def _furnish(self, world: World, name: str, prepare: Prepare | None, vm: VM) -> None:
        """Make a fork one of its world, with what it was given by hand."""
        if prepare is not None:
            prepare(vm)
        world.vms[name], world.prepared[name] = vm, prepare
        for interface in self._interfaces[name]:
            world.lan(interface.lan).connect(
                vm, interface.link, mac=interface.socket.mac, base=interface.socket.base, irq=interface.socket.irq
            )

    def go_back(self, world: World) -> None:
        """Make a world what this one was at that moment; see `World.revert`."""
        if world.vms.keys() != self.machines.keys() or world.lans.keys() != self.networks.keys():
            raise ConfigError("This is the snapshot of another world: it has other machines, or other networks.")
        with world.paused(), ExitStack() as stack:
            for member in world.members.values():
                stack.callback(setattr, member, "going_back", False)
                member.going_back = True
            for name, vm in world.vms.items():
                vm.revert(self.machines[name])
            self._put(world)

    def _put(self, world: World) -> None:
        world.ended = dict(self.ended)
        with world.timing.lock:
            for name, state in self.networks.items():
                world.lans[name].network.restore(state)
            for name, member in world.members.items():
                member.restore(self.members[name])

    def close(self) -> None:
        """Give back the memory that no machine has. Closing twice is harmless."""
        for snapshot in self.machines.values():
            snapshot.close()

    def __enter__(self) -> WorldSnapshot:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _interfaces(world: World, name: str) -> list[Interface]:
    member = world.members.get(name)
    if member is None:
        return []
    return [
        Interface(port.network.name, port.link, socket)
        for port, socket in zip(member.station.ports, member.sockets, strict=True)
    ]


__all__ = ["WorldSnapshot"]
