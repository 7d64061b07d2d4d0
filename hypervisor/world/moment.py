"""A world at one moment, as a value: what forks go on from, and what the world goes back to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError
from hypervisor.network.network import NetworkState
from hypervisor.outcome.result import RunResult
from hypervisor.vm.snapshot import Snapshot
from hypervisor.world.cabling import interfaces, plugged
from hypervisor.world.member import MemberState

if TYPE_CHECKING:
    from hypervisor.vm.saved.save_progress import Progress
    from hypervisor.world.world import World


class WorldSnapshot:
    """All machines of a world, and what is under way between them. `close` it, or use it in a ``with`` block."""

    def __init__(self, world: World) -> None:
        """See `World.snapshot`."""
        self._world = world
        self.seed = world.seed
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
        self.interfaces = {name: interfaces(world, name) for name in world.vms}

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
            ports = plugged(made, self.interfaces)
            for one, snapshot in self.machines.items():
                furnish = partial(made.take_in, one, self._world.prepared[one], self.interfaces[one], ports[one])
                snapshot.fork(f"{one}.{suffix}", furnish)
            self.put(made)
        except BaseException:
            made.close()
            raise
        return made

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        compress: bool = True,
        embed: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Write the world into a file, from which `World.open` makes one that goes on here. Files that its machines
        were made from are named in it; ``embed`` puts them into it. Pages that machines have alike at the same place
        are in it once. ``progress`` is called as `VM.save` calls it, with the memory of all machines together. Raises
        `ConfigError` where it cannot be written, and what `VM.save` raises.
        """
        from hypervisor.world.saved_world import save

        save(self, path, compress=compress, embed=embed, progress=progress)

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
            self.put(world)

    def put(self, world: World) -> None:
        """Have a world whose machines are what they were go on with what was under way between them."""
        put_between(world, self.ended, self.networks, self.members)

    def close(self) -> None:
        """Give back the memory that no machine has. Closing twice is harmless."""
        for snapshot in self.machines.values():
            snapshot.close()

    def __enter__(self) -> WorldSnapshot:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def put_between(
    world: World,
    ended: Mapping[str, RunResult],
    networks: Mapping[str, NetworkState],
    members: Mapping[str, MemberState],
) -> None:
    """Make what is between machines what a snapshot, or a file, says. Raises `ConfigError` where it does not fit."""
    world.ended = dict(ended)
    with world.timing.lock:
        for name, state in networks.items():
            world.lans[name].network.restore(state)
        for name, member in world.members.items():
            member.restore(members[name])


__all__ = ["WorldSnapshot", "put_between"]
