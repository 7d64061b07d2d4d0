"""Saving a machine in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hypervisor.vm.config import MachineConfig
from hypervisor.vm.saved.config_data import plain_config
from hypervisor.vm.saved.file_writer import FileWriter
from hypervisor.vm.saved.record_streams import write


def save(
    path: str | os.PathLike[str],
    config: MachineConfig,
    parts: Mapping[str, Any],
    time_ns: int,
    *,
    compress: bool = True,
    embed: bool = False,
) -> None:
    """Write a machine into a file: what it was made from, and the records of its parts by their names at this time.
    Memory may be `hypervisor.vm.saved.record_streams.Sparse`.

    The file is there when it is whole; until then one that was there before stays. Raises `ConfigError` where it cannot
    be written, `ImageError` for an image of the configuration that cannot be read, and `DeviceError` for a part whose
    state is no record.
    """
    with FileWriter(path, compressed=compress) as writer:

        def put(what: str, content: bytes) -> str:
            writer.add(what, [content])
            return what

        configured = plain_config(config, put, embed=embed)
        records = write(writer, parts)
        writer.finish({"config": configured, "records": records, "stands": stands(parts, time_ns), "writer": version()})


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
