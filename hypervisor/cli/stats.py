"""The ``--stats`` file: one JSON object that says how a run ended and what it cost."""

from __future__ import annotations

import json
from typing import Any, TextIO

from hypervisor.cli.status import ExitStatus
from hypervisor.cli.vm_protocol import Guest, Result
from hypervisor.errors import ConfigError


def open_stats(path: str) -> TextIO:
    """The file for writing, emptied. Opened before the guest runs, so that a bad path costs nobody a run."""
    try:
        return open(path, "w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--stats: {path!r} cannot be written: {error.strerror}.") from error


def of_result(result: Result, vm: Guest, status: int) -> dict[str, Any]:
    """What the file says after a run.

    ``status`` is the exit status of this process; ``debug_exit`` the guest's own, uncut, when it gave one. Times are in
    seconds, memory in bytes. ``host_events`` need not repeat from run to run; everything in ``exits`` does, with the
    virtual clock.
    """
    return {
        "reason": result.reason.value,
        "message": result.message,
        "status": int(status),
        "debug_exit": result.status,
        "wall_s": result.wall_s,
        "virtual_s": result.virtual_s,
        "exits": dict(sorted(result.exits.items())),
        "host_events": dict(sorted(result.host_events.items())),
        "host_memory_bytes": vm.host_memory_bytes,
    }


def of_error(error: Exception) -> dict[str, Any]:
    """What the file says when the guest never ran."""
    return {"reason": "host-error", "message": str(error), "status": int(ExitStatus.ERROR)}


def write(file: TextIO, figures: dict[str, Any]) -> None:
    """Write ``figures`` and close the file. Raises `ConfigError`: a disk may be full by now."""
    try:
        with file:
            json.dump(figures, file, indent=2)
            file.write("\n")
    except OSError as error:
        raise ConfigError(f"--stats: {file.name!r} cannot be written: {error.strerror}.") from error
