"""A set of machines as lines of JSON: one for each event, and one with figures now and then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from hypervisor.run.observing.host_events import HostEvent
from hypervisor.vm.figures import HostFigures, VmFigures, VmRates


def of_event(event: HostEvent) -> bytes:
    """An event's line. Times are in seconds."""
    return _line(
        {
            "event": event.what.value,
            "vm": event.vm,
            "time": round(event.time_s, 6),
            "virtual_s": event.virtual_s,
            "reason": None if event.reason is None else event.reason.value,
            "message": event.message,
        }
    )


def of_figures(now: HostFigures, before: HostFigures) -> bytes:
    """The line of figures: memory in bytes, parts of the time since ``before``, exits a second by kind, I/O in all."""
    seconds = max(now.time_s - before.time_s, 1e-9)
    pcpus = [
        {"run": round((one.run_s - old.run_s) / seconds, 4), "idle": round((one.idle_s - old.idle_s) / seconds, 4)}
        for one, old in zip(now.pcpus, before.pcpus, strict=True)
    ]
    memory = {"size": now.memory, "promised": now.promised, "used": now.used, "swapped": now.swapped}
    rates = rates_of(now, before)
    vms = {one.name: _of_vm(one, rates[one.name]) for one in now.vms}
    return _line({"figures": {"seconds": round(seconds, 3), "memory": memory, "pcpus": pcpus, "vms": vms}})


def rates_of(now: HostFigures, before: HostFigures) -> dict[str, VmRates]:
    """What has happened to each machine between two readings."""
    old = {one.name: one for one in before.vms}
    return {one.name: one.since(old.get(one.name, one)) for one in now.vms}


def _of_vm(now: VmFigures, rates: VmRates) -> Mapping[str, Any]:
    return {
        "state": now.state,
        "virtual_s": round(now.virtual_s, 9),
        "cpu": {"run": round(rates.run, 4), "ready": round(rates.ready, 4), "blocked": round(rates.blocked, 4)},
        "memory": asdict(now.memory),
        "exits": {kind: round(rate, 1) for kind, rate in sorted(rates.exits.items())},
        "io": asdict(now.io),
    }


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
