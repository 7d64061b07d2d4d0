"""A machine with everything that ends on the host: serial ports, debug console, monitor, screen, log, gdb."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, BinaryIO

from hypervisor.cli.qemu.command import Command
from hypervisor.cli.qemu.debug_log import DebugLog
from hypervisor.cli.qemu.ends.connection import Connection
from hypervisor.cli.qemu.ends.host_ends import FILE, MUX, STDIO, End, Socket, shared
from hypervisor.cli.qemu.ends.mux import Mux
from hypervisor.cli.qemu.machine_life import SIGNALS_THAT_QUIT, Machine
from hypervisor.cli.qemu.monitor.prompt import Monitor
from hypervisor.cli.qemu.monitor.qmp import QmpSession
from hypervisor.cli.tty.display import Display
from hypervisor.cli.tty.output import Output
from hypervisor.cli.tty.terminal import Terminal, is_interactive
from hypervisor.cli.tty.terminal_session import Session
from hypervisor.errors import ConfigError


@dataclass
class Users:
    """Who shares an end: streams that are shown there, what takes input, monitors for people and for programs."""

    streams: list[Any] = field(default_factory=list)
    ports: list[Any] = field(default_factory=list)
    people: int = 0
    programs: int = 0
    shared: bool = False

    def check(self, name: str) -> None:
        """Raise `ConfigError` where the input is wanted by more than can have it."""
        if len(self.ports) > 1 or self.people > 1 or (self.ports and self.people and not self.shared):
            raise ConfigError(
                f"{name}: there is one input; share it between a serial port and the monitor by mon:{name}, "
                "or give the others a file or a socket."
            )
        if self.programs > 1 or (self.programs and (self.streams or self.people)):
            raise ConfigError(f"{name}: QMP is alone where it is; give it an end of its own, such as a socket.")


class Connected:
    """Context manager around a machine's time. Raises `ConfigError` for files that cannot be written, for sockets that
    cannot be had, and for two that want the same input alone.
    """

    def __init__(
        self, vm: Any, command: Command, serials: list[End], monitors: list[End], say: Callable[[str], object]
    ) -> None:
        self._vm, self._command, self._say = vm, command, say
        self._serials, self._monitors = serials, monitors
        self._opened = ExitStack()
        self.machine = Machine(vm, command, say)

    def __enter__(self) -> Connected:
        try:
            self._open()
        except BaseException:
            self._opened.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def _open(self) -> None:
        vm, command = self._vm, self._command
        users = self._users()
        self.stdio = self._mux(users.pop(STDIO, Users()), lambda data: self.stdio.write(data))
        if command.logs:
            log = self._opened.enter_context(DebugLog(vm, command.logs, command.log_file))
            self.machine.when_crashed = log.crashed
        if command.gdb_port is not None:
            vm.gdb(command.gdb_port, wait=command.stopped)
        vm.console.open_input()  # a guest that waits is not at its end
        for end, those in users.items():
            if isinstance(end, Socket):
                connection = Connection(end, whole=those.programs > 0, say=self._say)
                mux = self._mux(those, connection.write)
                mux.connect(connection.write)
                self._opened.enter_context(connection.open(mux))
            elif end.startswith(FILE):
                write = self._opened.enter_context(_opened(end.removeprefix(FILE))).write
                for stream in those.streams:
                    stream.listen(write)

    def _users(self) -> dict[End, Users]:
        """Who ends where; this process's input and output are `STDIO`, shared or not."""
        vm, command = self._vm, self._command
        found: dict[End, Users] = {}

        def at(end: End) -> Users:
            users = found.setdefault(STDIO if end == MUX else end, Users())
            users.shared |= shared(end)
            return users

        for number, end in enumerate(self._serials):
            if number not in vm.serial:
                continue
            users = at(end)
            users.streams.append(vm.serial[number])
            # The keyboard of the BIOS is there, too, as with QEMU's firmware, which then has no screen.
            by_bios = number == 0 and command.nographic
            users.ports.append(vm.console if by_bios else vm.serial[number])
            if by_bios:
                users.streams.append(vm.bios_tty)
        for port in command.debug_ports:
            at(port.end).streams.append(vm.debugcon)
        for end in self._monitors:
            at(end).people += 1
        for end in command.qmp:
            at(end).programs += 1
        for end, users in found.items():
            if end == STDIO or isinstance(end, Socket):
                users.check(str(end))
        return found

    def _mux(self, users: Users, write: Callable[[bytes], object]) -> Mux:
        monitor = (
            QmpSession(self.machine, write)
            if users.programs
            else Monitor(self.machine, write)
            if users.people
            else None
        )
        return Mux(
            users.streams,
            users.ports[0] if users.ports else None,
            monitor,
            shared=users.shared,
            leave=self.machine.quit,
        )

    # --- the time of the run ------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run until the process is to end; its exit status."""
        interactive = is_interactive()
        terminal = Terminal() if interactive else None
        uses_stdio = self.stdio.wanted or self.stdio.shows_something
        output = Output(1, on_failure=self.machine.request_stop)
        kind = "screen" if self._command.display and not uses_stdio else "none"
        display = Display(self._vm, kind, terminal, output)
        guest = _Guest(self._vm, self.machine, self.stdio)
        try:
            # With the screen shown, the terminal is the guest's keyboard; as a serial port it is raw without that.
            with Session(
                guest,
                stdin=_input(terminal, wanted=self.stdio.wanted or kind == "screen"),
                output=output,
                terminal=terminal if kind == "screen" else None,
                display=display if kind == "screen" else None,
            ) as session:
                if terminal is not None and self.stdio.wanted:
                    terminal.make_raw(signals=not self.stdio.shared)
                status = self.machine.run()
        finally:
            if terminal is not None:
                terminal.restore()
        if kind == "screen":
            display.finish()
        if session.received is not None:
            self._say(f"terminating on signal {session.received}")
            return 0 if session.received in SIGNALS_THAT_QUIT else 128 + session.received
        return 1 if output.failure else status


class _Guest:
    """The part of a VM that a session uses, with other ends."""

    def __init__(self, vm: Any, machine: Machine, console: Mux) -> None:
        self._vm, self.console, self.request_stop = vm, console, machine.request_stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vm, name)


def _input(terminal: Terminal | None, *, wanted: bool) -> int | None:
    if not wanted or sys.stdin is None or (terminal is None and os.isatty(0)):
        return None
    return 0


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "wb", buffering=0)
    except OSError as error:
        raise ConfigError(f"file:{path}: {error.strerror}.") from error
