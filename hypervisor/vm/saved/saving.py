"""Saving machines in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from hypervisor.vm.config import MachineConfig
from hypervisor.vm.saved.chunk_codec import digest
from hypervisor.vm.saved.config_data import plain_config
from hypervisor.vm.saved.file_writer import FileWriter
from hypervisor.vm.saved.page_streams import Sparse
from hypervisor.vm.saved.record_streams import RecordWriter
from hypervisor.vm.saved.save_progress import Progress, SaveProgress


class Moment(NamedTuple):
    """A machine at one moment: what it was made from, the records of its parts by their names, the virtual time, and
    the names of handlers that were registered by hand. Memory may be `hypervisor.vm.saved.page_streams.Sparse`.
    """

    config: MachineConfig
    parts: Mapping[str, Any]
    time_ns: int
    handlers: list[str]


class Between(NamedTuple):
    """What is between the machines of a file: plain data, and records by their names."""

    about: Mapping[str, Any]
    records: Mapping[str, Any]


BETWEEN = "(world) "
"""What the names of its streams begin with: those of machines have a colon there."""


def save(
    path: str | os.PathLike[str],
    moments: Mapping[str, Moment],
    *,
    compress: bool = True,
    embed: bool = False,
    world: Between | None = None,
    progress: Progress | None = None,
) -> None:
    """Write machines into a file, by the names that they have there; one alone may be called "". ``world`` is what is
    between them, if they are one; ``progress`` is told how far it has come.

    The file is there when it is whole; until then one that was there before stays. Raises `ConfigError` where it cannot
    be written, `ImageError` for an image of the configuration that cannot be read, and `DeviceError` for a part whose
    state is no record.
    """
    with FileWriter(path, compressed=compress) as writer:
        told = None if progress is None else SaveProgress(progress, _memory_of(moments))
        records, images = RecordWriter(writer, several=len(moments) > 1, told=told), ImageWriter(writer)
        about = {
            name: {
                "config": plain_config(moment.config, images.put, embed=embed),
                "records": records.write(prefix(name), moment.parts),
                "handlers": moment.handlers,
                "stands": stands(moment.parts, moment.time_ns),
            }
            for name, moment in moments.items()
        }
        whole: dict[str, Any] = {"moments": about, "writer": version()}
        if world is not None:
            whole["world"] = {**world.about, "records": records.write(BETWEEN, world.records)}
        writer.finish(whole)


def _memory_of(moments: Mapping[str, Moment]) -> int:
    """Bytes of all that is sparse in them."""
    parts = (Sparse.of(part) for moment in moments.values() for part in moment.parts.values())
    return sum(part.size for part in parts if part is not None)


class ImageWriter:
    """Writes images into a file, each once."""

    def __init__(self, writer: FileWriter) -> None:
        self._writer = writer
        self._streams: dict[bytes, str] = {}

    def put(self, what: str, content: bytes) -> str:
        """Store an image; the name of its stream."""
        key = digest(content)
        if key not in self._streams:
            self._streams[key] = f"image {len(self._streams)} ({what})"
            self._writer.add(self._streams[key], [content])
        return self._streams[key]


def prefix(name: str) -> str:
    """What the names of the streams of a machine of this name begin with."""
    return f"{name}: " if name else ""


def stands(parts: Mapping[str, Any], time_ns: int) -> dict[str, Any]:
    """Where a machine stands, for a person who asks what is in a file."""
    vcpus = [state for name, state in parts.items() if name.startswith("vcpu ")]
    console = parts.get("console")
    return {
        "time_ns": time_ns,
        "rips": [vcpu.cpu.registers.get("rip", 0) for vcpu in vcpus],
        "console": b"" if console is None else bytes(console.content[-LAST:]),
    }


LAST = 400
"""Bytes of the console that tell where the machine stands."""


def version() -> str:
    """What has written a file."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return f"rootmode {installed('rootmode')}"
    except PackageNotFoundError:
        return "rootmode"
