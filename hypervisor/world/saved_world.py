"""A world in a file: its machines, how they are plugged in, and what is under way between them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from hypervisor.errors import ConfigError, ImageError
from hypervisor.machine.boot import build
from hypervisor.network.ethernet import address_text, parse_address
from hypervisor.network.link import Link
from hypervisor.network.network import NetworkState
from hypervisor.outcome.result import Reason, RunResult
from hypervisor.state import from_plain
from hypervisor.vm.saved.file_reader import FileReader
from hypervisor.vm.saved.opening import SavedMachine
from hypervisor.vm.saved.record_streams import Records
from hypervisor.vm.saved.saving import BETWEEN, Between
from hypervisor.vm.saved.saving import save as save_moments
from hypervisor.world.cabling import Interface, plugged
from hypervisor.world.member import FINAL, MAX_INTERFACES, MemberState, Socket
from hypervisor.world.moment import WorldSnapshot, put_between

if TYPE_CHECKING:
    from hypervisor.vm.saved.save_progress import Progress
    from hypervisor.world.world import Prepare, World

_ENDED = ("message", "status", "wall_s", "virtual_s", "exits", "hint", "registers", "until")
"""What a file says of how a guest ended, beside the reason: not its crash report, nor exceptions of the host."""
MOST_NETWORKS = 256


def save(
    snapshot: WorldSnapshot, path: str | os.PathLike[str], *, compress: bool, embed: bool, progress: Progress | None
) -> None:
    """See `WorldSnapshot.save`."""
    if not snapshot.machines:
        raise ConfigError("This world has no machines: there is nothing to save.")
    networks = {f"network {name}": state for name, state in snapshot.networks.items()}
    members = {f"member {name}": state for name, state in snapshot.members.items()}
    about = {
        "seed": str(snapshot.seed),  # of any size
        "networks": list(snapshot.networks),
        "interfaces": {name: [_plain(one) for one in those] for name, those in snapshot.interfaces.items()},
        "ended": {
            name: {"reason": result.reason.value} | {field: _told(getattr(result, field)) for field in _ENDED}
            for name, result in snapshot.ended.items()
        },
    }
    moments = {name: one.moment() for name, one in snapshot.machines.items()}
    between = Between(about, networks | members)
    save_moments(path, moments, compress=compress, embed=embed, world=between, progress=progress)


def _told(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _plain(one: Interface) -> dict[str, Any]:
    socket = {"base": one.socket.base, "irq": one.socket.irq, "mac": address_text(one.socket.mac)}
    return {"network": one.lan, "port": one.port, "link": asdict(one.link), **socket}


class SavedWorld:
    """What a file says of a world, checked. What is wrong is a ValueError with the end of a sentence."""

    def __init__(self, file: FileReader) -> None:
        about = file.about.get("world")
        moments = file.about.get("moments")
        if not isinstance(about, dict) or not isinstance(moments, dict):
            raise ValueError("it holds machines, but no world of them: open one of them with hypervisor.boot()")
        self.machines = list(moments)
        self.seed = _seed(about.get("seed"))
        self.networks = _texts(about.get("networks"), MOST_NETWORKS)
        listed = about.get("interfaces")
        if not isinstance(listed, dict) or listed.keys() != moments.keys():
            raise ValueError("it does not say which interfaces its machines have")
        self.interfaces = {name: [_interface(one) for one in _list(those)] for name, those in listed.items()}
        if not {one.lan for those in self.interfaces.values() for one in those} <= set(self.networks):
            raise ValueError("a machine is plugged into a network that it does not have")
        self.ended = _ended(about.get("ended"), self.interfaces)
        fields = Records(file, BETWEEN, about.get("records"), None).fields
        members = [name for name, those in self.interfaces.items() if those]
        if fields.keys() != {f"network {one}" for one in self.networks} | {f"member {one}" for one in members}:
            raise ValueError("it does not say what is under way between its machines")
        self.states = {name: from_plain(NetworkState, fields[f"network {name}"], name) for name in self.networks}
        self.members = {name: from_plain(MemberState, fields[f"member {name}"], name) for name in members}


def open_world(
    path: str | os.PathLike[str],
    make: Callable[[int], World],
    prepare: Mapping[str, Prepare] | None,
    given: Mapping[str, Mapping[str, Any]] | None,
) -> World:
    """See `World.open`; ``make`` makes the world that its machines become those of, by its seed."""
    prepares, options = dict(prepare or {}), dict(given or {})
    with FileReader(path) as file:
        with _understood(file):
            saved = SavedWorld(file)
        name = file.name
    strangers = sorted((prepares.keys() | options.keys()) - set(saved.machines))
    if strangers:
        raise ConfigError(f"{name} has no machine {strangers[0]!r}; it has {', '.join(map(repr, saved.machines))}.")
    world = make(saved.seed)
    try:
        for lan in saved.networks:
            world.lan(lan)
        with _understood(file):
            ports = plugged(world, saved.interfaces)
        for one in saved.machines:
            furnish = partial(_furnish, world, one, prepares.get(one), saved.interfaces[one], ports[one])
            with SavedMachine(path, one) as machine:
                machine.check_prepared(one in prepares)
                config = machine.opened(options.get(one, {}))
                build(world.host, replace(config, name=one), machine, furnish)
        put_between(world, saved.ended, saved.states, saved.members)
        for member in world.members.values():
            member.going_back = False
    except BaseException:
        world.close()
        raise
    return world


def _furnish(world: World, name: str, prepare: Prepare | None, interfaces: Any, ports: Any, vm: Any) -> None:
    world.take_in(name, prepare, interfaces, ports, vm)
    if name in world.members:
        world.members[name].going_back = True  # to where it was saved, as all others do


@contextmanager
def _understood(file: FileReader) -> Iterator[None]:
    """What is read in the block may be of another version, or nonsense, though its digests are right."""
    try:
        yield
    except (ValueError, ConfigError) as error:
        raise ImageError(f"{file.name} cannot be opened as a world: {str(error).rstrip('.')}.") from error


# --- what a file says, checked ----------------------------------------------------------------------------------------


def _seed(text: Any) -> int:
    if type(text) is not str or len(text) > 1000:
        raise ValueError("it does not say which seed the faults are drawn from")
    return int(text)


def _list(listed: Any) -> list[Any]:
    if not isinstance(listed, list) or len(listed) > MAX_INTERFACES:
        raise ValueError("it does not say which interfaces its machines have")
    return listed


def _texts(listed: Any, limit: int) -> list[str]:
    if not isinstance(listed, list) or len(listed) > limit or not all(type(one) is str for one in listed):
        raise ValueError("it does not say which networks it has")
    return list(dict.fromkeys(listed))


def _interface(tree: Any) -> Interface:
    kinds = {"network": str, "port": int, "link": dict, "base": int, "irq": int, "mac": str}
    if not isinstance(tree, dict) or {name: type(value) for name, value in tree.items()} != kinds:
        raise ValueError("it does not say how an interface is plugged in")
    link = tree["link"]
    numbers = all(value is None or type(value) in (int, float) for value in link.values())
    if link.keys() != asdict(Link()).keys() or not numbers:
        raise ValueError("it does not say what a cable does")
    if not 0 <= tree["base"] < 1 << 16:
        raise ValueError("an interface has no I/O ports")
    socket = Socket(tree["base"], tree["irq"], parse_address(tree["mac"]))
    return Interface(tree["network"], tree["port"], Link(**link), socket)


def _ended(tree: Any, machines: Mapping[str, object]) -> dict[str, RunResult]:
    """How guests ended that had done so. Numbers and texts are as they are: they are told to a person alone."""
    if not isinstance(tree, dict) or not tree.keys() <= machines.keys():
        raise ValueError("it does not say which guests have ended")
    found = {}
    for name, told in tree.items():
        if not isinstance(told, dict) or told.keys() != {"reason", *_ENDED} or type(told["message"]) is not str:
            raise ValueError(f"it does not say how {name} has ended")
        reason = Reason(told["reason"])
        if reason not in FINAL:
            raise ValueError(f"{name} has ended as {reason.value}, which is no end")
        fields = {field: told[field] for field in _ENDED}
        found[name] = RunResult(reason, host_events={}, **fields)
    return found


__all__ = ["open_world", "save"]
