"""A machine at one moment, as a value that takes no copy of its memory: what forks go on from, and reverts go to."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from hypervisor.errors import ConfigError
from hypervisor.memory.frozen_map import zones_of
from hypervisor.units import PAGE_SHIFT
from hypervisor.vm import machine_state
from hypervisor.vm.casting.mould import Casting

if TYPE_CHECKING:
    from hypervisor.vm.config import MachineConfig
    from hypervisor.vm.repeating.cases import Case, CaseEnd, Input
    from hypervisor.vm.saved.page_streams import Sparse
    from hypervisor.vm.saved.save_progress import Progress
    from hypervisor.vm.saved.saving import Moment
    from hypervisor.vm.vm import VM

_ZONE_SHIFT = PAGE_SHIFT + 9


class Area(NamedTuple):
    """Memory of a machine: the part of its state that it is (`hypervisor.vm.machine_state`), and its pages in the base
    map. It begins with a zone.
    """

    name: str
    first: int
    pages: int


class Snapshot:
    """A machine's whole state at one moment, of a host that keeps its memory. Made by `VM.snapshot`.

    The memory is that of the machine, frame by frame, until the machine stores to it. `close` it, or use it in a
    ``with`` block, when nobody goes on from it any more; one that is forgotten closes itself.
    """

    builder: ClassVar[Callable[[Snapshot, str, Callable[[VM], object] | None, MachineConfig | None], VM]]
    """Makes a machine that goes on from a snapshot, in the room above."""

    def __init__(self, vm: VM) -> None:
        """Of a VM that is set down. Raises `ConfigError` and `PluginError`."""
        self.host = vm.host
        self.config = vm.config
        """What the machine was made from."""
        self.name = vm.name
        self.family = vm.family
        """What a machine, its snapshots and all that go on from them have in common."""
        self.made_of = vm.made_of
        self.symbols = vm.symbols
        self.handlers = [handler.name for handler in vm.traps.by_hand()]
        """Handlers that answer, and that no plugin has registered."""
        self.parts: dict[str, Any] = machine_state.small_parts_taken(vm)
        """The records of all parts whose contents are not in `memory` and `media`, by the parts' names."""
        self.now_ns = vm.clock.now_ns
        """The virtual time."""
        self.areas = areas_of(vm)
        self.media = vm.media.twin()
        """What is in the drives, with what has been written."""
        try:
            self.memory = vm.memory.freeze()
        except BaseException:
            self.media.close()
            raise
        self.casting = Casting()
        """How machines that go on from here are made."""
        self._owns_host = vm.owns_host
        self._forks = itertools.count(1)
        self.host.snapshots.add(self)

    @property
    def closed(self) -> bool:
        """Whether it has been closed, by itself or with its host."""
        return self.memory.closed

    def fork(self, name: str | None = None, prepare: Callable[[VM], object] | None = None) -> VM:
        """A second machine on the same host that goes on from here, bit for bit.

        It has the board, the drives and the plugins that the configuration says. ``prepare`` is called with it before
        it becomes this machine, and gives it what the first one was given by hand: devices, memory, handlers. Raises
        `ConfigError`, `PluginError` and `DeviceError`.
        """
        return self._go_on(name, prepare)

    def clone(
        self,
        name: str | None = None,
        seed: int | None = None,
        prepare: Callable[[VM], object] | None = None,
    ) -> VM:
        """As `fork`, a machine of its own from here on: with a name, a seed and serial numbers of its drives that no
        other has. Without ``seed`` they follow from this machine's seed and the name.

        What the guest has already asked for it knows: random numbers that it has drawn, serial numbers that it has
        read.
        """
        name = name or f"{self.name}.{next(self._forks)}"
        digest = hashlib.sha256(f"{self.config.seed} {self.config.identity} {name}".encode()).digest()
        if seed is None:
            seed = int.from_bytes(digest[:7], "little")
        return self._go_on(name, prepare, replace(self.config, name=name, seed=seed, identity=digest[-4:].hex()))

    def clones(
        self,
        names: int | Iterable[str],
        *,
        prepare: Callable[[VM], object] | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> list[VM]:
        """Many clones, by names or so many with names of their own: all, or none where one cannot be made.

        ``progress`` is called behind each with how many there are, and are to be; what it raises ends it, too. Raises
        what `clone` does, and `ConfigError` for names that are not different.
        """
        if isinstance(names, str) or (isinstance(names, int) and names < 0):
            raise ConfigError(f"{names!r}: give the names of the clones, or how many there are to be.")
        wanted: list[str | None] = [None] * names if isinstance(names, int) else list(names)
        if not isinstance(names, int) and len(set(wanted)) < len(wanted):
            raise ConfigError("Two clones would have one name, and with it one seed: give each its own.")
        with ExitStack() as stack:
            made = []
            for count, name in enumerate(wanted, start=1):
                made.append(stack.enter_context(self.clone(name, prepare=prepare)))
                if progress is not None:
                    progress(count, len(wanted))
            stack.pop_all()
            return made

    def _go_on(
        self, name: str | None, prepare: Callable[[VM], object] | None, identity: MachineConfig | None = None
    ) -> VM:
        self.check_open()
        if self.handlers and prepare is None:
            raise ConfigError(
                f"{self.name} was given handlers by hand ({', '.join(self.handlers)}), and a fork would go on without "
                "them: give them in prepare=, which is called with the fork, or make them a plugin."
            )
        return Snapshot.builder(self, name or f"{self.name}.{next(self._forks)}", prepare, identity)

    def map(
        self,
        cases: Iterable[Case],
        until: Any = None,
        *,
        timeout: float | None = 10.0,
        virtual_timeout: float | None = None,
        input: Input | None = None,
        coverage: bool = False,
        prepare: Callable[[VM], object] | None = None,
    ) -> Iterator[tuple[Case, CaseEnd]]:
        """Run each case from here, on all pCPUs of the host, and say how it ended: in the order of the cases.

        A case is bytes, which are put where ``input`` says, or a function that is called with the machine before it
        runs. ``until``, ``timeout`` and ``virtual_timeout`` are as for `VM.run`; ``coverage`` asks for each case's
        edges; ``prepare`` is as for `fork`. Cases are taken a batch at a time (`hypervisor.vm.repeating.cases.BATCH`),
        and all ends of a batch are given before the next is taken. Raises `ConfigError` as `fork` and `VM.run` do, and
        for bytes that do not fit.
        """
        from hypervisor.vm.repeating.cases import Limits, ends_of

        self.check_open()
        limits = Limits(until, timeout, virtual_timeout)

        def ends() -> Iterator[tuple[Case, CaseEnd]]:
            with ExitStack() as stack:
                forks = [stack.enter_context(self.fork(prepare=prepare)) for _ in self.host.pcpus]
                yield from ends_of(cases, forks, lambda vm: vm.revert(self), limits, input, coverage, self.zones)

        return ends()

    @property
    def zones(self) -> list[tuple[int, int]]:
        """Where memory is in the maps of this machine's family: from which zone on, in how many."""
        return [(area.first >> 9, zones_of(area.pages << PAGE_SHIFT)) for area in self.areas]

    def pages(self) -> Iterator[tuple[int, memoryview]]:
        """The pages of memory that are not all zeros, in order: their numbers in the base map, in which RAM is where
        the guest has it and `areas` says where the rest is, and 4096 bytes, which are good until this is closed.
        """
        for area in self.areas:
            yield from self.memory.stored_pages(area.first >> 9, area.pages)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        compress: bool = True,
        embed: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Write it into a file, as `VM.save` does; its machine may run meanwhile."""
        save_together(path, {"": self}, compress=compress, embed=embed, progress=progress)

    def moment(self) -> Moment:
        """It as it is saved: its pages are good until this is closed."""
        from hypervisor.backends.overlay import Overlay
        from hypervisor.vm.saved.saving import Moment

        self.check_open()
        sources = {f"drive {drive}": medium.source for drive, medium in self.media.by_drive().items()}
        drives = {name: source.state() for name, source in sources.items() if isinstance(source, Overlay)}
        return Moment(self.config, self.parts | self._areas_by_name() | drives, self.now_ns, self.handlers)

    def _areas_by_name(self) -> dict[str, Sparse]:
        """Memory by the parts of a machine's state, whose pages are numbered through."""
        from hypervisor.vm.saved.page_streams import Sparse

        names = dict.fromkeys(area.name for area in self.areas)
        by_name = {name: [area for area in self.areas if area.name == name] for name in names}
        return {
            name: Sparse(sum(area.pages for area in areas) << PAGE_SHIFT, self._numbered(areas))
            for name, areas in by_name.items()
        }

    def _numbered(self, areas: list[Area]) -> Iterator[tuple[int, memoryview]]:
        before = 0
        for area in areas:
            for page, content in self.memory.stored_pages(area.first >> 9, area.pages):
                yield before + page - area.first, content
            before += area.pages

    def check_open(self) -> None:
        """Raises `ConfigError` once this, or its host, is closed."""
        self.host.check_open()
        if self.closed:
            raise ConfigError(f"This snapshot of {self.name} is closed, and its memory has been given back.")

    def close(self) -> None:
        """Give the memory back that no machine has. Closing twice is harmless."""
        self.memory.close()
        self.media.close()
        self.host.snapshots.discard(self)
        if self._owns_host:
            self.host.close_if_empty()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"at {self.now_ns / 1e9:.6f} s"
        return f"<Snapshot of {self.name}, {state}>"


def save_together(
    path: str | os.PathLike[str],
    snapshots: Mapping[str, Snapshot],
    *,
    compress: bool = True,
    embed: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write snapshots into one file, by names that `hypervisor.boot` finds them by (``moment=``; the first without).

    Pages that the first one has at the same place, as those of one family have, are in the file once. Raises
    `ConfigError` where it cannot be written, and for a snapshot that is closed.
    """
    from hypervisor.vm.saved.saving import save

    if not snapshots:
        raise ConfigError("There is nothing to save: give snapshots by their names.")
    save(
        path, {name: one.moment() for name, one in snapshots.items()}, compress=compress, embed=embed, progress=progress
    )


def areas_of(vm: VM) -> list[Area]:
    """Where a machine's memory is."""
    areas = [Area("memory", start >> PAGE_SHIFT, end - start >> PAGE_SHIFT) for start, end in vm.memory.ram_ranges]
    for number, block in enumerate(vm.blocks):
        areas.append(Area(f"memory {number} {block.name}", block.home.start >> PAGE_SHIFT, block.size >> PAGE_SHIFT))
    return areas


def put(vm: VM, snapshot: Snapshot, *, by_changes: bool) -> int:
    """Make a VM that is set down the machine that a snapshot is of; how many pages of memory were others, if it was
    nearly that (``by_changes``). Raises `ConfigError` and `DeviceError` where it does not fit.
    """
    areas = areas_of(vm)
    here, there = [(area.name, area.pages) for area in areas], [(area.name, area.pages) for area in snapshot.areas]
    if here != there:
        ours, theirs = ", ".join(sorted({str(one) for one in set(here) ^ set(there)})), snapshot.name
        raise ConfigError(f"{vm.name} has other memory than {theirs} had at that moment ({ours}).")
    changed = 0
    with machine_state.small_parts_put_back(vm, snapshot.parts, by_changes=by_changes):
        for area, source in zip(areas, snapshot.areas, strict=True):
            where = area.first >> 9, source.first >> 9, zones_of(area.pages << PAGE_SHIFT)
            if by_changes:
                changed += snapshot.memory.put_back(vm.memory.pages, *where)
            else:
                snapshot.memory.give(vm.memory.pages, *where)
        vm.media.follow(snapshot.media)
    return changed


def fill(vm: VM, snapshot: Snapshot) -> None:
    """Give a machine that was cast what none has in common with another one: memory, processors, time."""
    with machine_state.processors_put_back(vm, snapshot.parts):
        for area, source in zip(areas_of(vm), snapshot.areas, strict=True):
            where = area.first >> 9, source.first >> 9, zones_of(area.pages << PAGE_SHIFT)
            snapshot.memory.give(vm.memory.pages, *where)


__all__ = ["Area", "Snapshot", "fill", "put", "save_together"]
