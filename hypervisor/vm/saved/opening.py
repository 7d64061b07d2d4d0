"""Opening the file of a machine: what is in it, what it was made from, its state."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hypervisor.backends.overlay import Overlay
from hypervisor.errors import ConfigError, ImageError
from hypervisor.state import from_plain
from hypervisor.vm.config import MachineConfig
from hypervisor.vm.machine_state import MachineState, check_names, parts_of
from hypervisor.vm.memory_record import RAM, BlockPart, RamPart, StoredPages
from hypervisor.vm.saved.file_layout import damaged
from hypervisor.vm.saved.file_reader import FileReader
from hypervisor.vm.saved.page_streams import PageReader
from hypervisor.vm.saved.record_streams import Records
from hypervisor.vm.saved.saved_config import Opening, SavedConfig, SavedImage
from hypervisor.vm.saved.saving import prefix

if TYPE_CHECKING:
    from hypervisor.vm.furnished import Furnished


class SavedMachine:
    """A machine in an open file; a context manager. ``moment`` is its name there, by default the first one's.

    Raises `ImageError` for a file that is none, or that is damaged: here, or when more of it is read; and `ConfigError`
    where there is no machine of that name.
    """

    def __init__(self, path: str | os.PathLike[str], moment: str | None = None) -> None:
        self.file = FileReader(path)
        self.name = self.file.name
        self._memory: StoredPages | None = None
        about = self.file.about
        self.writer = str(about.get("writer"))[:100]
        self.of_world = "world" in about
        """Whether it is one of several that are plugged into each other (`hypervisor.world.saved_world`)."""
        try:
            with self._understood():
                moments = _moments(about.get("moments"))
                self.moments = list(moments)
                """The names of all machines in the file."""
            chosen = self.moments[0] if moment is None else moment
            if chosen not in moments:
                raise ConfigError(f"{self.name} has no machine {chosen!r}; it has {', '.join(map(repr, moments))}.")
            with self._understood():
                about = moments[chosen]
                self.config = SavedConfig.of_plain(about.get("config"))
                self.stands = _stands(about.get("stands"))
                self.handlers = _names(about.get("handlers"))
                first = None if chosen == self.moments[0] else self._pages_of(moments[self.moments[0]])
                self.records = Records(self.file, prefix(chosen), about.get("records"), first)
        except BaseException:
            self.file.close()
            raise

    def _pages_of(self, about: dict[str, Any]) -> PageReader:
        """The pages of the first machine."""
        records = about.get("records")
        listed = records.get("sparse") if isinstance(records, dict) else None
        return PageReader(self.file, prefix(self.moments[0]), listed, None)

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """What is read in the block may be of another version, or nonsense, though its digests are right."""
        try:
            yield
        except (ValueError, ConfigError) as error:
            reason = str(error).rstrip(".")
            raise ImageError(f"{self.name}, saved by {self.writer}, cannot be understood here: {reason}.") from error

    def opened(self, given: Mapping[str, Any]) -> MachineConfig:
        """What the machine is to be built from. ``given`` are fields of a configuration that its user has given again.

        Raises `ConfigError`, `ImageError` and `PluginError`.
        """
        config = Opening(self.name, given, self._image).config(self.config)
        with self._understood():
            self._memory = self.records.pages.memory(RAM, config.size)  # which is read while the machine is built
        return config

    @property
    def ram_pages(self) -> int:
        """How many pages of its RAM hold something."""
        counts = self.records.pages.counts.get(RAM)
        return 0 if counts is None else counts.pages + counts.same

    def check_prepared(self, prepared: bool) -> None:
        """Raise `ConfigError` if the machine had handlers that it would go on without."""
        if self.handlers and not prepared:
            raise ConfigError(
                f"The machine in {self.name} was given handlers by hand ({', '.join(self.handlers)}), and would go on "
                "without them: give them in prepare=, which is called with the VM, or make them a plugin."
            )

    def _image(self, image: SavedImage) -> bytes:
        if self.file.streams.get(image.stream) != image.size:
            raise damaged(self.name, f"it has not the {image.size} bytes of its {image.what}")
        return self.file.content(image.stream)

    def state(self, vm: Furnished) -> MachineState:
        """The state, for a machine that was built from `opened`; its pages are read when they are put back, once."""
        parts, records = parts_of(vm), self.records
        try:
            check_names(records.fields | records.pages.counts, parts)
            made: dict[str, Any] = {}
            for name, part in parts.items():
                if isinstance(part, RamPart) and self._memory is not None:
                    made[name], self._memory = self._memory, None
                elif isinstance(part, (RamPart, BlockPart)):
                    made[name] = records.pages.memory(name, part.size)
                elif isinstance(part, Overlay):
                    made[name] = records.pages.overlay(name)
                else:
                    made[name] = from_plain(type(part.state()), records.fields.get(name), name)
            return MachineState(made)
        except ValueError as error:
            raise ImageError(
                f"{self.name}, saved by {self.writer}, is no machine that can go on here: {error}."
            ) from error

    def close(self) -> None:
        """Give the host's file back. Closing twice is harmless."""
        self.file.close()

    def __enter__(self) -> SavedMachine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _moments(tree: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(tree, dict) or not tree or not all(isinstance(about, dict) for about in tree.values()):
        raise ValueError("it does not say which machines are in it")
    return tree


def _names(listed: Any) -> list[str]:
    if not isinstance(listed, list) or not all(type(name) is str for name in listed):
        raise ValueError("it does not say which handlers the machine had")
    return listed


def _stands(tree: Any) -> dict[str, Any]:
    """Where the machine stands, as `saving.stands` says it. Raises ValueError for anything else."""
    kinds = {"time_ns": int, "rips": list, "console": bytes}
    if not isinstance(tree, dict) or {name: type(value) for name, value in tree.items()} != kinds:
        raise ValueError("it does not say where the machine stands")
    if not all(type(rip) is int for rip in tree["rips"]):
        raise ValueError("it does not say where the machine stands")
    return tree
