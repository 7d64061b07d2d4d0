"""Where VMs and their host stand at a moment, in figures: plain values, which anybody may ask for from any thread.

Counts go on from when the VM was made, so what happens in a second is the difference of two readings (`since`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, TypeVar

from hypervisor.run.sharing.usage import PCpuUsage, Usage
from hypervisor.units import NS_PER_S, PAGE_SHIFT
from hypervisor.vm.balloon import Balloon

if TYPE_CHECKING:
    from hypervisor.run.host import CoreHost
    from hypervisor.vm.furnished import Furnished


@dataclass(frozen=True)
class MemoryFigures:
    """Of a VM, in bytes. ``own``, ``shared``, ``zero`` and ``swapped`` together are what it has been given as RAM."""

    own: int = 0
    """In frames that nobody else shows."""
    shared: int = 0
    """In frames that other VMs or snapshots show, too, until somebody stores there."""
    zero: int = 0
    """Never stored to, or given back: it takes no memory of the host."""
    ballooned: int = 0
    """Given back by the guest through a balloon, and not in use again, as far as it has said so."""
    swapped: int = 0
    """In the swap file, until somebody stores there."""
    asked: int = 0
    """What its balloon is asked for, by hand and by a host that has little memory left."""


@dataclass(frozen=True)
class IoFigures:
    """Of a VM, since it was made."""

    reads: int = 0
    """Times that a controller has read of a drive."""
    writes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    console_bytes: int = 0
    """Written to the console."""


@dataclass(frozen=True)
class VmFigures:
    """Of a VM."""

    name: str
    state: str
    """``new``, ``running`` (it runs, or waits for a pCPU or for something to do), ``paused``, or how its last run ended
    (a value of `hypervisor.Reason`)."""
    time_s: float
    """When this was: of the host's monotonic clock, in seconds."""
    virtual_s: float
    """The time of the VM's own clock, in seconds."""
    cpu: Usage
    memory: MemoryFigures
    exits: Mapping[str, int]
    """By kind."""
    io: IoFigures

    def since(self, before: VmFigures) -> VmRates:
        """What has happened since an earlier reading."""
        seconds = max(self.time_s - before.time_s, 1e-9)
        exits = {kind: (count - before.exits.get(kind, 0)) / seconds for kind, count in self.exits.items()}
        return VmRates(
            seconds=seconds,
            virtual=(self.virtual_s - before.virtual_s) / seconds,
            run=(self.cpu.run_s - before.cpu.run_s) / seconds,
            ready=(self.cpu.ready_s - before.cpu.ready_s) / seconds,
            blocked=(self.cpu.blocked_s - before.cpu.blocked_s) / seconds,
            exits={kind: rate for kind, rate in exits.items() if rate > 0},
            io=_difference(self.io, before.io),
        )


@dataclass(frozen=True)
class VmRates:
    """What has happened to a VM between two readings."""

    seconds: float
    """Host seconds between the two."""
    virtual: float
    """Virtual seconds in each of them."""
    run: float
    """The part of the time for which a pCPU computed for it; see `hypervisor.Usage`."""
    ready: float
    blocked: float
    exits: Mapping[str, float]
    """Exits a second, by kind, without those that did not happen."""
    io: IoFigures
    """What was done in all the time between."""


@dataclass(frozen=True)
class HostFigures:
    """Of a host, in bytes and host seconds."""

    time_s: float
    """When this was: of the host's monotonic clock, in seconds."""
    memory: int
    """What it has for VMs."""
    promised: int
    """What VMs have been promised of that."""
    used: int
    """In frames that are not free, those of page maps, snapshots and frame buffers included."""
    swapped: int
    """In the swap file."""
    pcpus: Sequence[PCpuUsage]
    vms: Sequence[VmFigures]

    def vm(self, name: str) -> VmFigures:
        """Those of the first VM of this name. Raises `KeyError`."""
        for one in self.vms:
            if one.name == name:
                return one
        raise KeyError(name)


def figures_of(vm: Furnished) -> VmFigures:
    """See `VM.figures`."""
    media = {id(medium): medium for medium in vm.media.by_drive().values()}.values()
    own, shared, zero, swapped = vm.memory.counts
    ballooned, asked = _by_balloons(vm)
    return VmFigures(
        name=vm.name,
        state=_state(vm),
        time_s=time.monotonic(),
        virtual_s=vm.clock.now_ns / NS_PER_S,
        cpu=vm.usage,
        memory=MemoryFigures(own, shared, zero, ballooned, swapped, asked),
        exits=vm.place.exits(),
        io=IoFigures(
            reads=sum(medium.reads for medium in media),
            writes=sum(medium.writes for medium in media),
            read_bytes=sum(medium.read_bytes for medium in media),
            written_bytes=sum(medium.written_bytes for medium in media),
            console_bytes=0 if vm.console is None else len(vm.console),
        ),
    )


def figures_of_host(host: CoreHost, vms: Iterable[Furnished]) -> HostFigures:
    """See `Host.figures`."""
    memory = host.memory
    return HostFigures(
        time_s=time.monotonic(),
        memory=memory.size,
        promised=memory.size - memory.free,
        used=memory.used,
        swapped=memory.swapped,
        pcpus=tuple(host.usage),
        vms=tuple(figures_of(vm) for vm in list(vms) if not vm.closed),
    )


def _by_balloons(vm: Furnished) -> tuple[int, int]:
    """Bytes that balloons hold, and that they are asked for."""
    found = [plugin for _, plugin in vm.plugins if isinstance(plugin, Balloon)]
    return sum(one.held for one in found) << PAGE_SHIFT, sum(one.wanted for one in found) << PAGE_SHIFT


def _state(vm: Furnished) -> str:
    runner, result = vm.runner, vm.result
    if runner is not None:
        return "paused" if runner.stands_still else "running"
    return "new" if result is None else result.reason.value


_T = TypeVar("_T", IoFigures, MemoryFigures)


def _difference(now: _T, before: _T) -> _T:
    return replace(now, **{each.name: getattr(now, each.name) - getattr(before, each.name) for each in fields(now)})


__all__ = ["HostFigures", "IoFigures", "MemoryFigures", "VmFigures", "VmRates"]
