"""A machine with everything that ends on the host: serial ports, debug console, monitor, screen, log, gdb."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, BinaryIO

from hypervisor.cli.qemu.command import Command
from hypervisor.cli.qemu.debug_log import DebugLog
from hypervisor.cli.qemu.host_ends import FILE, MUX, STDIO
from hypervisor.cli.qemu.machine_life import SIGNALS_THAT_QUIT, Machine
from hypervisor.cli.qemu.monitor.prompt import Monitor
from hypervisor.cli.qemu.monitor.qmp import QmpServer
from hypervisor.cli.qemu.stdio import Stdio
from hypervisor.cli.tty.display import Display
from hypervisor.cli.tty.output import Output
from hypervisor.cli.tty.terminal import Terminal, is_interactive
from hypervisor.cli.tty.terminal_session import Session
from hypervisor.errors import ConfigError

HERE = (STDIO, MUX)


class Connected:
    """Context manager around a machine's time. Raises `ConfigError` for files that cannot be written, and for two ends
    that want this process's input alone.
    """

    def __init__(
        self, vm: Any, command: Command, serials: list[str], monitor: str, say: Callable[[str], object]
    ) -> None:
        self._vm, self._command, self._say = vm, command, say
        self._serials, self._monitor_end = serials, monitor
        self._opened = ExitStack()
        self._files: dict[str, BinaryIO] = {}
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
        here: list[Any] = []
        for number, end in enumerate(self._serials):
            if number in vm.serial:
                self._connect(vm.serial[number], end, here)
        for port in command.debug_ports:
            self._connect(vm.debugcon, port.end, here)
        if command.nographic:
            here.append(vm.bios_tty)  # as QEMU's firmware does, which then has no screen
        self.monitor = Monitor(self.machine, lambda data: self.stdio.write(data)) if self._monitor_end in HERE else None
        self.stdio = Stdio(
            vm,
            here,
            self._typing(),
            self.monitor.typed if self.monitor is not None else None,
            shared=MUX in (*self._serials, self._monitor_end),
            leave=self.machine.quit,
        )
        if command.logs:
            log = self._opened.enter_context(DebugLog(vm, command.logs, command.log_file))
            self.machine.when_crashed = log.crashed
        for address in command.qmp:
            self._opened.enter_context(QmpServer(self.machine, address))
        if command.gdb_port is not None:
            vm.gdb(command.gdb_port, wait=command.stopped)
        vm.console.open_input()  # a guest that waits is not at its end

    def _typing(self) -> Callable[[bytes], object] | None:
        """Where what is typed goes: to the serial port that ends here; and to the BIOS's keyboard, where that is all
        there is.
        """
        ports = [number for number, end in enumerate(self._serials) if end in HERE and number in self._vm.serial]
        if not ports:
            return None
        if len(ports) > 1 or (self._monitor_end == STDIO and self._serials[ports[0]] == STDIO):
            raise ConfigError("stdio: this terminal has one input; share it by mon:stdio, or give the others a file.")
        if ports[0] == 0 and self._command.nographic:
            send: Callable[[bytes], object] = self._vm.console.send
            return send
        port: Callable[[bytes], object] = self._vm.serial[ports[0]].send
        return port

    def _connect(self, stream: Any, end: str, here: list[Any]) -> None:
        if end in HERE:
            here.append(stream)
        elif end.startswith(FILE):
            path = end.removeprefix(FILE)
            if path not in self._files:
                self._files[path] = self._opened.enter_context(_opened(path))
            stream.listen(self._files[path].write)

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

    def __init__(self, vm: Any, machine: Machine, console: Stdio) -> None:
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
