"""``hypervisor up FILE``: start a described set of machines, and show them until all have ended."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

from hypervisor.cli.messages import say
from hypervisor.cli.status import BY_REASON, ExitStatus
from hypervisor.cli.tty.terminal import Terminal, is_interactive
from hypervisor.cli.up.fleet_lines import of_event, of_figures
from hypervisor.cli.up.patient_output import Ear, PatientOutput
from hypervisor.errors import ConfigError
from hypervisor.fleet.fleet import Fleet
from hypervisor.fleet.fleet_config import FleetConfig
from hypervisor.outcome.result import Reason, RunResult
from hypervisor.run.observing.host_events import HostEvents

WRONG = (Reason.CRASHED, Reason.HOST_ERROR, Reason.TIMEOUT, Reason.VIRTUAL_TIMEOUT)
"""Ends that are no success, the most serious first. However else a guest ends, it does that by itself."""
LOOK_S = 0.1
"""How often it is looked whether all runs are over, in host seconds."""


@dataclass(frozen=True)
class UpOptions:
    """A checked command line. Times are in seconds."""

    file: str
    interval: float = 1.0
    timeout: float | None = None
    virtual_timeout: float | None = None
    json: bool = False

    def __post_init__(self) -> None:
        for name in ("interval", "timeout", "virtual_timeout"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} is {value:g}; give a number of seconds greater than zero.")


def up(options: UpOptions) -> int:
    """Start the set, and show it; returns the exit status. Raises `HypervisorError` where it cannot be started."""
    described = FleetConfig.from_toml(options.file)
    terminal = Terminal() if is_interactive() and not options.json else None
    try:
        with Ear() as ear, Fleet(described) as fleet, fleet.events() as events:
            output = PatientOutput(1, ear)
            wanted = _on_terminal(fleet, options, terminal, ear, output, events) if terminal else False
            if terminal is None:
                _in_lines(fleet, options, ear, output, events)
            fleet.stop_all("the set is ended" if ear.received is None else f"{_name(ear.received)} was received")
            if terminal is None:
                _write_events(events, output)
            results = fleet.results
    finally:
        if terminal is not None:
            terminal.restore()
    for name, result in results.items():
        _tell(name, result)
    if output.failure and ear.received is None:
        say(f"{output.failure}.")
        return ExitStatus.ERROR
    if ear.received is not None:
        return 128 + ear.received
    return ExitStatus.STOPPED if wanted else _status(results.values())


def _in_lines(fleet: Fleet, options: UpOptions, ear: Ear, output: PatientOutput, events: HostEvents) -> None:
    """Until all runs are over, a signal comes or nobody reads."""
    fleet.start(options.timeout, options.virtual_timeout)
    before = fleet.figures()
    due = time.monotonic() + options.interval
    goes_on = True
    while goes_on and ear.received is None and not output.failure:
        goes_on = bool(fleet.running)
        _write_events(events, output)
        if time.monotonic() >= due or not goes_on:
            due = time.monotonic() + options.interval
            now = fleet.figures()
            output.write(of_figures(now, before))
            before = now
        if goes_on:
            ear.wait(min(due - time.monotonic(), LOOK_S))


def _write_events(events: HostEvents, output: PatientOutput) -> None:
    while (event := events.next(0.0)) is not None:
        output.write(of_event(event))


def _on_terminal(
    fleet: Fleet, options: UpOptions, terminal: Terminal, ear: Ear, output: PatientOutput, events: HostEvents
) -> bool:
    """The same with a person, who may want the end, too; whether that is so."""
    from hypervisor.cli.up.fleet_screen import FleetScreen

    for vm in fleet.vms.values():
        if vm.console is not None:
            vm.console.open_input()
    fleet.start(options.timeout, options.virtual_timeout)
    screen = FleetScreen(fleet, os.path.basename(options.file), terminal, ear, output, events)
    screen.show(options.interval)
    return screen.left


def _status(results: Iterable[RunResult]) -> int:
    reasons = {result.reason for result in results}
    wrong = next((reason for reason in WRONG if reason in reasons), None)
    return ExitStatus.POWERED_OFF if wrong is None else BY_REASON[wrong.value]


def _tell(name: str, result: RunResult) -> None:
    """A sentence, and the report of a crash."""
    if result.reason in (Reason.POWERED_OFF, Reason.DEBUG_EXIT):
        return
    say(f"{name}: {result.reason.value}: {result.message}")
    if result.crash is not None:
        say(f"{name}: {str(result.crash).removeprefix(result.message).strip()}")


def _name(number: int) -> str:
    return signal.Signals(number).name
