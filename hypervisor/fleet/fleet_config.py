"""What `hypervisor up` starts, as values: a host, its machines, and the networks between them.

Files have a table ``[host]``, a table ``[vm.NAME]`` for each machine and ``[network.NAME]`` for each network; a machine
has the fields of `hypervisor.MachineConfig`, those of `hypervisor.Share`, and its cables (docs/hosts.md).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from hypervisor.backends.console import check_kept
from hypervisor.console.stream_log import LIMIT, check_limit
from hypervisor.errors import ConfigError
from hypervisor.fleet.toml_file import TomlFile
from hypervisor.network.ethernet import parse_address
from hypervisor.network.link import Link
from hypervisor.run.host import MAX_OVERCOMMIT, MAX_PCPUS, NEVER_SWAPS, PROMISES
from hypervisor.run.sharing.policies import by_name
from hypervisor.run.sharing.share import Share
from hypervisor.spelling import hint
from hypervisor.units import parse_size
from hypervisor.vm.config import MachineConfig

NUMBER, WHOLE, TEXT = (int, float), (int,), (str,)
HOST = {
    "memory": (str, int), "cpus": WHOLE, "scheduler": TEXT, "code_cache": (str, int), "overcommit": NUMBER,
    "swap": (str, int), "swap_folder": TEXT, "seed": WHOLE,
}  # fmt: skip
SHARE = {
    "weight": NUMBER, "cap": NUMBER, "budget": NUMBER, "period": NUMBER, "pcpus": (list,),
    "drive_bandwidth": (str, int), "drive_iops": NUMBER,
}  # fmt: skip
LINK = {each.name: NUMBER for each in fields(Link)}
NETWORK = {**LINK, "capture": TEXT}
CABLE = {"name": TEXT, "mac": TEXT, **LINK}
MACHINE = [each.name for each in fields(MachineConfig) if each.name not in ("name", "board")]
CONSOLE = {"log": TEXT, "log_limit": (str, int), "console": (str, int)}
LONGEST_NAME = 64


@dataclass(frozen=True, kw_only=True)
class HostConfig:
    """What machines share; see `hypervisor.Host`. Without ``memory`` there is as much as all machines have together;
    ``seed`` is that of the faults of cables.
    """

    memory: str | int | None = None
    cpus: int = 1
    scheduler: str = "credit"
    code_cache: str | int = "64M"
    overcommit: float = 1.0
    swap: str | int | None = None
    swap_folder: str | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """A network: what its cables are like unless a machine says otherwise, and where its frames are written."""

    link: Link = field(default_factory=Link)
    capture: str | None = None


@dataclass(frozen=True, kw_only=True)
class CableConfig:
    """A cable from a machine to a network; without a ``link`` that of the network."""

    network: str
    link: Link | None = None
    mac: str | None = None


@dataclass(frozen=True, kw_only=True)
class MemberConfig:
    """A machine of the set."""

    machine: MachineConfig
    share: Share = field(default_factory=Share)
    cables: tuple[CableConfig, ...] = ()
    log: str | None = None
    """The file that its console is written into."""
    log_limit: str | int = LIMIT
    console: str | int | None = None
    """How much each of its streams keeps, as `hypervisor.backends.console.Console.keep` takes it."""
    place: str = field(default="", compare=False)
    """Where it is described, for messages."""


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    """A described set; ``machines`` and ``networks`` by their names."""

    machines: Mapping[str, MemberConfig]
    host: HostConfig = field(default_factory=HostConfig)
    networks: Mapping[str, NetworkConfig] = field(default_factory=dict)

    @property
    def memory(self) -> int:
        """The host's, in bytes."""
        if self.host.memory is not None:
            return parse_size(self.host.memory)
        return sum(member.machine.size for member in self.machines.values())

    @classmethod
    def from_toml(cls, source: str | os.PathLike[str]) -> FleetConfig:
        """The set in a file, or in a text that has line ends. Relative paths in it are relative to where the process
        is. Raises `ConfigError`, with the line.
        """
        return _Reader(TomlFile(source)).read()


_T = TypeVar("_T")


class _Reader:
    """One file."""

    def __init__(self, file: TomlFile) -> None:
        self._file = file

    def read(self) -> FleetConfig:
        file, values = self._file, self._file.values
        file.check_names([], values, ("host", "vm", "network"), "the description of a host")
        host = self._host(file.table(["host"], values.get("host", {}), "host"))
        networks = {
            name: self._network(["network", name], one)
            for name, one in file.table(["network"], values.get("network", {}), "network").items()
        }
        machines = {
            name: self._member(name, one, networks)
            for name, one in file.table(["vm"], values.get("vm", {}), "vm").items()
        }
        if not machines:
            raise ConfigError(f"{file.name}: there is no machine in it; describe one as [vm.NAME], with an image.")
        return FleetConfig(host=host, networks=networks, machines=machines)

    def _host(self, values: dict[str, Any]) -> HostConfig:
        file, path = self._file, ["host"]
        file.check_names(path, values, HOST, "a host")
        self._check_kinds(path, values, HOST)
        for name in ("memory", "code_cache", "swap"):
            if name in values:
                self._make(path, lambda some: [parse_size(one) for one in some.values()], {name: values[name]})
        if "scheduler" in values:
            self._make(path, lambda some: by_name.scheduler(some["scheduler"]), {"scheduler": values["scheduler"]})
        if not 1 <= values.get("cpus", 1) <= MAX_PCPUS:
            raise file.error([*path, "cpus"], f"cpus={values['cpus']}: a host has 1 to {MAX_PCPUS} physical CPUs.")
        if not 1 <= values.get("overcommit", 1) <= MAX_OVERCOMMIT:
            raise file.error([*path, "overcommit"], f"overcommit={values['overcommit']}: {PROMISES}")
        if "swap" in values and values.get("overcommit", 1) == 1:
            raise file.error([*path, "swap"], f"swap={values['swap']!r}: {NEVER_SWAPS}")
        return HostConfig(**values)

    def _network(self, path: Sequence[str], value: Any) -> NetworkConfig:
        values = self._file.table(path, value, f"the network {path[-1]}")
        self._file.check_names(path, values, NETWORK, "a network")
        self._check_kinds(path, values, NETWORK)
        return NetworkConfig(link=self._link(path, values), capture=values.get("capture"))

    def _link(self, path: Sequence[str | int], values: Mapping[str, Any]) -> Link:
        given = {name: value for name, value in values.items() if name in LINK}
        return self._make(path, lambda some: Link(**some), given)

    def _member(self, name: str, value: Any, networks: Mapping[str, NetworkConfig]) -> MemberConfig:
        file, path = self._file, ["vm", name]
        values = file.table(path, value, f"the machine {name}")
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or "/" in name or name.startswith("."):
            raise file.error(path, f"{name!r} is no name of a machine: files are called after it.")
        file.check_names(path, values, [*MACHINE, *SHARE, *CONSOLE, "networks"], "a machine")
        self._check_kinds(path, values, {**SHARE, **CONSOLE, "networks": (list,)})
        own = {key: one for key, one in values.items() if key in MACHINE}
        share = {key: one for key, one in values.items() if key in SHARE}
        machine = self._make(path, lambda some: MachineConfig.from_values({**some, "name": name}), own)
        if machine.image is None and not machine.boots_from_drives:
            raise file.error(path, f"there is nothing that {name} could boot: give it an image, a drive or firmware.")
        self._make(path, _check_console, {key: one for key, one in values.items() if key in CONSOLE})
        cables = [
            self._cable([*path, "networks", number], one, networks)
            for number, one in enumerate(values.get("networks", ()))
        ]
        if cables and machine.clock == "wall":
            raise file.error([*path, "clock"], "the wall clock waits for nobody, so a machine on a network has none.")
        return MemberConfig(
            machine=machine,
            share=self._make(path, lambda some: Share(**some), share),
            cables=tuple(cables),
            **{key: one for key, one in values.items() if key in CONSOLE},
            place=f"{file.name}:{file.line_of(path)}: ",
        )

    def _cable(self, path: Sequence[str | int], value: Any, networks: Mapping[str, NetworkConfig]) -> CableConfig:
        file = self._file
        values = {"name": value} if isinstance(value, str) else file.table(path, value, "a cable")
        file.check_names(path, values, CABLE, "a cable")
        self._check_kinds(path, values, CABLE)
        name = values.get("name", "")
        if name not in networks:
            text = f"there is no network {name!r}: describe it as [network.{name}]."
            raise file.error(path, text + hint(str(name), networks))
        if "mac" in values:
            self._make(path, lambda some: parse_address(some["mac"]), {"mac": values["mac"]})
        linked = values.keys() & LINK.keys()
        link = self._link(path, {**_given(networks[name].link), **values}) if linked else None
        return CableConfig(network=name, link=link, mac=values.get("mac"))

    def _check_kinds(
        self, path: Sequence[str | int], values: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]]
    ) -> None:
        for name, value in values.items():
            wanted = kinds.get(name)
            if wanted is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
                words = " or ".join(_WORDS[kind] for kind in wanted if not (kind is int and float in wanted))
                raise self._file.error([*path, name], f"{name} = {value!r}: {words} is needed.")

    def _make(self, path: Sequence[str | int], make: Callable[[dict[str, Any]], _T], values: dict[str, Any]) -> _T:
        """What ``make`` makes of these values; what it complains about is told with the line of the one that it
        complains about alone, too.
        """
        try:
            return make(values)
        except ConfigError as error:
            raise self._file.error([*path, *self._culprit(make, values, str(error))], str(error)) from error

    @staticmethod
    def _culprit(make: Callable[[dict[str, Any]], object], values: dict[str, Any], text: str) -> list[str]:
        for name, value in values.items():
            try:
                make({name: value})
            except ConfigError as error:
                if str(error) == text:
                    return [name]
        return []


_WORDS = {int: "a whole number", float: "a number", str: "a text", list: "a list"}


def _check_console(values: dict[str, Any]) -> None:
    if "log_limit" in values:
        check_limit(values["log_limit"])
    if "console" in values:
        check_kept(values["console"])


def _given(link: Link) -> dict[str, Any]:
    return {each.name: getattr(link, each.name) for each in fields(link)}


__all__ = ["CableConfig", "FleetConfig", "HostConfig", "MemberConfig", "NetworkConfig"]
