"""Saving a machine in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from hypervisor.vm.config import MachineConfig
from hypervisor.vm.saved.config_data import plain_config
from hypervisor.vm.saved.file_writer import FileWriter
from hypervisor.vm.saved.record_streams import write


class Moment(NamedTuple):
    """A machine at one moment: what it was made from, the records of its parts by their names, the virtual time, and
    the names of handlers that were registered by hand. Memory may be `hypervisor.vm.saved.record_streams.Sparse`.
    """

    config: MachineConfig
    parts: Mapping[str, Any]
    time_ns: int
    handlers: list[str]


def save(path: str | os.PathLike[str], moment: Moment, *, compress: bool = True, embed: bool = False) -> None:
    """Write a machine into a file.

    The file is there when it is whole; until then one that was there before stays. Raises `ConfigError` where it cannot
    be written, `ImageError` for an image of the configuration that cannot be read, and `DeviceError` for a part whose
    state is no record.
    """
    with FileWriter(path, compressed=compress) as writer:

        def put(what: str, content: bytes) -> str:
            writer.add(what, [content])
            return what

        about = {
            "config": plain_config(moment.config, put, embed=embed),
            "records": write(writer, moment.parts),
            "handlers": moment.handlers,
            "stands": stands(moment.parts, moment.time_ns),
            "writer": version(),
        }
        writer.finish(about)


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
