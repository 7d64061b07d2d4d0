"""A world: machines on networks, which share one virtual time, and go on, stop and become values together."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from hypervisor.backends.image_source import ImageLike
from hypervisor.errors import ConfigError
from hypervisor.machine.boot import Host
from hypervisor.network.network import Network, Port
from hypervisor.outcome.result import Reason, RunResult
from hypervisor.units import NS_PER_S, nanoseconds
from hypervisor.vm.config import MachineConfig
from hypervisor.vm.vm import VM
from hypervisor.world.horizons import Timing
from hypervisor.world.lan import Lan
from hypervisor.world.member import Member

if TYPE_CHECKING:
    from hypervisor.vm.saved.save_progress import Progress
    from hypervisor.world.cabling import Interface
    from hypervisor.world.moment import WorldSnapshot

LOOK_S = 0.05
"""How long `World.wait` waits for one machine before it looks at the others, in host seconds."""
GOES_ON = frozenset({Reason.VIRTUAL_TIMEOUT, Reason.IDLE})
"""Ends of one machine's run behind which the others may come to theirs."""
Prepare = Callable[[VM], object]


class World:
    """Machines that can reach each other, on one host. Use it as a context manager, or `close` it.

    Each runs ahead of the others by no more than frames between them take, so the same seed gives the same frames at
    the same times, whatever the host does.
    """

    def __init__(
        self, memory: str | int = "1G", cpus: int = 1, *, seed: int = 0, host: Host | None = None, **options: Any
    ) -> None:
        """``seed`` is that of the faults of links. The world has a host of its own, with ``memory``, ``cpus`` and
        whatever else `hypervisor.Host` takes, unless it gets one. Raises `ConfigError`.
        """
        if not isinstance(seed, int):
            raise ConfigError(f"seed={seed!r}: a whole number is needed.")
        self.seed = seed
        self._owns_host = host is None
        self.host = Host(memory, cpus, **options) if host is None else host
        self.timing = Timing()
        self.lans: dict[str, Lan] = {}
        self.members: dict[str, Member] = {}
        self.vms: dict[str, VM] = {}
        """Its machines, by their names."""
        self.prepared: dict[str, Prepare | None] = {}
        self.ended: dict[str, RunResult] = {}
        """How guests ended that had done so in the snapshot which this goes on from."""
        self._interfaces = itertools.count(1)
        self._forks = itertools.count(1)

    # --- what is in it ------------------------------------------------------------------------------------------------

    def create_vm(
        self,
        image: ImageLike | MachineConfig | None = None,
        *,
        name: str | None = None,
        prepare: Prepare | None = None,
        **options: Any,
    ) -> VM:
        """A machine of this world, as ``Host.create_vm`` makes it; `Lan.connect` puts it on a network. Its ``name`` is
        its own in this world, and ``prepare`` is called with its forks, too. Raises what that raises.
        """
        name = name or f"vm{len(self.vms) + 1}"
        self._check_name(name)
        return self._adopt(self.host.create_vm(image, name=name, prepare=prepare, **options), name, prepare)

    def _check_name(self, name: str) -> None:
        if name in self.vms:
            raise ConfigError(f"name={name!r}: the world has a machine of this name; give each its own.")

    def _adopt(self, vm: VM, name: str, prepare: Prepare | None) -> VM:
        self.vms[name], self.prepared[name] = vm, prepare
        return vm

    def lan(self, name: str = "lan") -> Lan:
        """The network of this name, a new one if there is none yet."""
        if name not in self.lans:
            network = Network(name, self.seed)
            with self.timing.lock:
                self.timing.networks.append(network)
            self.lans[name] = Lan(network, self.member, lambda: next(self._interfaces))
        return self.lans[name]

    def member(self, vm: VM) -> Member:
        """What paces a machine of this world; from now on it does. Raises `ConfigError`."""
        name = next((name for name, one in self.vms.items() if one is vm), None)
        if name is None:
            raise ConfigError(f"{vm.name} is not of this world: make it by World.create_vm.")
        if name not in self.members:
            self.members[name] = Member(vm, self.timing)
        return self.members[name]

    def take_in(
        self, name: str, prepare: Prepare | None, interfaces: Sequence[Interface], ports: Sequence[Port], vm: VM
    ) -> None:
        """A machine that goes on as one of another world, or of a file, is one of this world from now on: give it what
        that one was given by hand, and its interfaces, which are plugged in there already.
        """
        if prepare is not None:
            prepare(vm)
        self._adopt(vm, name, prepare)
        for interface, port in zip(interfaces, ports, strict=True):
            self.member(vm).plug_in(port, interface.socket)

    @property
    def now_ns(self) -> int:
        """The virtual time to which the machine has come that is ahead of the others."""
        return max([vm.clock.now_ns for vm in self.vms.values()], default=0)

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self, timeout: float | None = None, virtual_timeout: float | None = None) -> dict[str, RunResult]:
        """Run all machines whose guests have not ended, until all runs are over; how they ended, by the machines'
        names. ``timeout`` is in host seconds, ``virtual_timeout`` in those of the world, for all the same moment.

        A machine that stops for a reason of the host's would have the others wait for it, so it stops them, too.
        """
        self.start(timeout, virtual_timeout)
        try:
            return self.wait()
        except BaseException:
            self.stop("the world's run was interrupted")
            raise

    def start(self, timeout: float | None = None, virtual_timeout: float | None = None) -> None:
        """Begin what `run` does, and return at once. In what order machines start does not matter."""
        end_ns = None if virtual_timeout is None else self.now_ns + nanoseconds(virtual_timeout)
        for vm in self._alive():
            left_s = None if end_ns is None else (end_ns - vm.clock.now_ns) / NS_PER_S
            vm.start(timeout=timeout, virtual_timeout=left_s)

    def wait(self, timeout: float | None = None) -> dict[str, RunResult]:
        """Wait until no machine runs, and say how each ended last; those that have not after so many host seconds are
        left out.
        """
        end_at = None if timeout is None else time.monotonic() + timeout
        results = dict(self.ended)
        begun = [name for name, vm in self.vms.items() if vm.runner is not None or vm.result is not None]
        while waiting := [name for name in begun if name not in results]:
            for name in waiting:
                result = self.vms[name].wait(LOOK_S)
                if result is not None:
                    results[name] = result
                    self.follow(name, result)
                elif end_at is not None and time.monotonic() >= end_at:
                    return results
        return results

    def follow(self, name: str, result: RunResult) -> None:
        """A machine's run has ended so: the others stop if they would wait for it."""
        member = self.members.get(name)
        if member is None or member.station.out or result.reason in GOES_ON:
            return
        for vm in self.vms.values():
            vm.request_stop(f"the others of its world stand still, as {name} has stopped: {result.reason.value}")

    def _alive(self) -> list[VM]:
        out = {name for name, member in self.members.items() if member.station.out}
        return [vm for name, vm in self.vms.items() if name not in out]

    def stop(self, text: str = "stopped by the host") -> None:
        """End all runs that go on, and wait until they are over."""
        for vm in self.vms.values():
            vm.request_stop(text)
        for vm in self.vms.values():
            vm.stop(text)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """All machines stand still during a ``with`` block."""
        with ExitStack() as stack:
            for vm in self.vms.values():
                stack.enter_context(vm.paused())
            yield

    # --- state --------------------------------------------------------------------------------------------------------

    def snapshot(self) -> WorldSnapshot:
        """The world at this moment, as a value: all machines, frames that are under way, the faults to come. Between
        runs, or while they go on, which pauses them for that long. Raises what `VM.snapshot` raises.
        """
        from hypervisor.world.moment import WorldSnapshot

        return WorldSnapshot(self)

    def fork(self, name: str | None = None) -> World:
        """A second world on the same host that is this one, bit for bit. Raises what `VM.fork` raises."""
        with self.snapshot() as snapshot:
            return snapshot.fork(name)

    def revert(self, snapshot: WorldSnapshot) -> None:
        """Become what this world, or one of its forks, was at that moment; behind a pause runs go on from there. Raises
        `ConfigError` for the snapshot of another world.
        """
        snapshot.go_back(self)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        compress: bool = True,
        embed: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Write the world into a file, as `WorldSnapshot.save` does."""
        with self.snapshot() as snapshot:
            snapshot.save(path, compress=compress, embed=embed, progress=progress)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        memory: str | int = "1G",
        cpus: int = 1,
        *,
        host: Host | None = None,
        prepare: Mapping[str, Prepare] | None = None,
        given: Mapping[str, Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> World:
        """The world of a file that `save` has written, which goes on from there, bit for bit.

        ``prepare`` are what gives machines, by their names, what they were given by hand; ``given`` what a file does
        not bring of their configurations (disks that are written, plugins, boards), as `hypervisor.boot` is given it.
        The rest is as for a new world. Raises `ImageError` for a file that is none or is damaged, and what
        `hypervisor.boot` raises for the file of a machine.
        """
        from hypervisor.world.saved_world import open_world

        return open_world(path, lambda seed: cls(memory, cpus, seed=seed, host=host, **options), prepare, given)

    def fork_name(self) -> str:
        """What a fork's machines are called after."""
        return f"fork{next(self._forks)}"

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End what runs, close the machines and finish the captures, and close the host if it is the world's own.
        Closing twice is harmless.
        """
        for vm in self.vms.values():
            vm.request_stop("the world is closed")
        for vm in self.vms.values():
            vm.close()
        for lan in self.lans.values():
            lan.network.close()
        if self._owns_host:
            self.host.close()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


__all__ = ["World"]
