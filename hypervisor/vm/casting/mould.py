"""Machines that go on from one snapshot are cast: not built again, part by part, but made as copies of one that was.

What building puts into a machine (devices, lines, timers, handlers, services of its BIOS), already as the snapshot has
it, is a thousand small objects that refer to each other. Once some have been built, those of one are written down as a
program (`hypervisor.vm.casting.object_program`), which makes such a graph in a third of the time. It is put around the
*core* of the new machine: what `hypervisor.VM` makes by itself, where the engine knows addresses, so that each machine
has its own.

What cannot be copied, as a user's device, makes such machines be built as ever.
"""

from __future__ import annotations

import gc
from collections import deque
from typing import TYPE_CHECKING, Any

from hypervisor.vm.casting.object_program import Uncastable, program

if TYPE_CHECKING:
    from hypervisor.vm.furnished import Furnished

BUILT = 16
"""As many are built before one is written down, which takes as long as building some forty."""


def core_of(vm: Furnished) -> list[object]:
    """What each machine makes by itself, in an order that does not change; what is in its drives belongs to it."""
    memory, place, media = vm.memory, vm.place, vm.media
    found: list[object] = [
        vm, vm.vcpus, memory, memory.pages, memory.dma, memory.layers, vm.tables, vm.turns, place, place.allowance,
        vm.clock, vm.clock.timers, vm.inbox, vm.ports, vm.mmio, vm.traps, vm.random, vm.coverage, vm.symbols, vm.stats,
        vm.host_events, media, media.floppies, media.disks,
    ]  # fmt: skip
    for vcpu in vm.vcpus:
        found += [vcpu, vcpu.state, vcpu.words, vcpu.registers, vcpu.msr, vcpu.intr, vcpu.exits, vcpu.exit]
    for medium in media.by_drive().values():
        found += [medium, medium.source]
    return found


def _filled_of(vm: Furnished) -> list[tuple[Any, tuple[str, ...]]]:
    """The objects of the core that building puts something into, with the names of the attributes."""
    whole = [(one, tuple(vars(one))) for one in (vm.clock.timers, vm.inbox, vm.ports, vm.mmio, vm.traps)]
    return whole + [(vcpu, ("apic", "_controller", "builtin_cpuid")) for vcpu in vm.vcpus]


class Mould:
    """A machine's parts as a program that makes such parts."""

    def __init__(self, vm: Furnished, before: list[object], made: dict[str, object]) -> None:
        """Of a VM that has just been built and put back. ``before`` is all that was there when that began, ``made`` the
        attributes that it had when `hypervisor.VM` had made it. Raises `Uncastable`.
        """
        core = core_of(vm)
        own = {id(one) for one in core}
        attributes = {
            name: value
            for name, value in vars(vm).items()
            if id(value) not in own
            and (name not in made or made[name] is not value or isinstance(value, (list, dict, set, deque)))
        }  # fmt: skip
        filled = [{name: getattr(one, name) for name in names} for one, names in _filled_of(vm)]
        roots = attributes, filled, vm.memory.layers.own, vm.tables.given()
        self._make, self._outside = program(roots, core, before)

    def cast(self, vm: Furnished) -> None:
        """Fill a VM that has just been made, and has nothing but what is in its drives."""
        attributes, filled, layers, tables = self._make([*core_of(vm), *self._outside])
        vars(vm).update(attributes)
        for (one, _), values in zip(_filled_of(vm), filled, strict=True):
            for name, value in values.items():
                setattr(one, name, value)
        vm.tables.give(tables)
        for block in vm.blocks:
            block.lay_again()
        vm.memory.layers.follow(layers)
        for told in vm.on_cast:
            told()
        vm.ports.follow(vm.ports.timed_changed)


class Casting:
    """Makes machines of one snapshot: some are built, and one of them is written down; the others are cast."""

    def __init__(self) -> None:
        self.mould: Mould | None = None
        """What others are cast from, if there is one by now."""
        self._built = 0
        self.refused = ""
        """Why they are built, if they are for ever."""

    def begin(self) -> list[object] | None:
        """One is about to be built: all that is there before, if it is to be written down."""
        self._built += 1
        if self._built < BUILT or self.refused or gc.get_freeze_count():  # who is frozen is not among these
            return None
        return gc.get_objects()

    def end(self, vm: Furnished, before: list[object] | None, made: dict[str, object]) -> None:
        """It has been built, and is as the snapshot is."""
        if before is None:
            return
        try:
            self.mould = Mould(vm, before, made)
        except Uncastable as problem:
            self.refused = str(problem)


__all__ = ["BUILT", "Casting", "Mould", "core_of"]
