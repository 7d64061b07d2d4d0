"""A machine as a value: the list of all parts that have a state, and the tree of their records.

What is not here is not part of a machine: the host's counters, what watches the machine (logs, debuggers, handlers of a
user's), what it was made from (`hypervisor.MachineConfig`) and the files behind its drives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from hypervisor.backends.overlay import Overlay
from hypervisor.errors import ConfigError, DeviceError
from hypervisor.run.machine_record import MachineOwn
from hypervisor.state import cbor, from_plain, is_record, plain, wrong
from hypervisor.vcpu.processor_record import ProcessorPart
from hypervisor.vm.handler_record import HandlersPart
from hypervisor.vm.memory_record import RAM, BlockPart, RamPart

if TYPE_CHECKING:
    from hypervisor.vm.furnished import Furnished
    from hypervisor.vm.stateful import Stateful

FORMAT, VERSION = "rootmode machine state", 1


@dataclass(frozen=True)
class MachineState:
    """The records of a machine's parts, by the parts' names. It is a copy, and stays what it is."""

    parts: dict[str, Any]

    def to_bytes(self) -> bytes:
        """The state as bytes, for `of_bytes`: CBOR (RFC 8949). Raises `DeviceError` for a part whose state is no
        record, as that of a user's device may be.
        """
        for name, state in self.parts.items():
            if not is_record(type(state)):
                raise DeviceError(
                    f"{name}: its state is a {type(state).__name__}, which cannot be written as bytes. Declare it with "
                    "@record and its fields with their kinds (hypervisor.state)."
                )
        fields = {name: plain(state) for name, state in self.parts.items()}
        return cbor.encode({"format": FORMAT, "version": VERSION, "parts": fields})

    @classmethod
    def of_bytes(cls, content: bytes, vm: Furnished) -> MachineState:
        """The state that `to_bytes` has written, for a machine with the parts that ``vm`` has.

        Raises `ConfigError` for anything else: where it comes from is not trusted.
        """
        try:
            tree = cbor.decode(content)
            if not isinstance(tree, dict) or tree.get("format") != FORMAT:
                raise ValueError("it is none")
            if tree.get("version") != VERSION:
                raise ValueError(f"its version is {tree.get('version')!r}, and this is version {VERSION}")
            found = tree.get("parts")
            if not isinstance(found, dict):
                raise ValueError("it has no parts")
            kinds = {name: type(part.state()) for name, part in parts_of(vm).items()}
            check_names(found, kinds)
            return cls({name: from_plain(kind, found[name], name) for name, kind in kinds.items()})
        except ValueError as error:
            raise ConfigError(f"These {len(content)} bytes are no state of the machine {vm.name}: {error}.") from error


def check_names(found: Mapping[str, object], known: Mapping[str, object]) -> None:
    """Raise ValueError, with the end of a sentence, for records that are not of these parts."""
    if found.keys() == known.keys():
        return
    missing, unknown = sorted(known.keys() - found.keys()), sorted(found.keys() - known.keys())
    if missing or unknown:
        lacks = f"it has no {', '.join(missing)}" if missing else ""
        has = f"it has {', '.join(unknown)}, which this machine has not" if unknown else ""
        raise ValueError(f"{' and '.join(filter(None, (lacks, has)))}; build the machine from the same configuration")


def parts_of(vm: Furnished, *, large: bool = True) -> dict[str, Stateful]:
    """Every part of a machine that has a state, in the order in which states are put back; without those that a
    snapshot has by reference (memory, and what has been written to drives) if not ``large``.

    Devices come in the reverse of the board's order, in which what hears is built before what speaks to it: so what a
    device's lines do on the way to their levels is overwritten by who hears them, and the vCPUs come behind all.
    """
    _check_devices(vm)
    found: dict[str, Stateful] = {}
    for name, part in _listed(vm, large=large):
        if name in found:
            raise ConfigError(f"{vm.name}: two parts of the machine are called {name}; give each its own name.")
        found[name] = part
    return found


def _check_devices(vm: Furnished) -> None:
    """Raise `ConfigError` for a device that remembers something and is not known by its name."""
    known = {id(device) for device in vm.devices.values()}
    for space in (vm.ports, vm.mmio):
        for mapping in space:
            device = mapping.device
            if id(device) not in known and fields(device.state()):
                raise ConfigError(
                    f"{vm.name}: two devices of the machine are called {device.name}, so one of them would be "
                    "forgotten; give each its own name."
                )


def _listed(vm: Furnished, *, large: bool) -> Iterator[tuple[str, Stateful]]:
    for name, device in reversed(vm.devices.items()):
        yield f"device {name}", device
    for vcpu in vm.vcpus:
        yield f"vcpu {vcpu.number}", ProcessorPart(vcpu)
    yield "turns", vm.turns
    yield "machine", MachineOwn(vm)
    yield "inbox", vm.inbox
    if large:
        yield from _large(vm)
    yield from _of_the_person(vm)
    if vm.firmware is not None:
        yield from vm.firmware.parts()
    yield "handlers", HandlersPart(vm.traps)
    yield from vm.plugins.parts()


def _large(vm: Furnished) -> Iterator[tuple[str, Stateful]]:
    yield RAM, RamPart(vm)
    for number, block in enumerate(vm.blocks):
        yield f"memory {number} {block.name}", BlockPart(vm, block)
    for drive, medium in vm.media.by_drive().items():
        if isinstance(medium.source, Overlay):
            yield f"drive {drive}", medium.source


def _of_the_person(vm: Furnished) -> Iterator[tuple[str, Stateful]]:
    """What was written to a person at the machine, and what he has done that waits."""
    if vm.console is not None:
        yield "console", vm.console
        yield "console direct", vm.console.direct
    for number, port in vm.serial.items():
        yield f"serial {number}", port
        yield f"serial {number} queue", port.queue
    for name in ("debugcon", "bios_tty", "screen", "speaker", "mouse"):
        part = getattr(vm, name)
        if part is not None:
            yield name, part
    for name, person in (("keyboard", vm.keyboard), ("mouse", vm.mouse)):
        if person is not None:
            yield f"{name} queue", person.paced


def taken(vm: Furnished) -> MachineState:
    """The state of a machine that is set down."""
    return MachineState({name: part.state() for name, part in parts_of(vm).items()})


def put_back(vm: Furnished, state: MachineState) -> None:
    """Make a machine that is set down one with this state. Raises `ConfigError` and `DeviceError`."""
    parts = parts_of(vm)
    try:
        check_names(state.parts, parts)
        for name, part in state.parts.items():
            problem = wrong(type(part), part, name) if is_record(type(part)) else None
            if problem:
                raise ValueError(problem)
    except ValueError as error:
        raise ConfigError(f"This state cannot be put into the machine {vm.name}: {error}.") from error
    with _unheard(vm):
        for name, part in parts.items():
            part.restore(state.parts[name])


CHANGED_BY_RUNS = (ProcessorPart, MachineOwn)
"""Parts that are others after whatever a machine has done: it is not worth asking them."""


class SmallParts:
    """The parts of a machine whose states are small, and how each is put back."""

    def __init__(self, vm: Furnished) -> None:
        self.parts = parts_of(vm, large=False)
        self._ways = [self._way(name, part) for name, part in self.parts.items()]
        self._fitting: dict[str, Any] | None = None
        """The records that were put back last, whose names are these."""

    @staticmethod
    def _way(name: str, part: Stateful) -> _Way:
        if isinstance(part, CHANGED_BY_RUNS):
            return _Way(name, None, part.restore_again)
        asked: Callable[[Any], bool] | None = getattr(part, "is_still", None)
        return _Way(name, asked or (lambda record: part.state() == record), part.restore, of_itself=asked is not None)

    def put_back(self, records: dict[str, Any], *, by_changes: bool) -> None:
        """See `small_parts_put_back`."""
        for name, is_still, restore, of_itself in self._ways:
            record = records[name]
            if is_still is None or not (of_itself or by_changes) or not is_still(record):
                restore(record)

    def check(self, vm: Furnished, records: dict[str, Any]) -> None:
        """Raise `ConfigError` for records of other parts."""
        if records is self._fitting:
            return
        try:
            check_names(records, self.parts)
        except ValueError as error:
            raise ConfigError(f"This state cannot be put into the machine {vm.name}: {error}.") from error
        self._fitting = records


class _Way(NamedTuple):
    """How a part becomes what its record says: ``is_still`` tells whether it is that already, None if it never is, and
    does so without a copy of the state if the part knows it ``of_itself``.
    """

    name: str
    is_still: Callable[[Any], bool] | None
    restore: Callable[[Any], object]
    of_itself: bool = True


def small_parts_of(vm: Furnished) -> SmallParts:
    """The parts whose states are small. They stay the same ones when a machine has run: no device comes after that."""
    found = vm.small_parts
    if found is None:
        found = SmallParts(vm)
        if vm.has_run:
            vm.small_parts = found
    return found


def small_parts_taken(vm: Furnished) -> dict[str, Any]:
    """The records of these, of a machine that is set down."""
    return {name: part.state() for name, part in small_parts_of(vm).parts.items()}


@contextmanager
def small_parts_put_back(vm: Furnished, records: dict[str, Any], *, by_changes: bool) -> Iterator[None]:
    """Make a machine that is set down one with these records, which are its own or those of its like, and with the
    memory that it gets in the block. Parts that are so already are left alone: those that know it, and if that is most
    of them (``by_changes``) others, too. Raises `ConfigError` and `DeviceError`.
    """
    parts = small_parts_of(vm)
    parts.check(vm, records)
    with _unheard(vm):
        with vm.memory.changing():
            parts.put_back(records, by_changes=by_changes)
        yield


@contextmanager
def processors_put_back(vm: Furnished, records: dict[str, Any]) -> Iterator[None]:
    """Make a machine whose other parts are copies of those with these records, and with the memory that it gets in the
    block, the machine that they are of. Raises `ConfigError`.
    """
    with _unheard(vm):
        for vcpu in vm.vcpus:
            ProcessorPart(vcpu).restore(records[f"vcpu {vcpu.number}"])
        vm.turns.restore(records["turns"])
        MachineOwn(vm).restore(records["machine"])
        yield


@contextmanager
def _unheard(vm: Furnished) -> Iterator[None]:
    """The machine becomes another one in the block, and nobody hears of it."""
    vm.place.forget()
    listeners, vm.listeners = vm.listeners, []  # nothing that comes now has happened
    try:
        with vm.inbox.unheard():
            with vm.ports.changing(), vm.mmio.changing():
                yield
                vm.mmio.catch_up()
                vm.ports.catch_up()
            for action in vm.on_restore:
                action()
    finally:
        vm.listeners = listeners


__all__ = [
    "MachineState", "SmallParts", "check_names", "parts_of", "processors_put_back", "put_back", "small_parts_of",
    "small_parts_put_back", "small_parts_taken", "taken",
]  # fmt: skip
