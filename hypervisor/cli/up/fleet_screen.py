"""A set of machines on a person's terminal: the table, keys, and the consoles and screens of machines."""

from __future__ import annotations

import os
import termios
import time
from collections import deque

from hypervisor.cli.progress_bar import each_second
from hypervisor.cli.tty import ansi
from hypervisor.cli.tty.live import COLUMNS, ROWS
from hypervisor.cli.tty.terminal import Terminal
from hypervisor.cli.up.fleet_keys import Keys
from hypervisor.cli.up.fleet_lines import rates_of
from hypervisor.cli.up.fleet_table import View, lines_of, of_event, printable
from hypervisor.cli.up.fleet_worker import Worker
from hypervisor.cli.up.patient_output import Ear, PatientOutput
from hypervisor.cli.up.visited import VisitedConsole, VisitedScreen
from hypervisor.fleet.fleet import Fleet
from hypervisor.run.observing.host_events import HostEvents

LEAST_COLUMNS, LEAST_ROWS = 20, 4
MOST_COLUMNS, MOST_ROWS = 500, 300
VISIT_S = 0.04
"""Host seconds between two looks at a console, or a screen."""
KEPT_NOTES = 100


class FleetScreen:
    """Draws until all runs are over, somebody wants to leave, or a signal comes."""

    def __init__(
        self, fleet: Fleet, title: str, terminal: Terminal, ear: Ear, output: PatientOutput, events: HostEvents
    ) -> None:
        self._fleet, self._title, self._terminal, self._ear, self._output = fleet, title, terminal, ear, output
        self._events = events
        self.left = False
        """Whether somebody wanted to leave."""
        self._names = list(fleet.vms)
        self._chosen = 0
        self._notes: deque[str] = deque(maxlen=KEPT_NOTES)
        self._keys = Keys()
        self._worker = Worker(self._notes.append)
        self._shown: list[str] | None = None
        self._size = (0, 0)
        self._visit: VisitedConsole | VisitedScreen | None = None
        self._now = self._before = fleet.figures()
        self._read_at = 0.0

    # --- the loop -----------------------------------------------------------------------------------------------------

    def show(self, interval: float) -> None:
        """Until the end; figures are read every ``interval`` host seconds."""
        self._take()
        try:
            while self._goes_on():
                self._take_events()
                if time.monotonic() >= self._read_at:
                    self._read_at = time.monotonic() + interval
                    self._before, self._now = self._now, self._fleet.figures()
                self._draw()
                wait = VISIT_S if self._visit is not None else min(interval, 0.25)
                if self._ear.wait(wait, 0):
                    self._typed()
                if self._ear.continued:
                    self._ear.continued = False
                    self._take()
        finally:
            self._leave_visit()
            self._output.write(ansi.LEAVE.encode())
            self._terminal.draw_on(False)
            self._terminal.restore()
            self._worker.close()

    def _goes_on(self) -> bool:
        if self.left or self._ear.received is not None or self._output.failure:
            return False
        return bool(self._fleet.running or self._worker.busy)

    def _take(self) -> None:
        """The terminal's screen is ours, whatever was on it."""
        try:
            self._terminal.make_raw()
        except termios.error:  # it is gone
            self.left = True
            return
        self._terminal.draw_on(True)
        self._output.write(ansi.ENTER.encode())
        self._shown, self._size = None, (0, 0)

    def _take_events(self) -> None:
        while (event := self._events.next(0.0)) is not None:
            self._notes.append(of_event(event))

    # --- drawing ------------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        if self._visit is not None:
            self._visit.draw()
            return
        try:
            columns, rows = os.get_terminal_size(self._output.fd)
        except OSError:  # it is gone
            self.left = True
            return
        size = min(columns or COLUMNS, MOST_COLUMNS), min(rows or ROWS, MOST_ROWS)
        if size != self._size:
            self._size, self._shown = size, None
        lines = self._lines(*size)
        if self._shown is None:
            self._output.write(b"\x1b[0m\x1b[2J")
        old = self._shown or [""] * len(lines)
        changed = [
            f"\x1b[{row + 1};1H{line}\x1b[0m\x1b[K"
            for row, line in enumerate(lines)
            if row >= len(old) or line != old[row]
        ]
        self._output.write("".join(changed).encode())
        self._shown = lines

    def _lines(self, columns: int, rows: int) -> list[str]:
        if columns < LEAST_COLUMNS or rows < LEAST_ROWS:
            return ["make it larger"[:columns]]
        chosen = self._names[self._chosen]
        rates = rates_of(self._now, self._before)
        view = View(self._title, self._now, rates, [printable(note) for note in list(self._notes)], chosen)
        return lines_of(view, columns, rows, colour=not os.environ.get("NO_COLOR"))

    # --- keys ---------------------------------------------------------------------------------------------------------

    def _typed(self) -> None:
        try:
            data = os.read(0, 4096)
        except OSError:  # a terminal that has hung up
            data = b""
        if not data:
            self.left = True
            return
        self._keys.put(data)
        while not self.left:
            if self._visit is not None:
                if not self._visit.typed(self._keys.rest()):
                    self._leave_visit()
                    self._take()
                return
            key = self._keys.next()
            if not key:
                return
            self._act(key)

    def _act(self, key: str) -> None:
        name, fleet = self._names[self._chosen], self._fleet
        match key:
            case "up" | "k":
                self._chosen = max(self._chosen - 1, 0)
            case "down" | "j":
                self._chosen = min(self._chosen + 1, len(self._names) - 1)
            case "p":
                self._worker.do(f"pausing {name}", lambda: None if fleet.pause(name) else f"{name} does not run")
            case "r":
                self._worker.do(f"resuming {name}", lambda: fleet.resume(name))
            case "s":
                self._worker.do(f"stopping {name}", lambda: fleet.stop(name))
            case "n":
                self._worker.do(f"saving {name}", lambda: self._save(name), finishes=True)
            case "c":
                self._visit = VisitedConsole(fleet[name], self._output)
            case "v" if fleet[name].screen is None:
                self._notes.append(f"{name} has no screen")
            case "v":
                self._visit = VisitedScreen(fleet[name], self._terminal, self._output)
            case "q" | "ctrl-c":
                self.left = True

    def _save(self, name: str) -> str:
        path = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.machine"
        self._fleet.save(name, path, progress=each_second(lambda part: self._notes.append(f"{name}: {part:.0%} saved")))
        return f"{name} is saved in {path}; `hypervisor run {path}` goes on from there"

    def _leave_visit(self) -> None:
        if self._visit is not None:
            self._visit.leave()
            self._visit = None


__all__ = ["FleetScreen"]
