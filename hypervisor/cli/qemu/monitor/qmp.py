"""``-qmp``: QEMU's machine protocol, for programs: JSON lines.

Sources: QEMU 7.2, ``docs/interop/qmp-spec.txt`` and ``qapi/``.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from hypervisor.cli.qemu.monitor import monitor_commands as commands
from hypervisor.cli.qemu.monitor import pictures
from hypervisor.cli.qemu.monitor.monitor_commands import State
from hypervisor.errors import HypervisorError

LONGEST = 1 << 20
"""Bytes of a command."""
_VERSION = {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": "rootmode"}

Arguments = dict[str, Any]


class QmpError(Exception):
    """What a command is answered instead of a result: its class, and a description."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def _running(state: State, arguments: Arguments) -> Any:
    running = state.machine.status == "running"
    return {"running": running, "singlestep": False, "status": state.machine.status}


def _nothing(function: Callable[[State], object]) -> Callable[[State, Arguments], Any]:
    def run(state: State, arguments: Arguments) -> Any:
        function(state)
        return {}

    return run


def _screendump(state: State, arguments: Arguments) -> Any:
    with state.vm.paused():
        pictures.write(state.vm, _text(arguments, "filename"), arguments.get("format", "ppm"))
    return {}


def _human(state: State, arguments: Arguments) -> Any:
    try:
        said = commands.run(state, _text(arguments, "command-line"))
    except HypervisorError as error:
        said = str(error)
    return said.replace("\n", "\r\n") + ("\r\n" if said else "")


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise QmpError("GenericError", f"Parameter '{name}' is missing")
    return value


COMMANDS: dict[str, Callable[[State, Arguments], Any]] = {
    "qmp_capabilities": lambda state, arguments: {},
    "query-status": _running,
    "query-version": lambda state, arguments: _VERSION,
    "query-name": lambda state, arguments: {"name": state.vm.name},
    "query-commands": lambda state, arguments: [{"name": name} for name in COMMANDS],
    "stop": _nothing(lambda state: state.machine.stop()),
    "cont": _nothing(lambda state: state.machine.go_on()),
    "system_reset": _nothing(lambda state: state.machine.reset()),
    "system_powerdown": _nothing(lambda state: state.vm.press_power_button()),
    "quit": _nothing(lambda state: state.machine.quit()),
    "screendump": _screendump,
    "human-monitor-command": _human,
}


class QmpSession:
    """QMP with one client at a time, on one end; ``write`` sends to it, at once and from any thread."""

    def __init__(self, machine: Any, write: Callable[[bytes], object]) -> None:
        self._state = State(machine)
        self._write = write
        self._splitter = Splitter()
        self._ready = False
        self._sending = threading.Lock()
        machine.listeners.append(self._event)

    def opened(self) -> None:
        """Somebody has come: greet, and wait for the negotiation."""
        self._ready, self._splitter = False, Splitter()
        self._send({"QMP": {"version": _VERSION, "capabilities": []}})

    def typed(self, data: bytes) -> None:
        """Answer what was sent, on any one thread."""
        for line in self._splitter.feed(data):
            self._send(self._answer(line))

    def _answer(self, line: bytes) -> dict[str, Any]:
        id: dict[str, Any] = {}
        try:
            try:
                asked = json.loads(line)
            except (ValueError, RecursionError):
                raise QmpError("GenericError", "JSON parse error, invalid syntax") from None
            if not isinstance(asked, dict) or not isinstance(asked.get("execute"), str):
                raise QmpError("GenericError", "QMP input lacks member 'execute'")
            id = {"id": asked["id"]} if "id" in asked else {}
            return {"return": self._execute(asked["execute"], asked.get("arguments", {})), **id}
        except QmpError as error:
            return _error(error.kind, str(error)) | id
        except (HypervisorError, OSError) as error:
            return _error("GenericError", str(error)) | id

    def _execute(self, name: str, arguments: Any) -> Any:
        if not self._ready and name != "qmp_capabilities":
            raise QmpError("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'")
        if name not in COMMANDS or (self._ready and name == "qmp_capabilities"):
            raise QmpError("CommandNotFound", f"The command {name} has not been found")
        if not isinstance(arguments, dict):
            raise QmpError("GenericError", "QMP input member 'arguments' must be an object")
        answer = COMMANDS[name](self._state, arguments)
        self._ready = True
        return answer

    def _event(self, name: str, data: dict[str, Any]) -> None:
        """Tell the client; from any thread."""
        if self._ready:
            seconds, micro = divmod(time.time_ns() // 1000, 1_000_000)
            stamp = {"seconds": seconds, "microseconds": micro}
            self._send({"event": name, "timestamp": stamp, **({"data": data} if data else {})})

    def _send(self, message: dict[str, Any]) -> None:
        with self._sending:
            self._write(json.dumps(message).encode() + b"\r\n")


def _error(kind: str, text: str) -> dict[str, Any]:
    return {"error": {"class": kind, "desc": text}}


class Splitter:
    """Finds the ends of messages in what comes piece by piece: each ends with its line, or before, where its last
    bracket is closed (clients need not send line ends). One that is too long ends with its line alone, and its first
    `LONGEST` bytes make no sense.
    """

    def __init__(self) -> None:
        self.waiting = bytearray()
        """The message that has no end yet."""
        self._depth, self._quoted, self._escaped = 0, False, False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that end in ``data``."""
        for byte in data:
            if len(self.waiting) < LONGEST:
                self.waiting.append(byte)
            elif byte != 0x0A:
                continue
            if byte == 0x0A or self._closes(byte):
                message = bytes(self.waiting)
                self.waiting.clear()
                self._depth, self._quoted, self._escaped = 0, False, False
                if message.strip():
                    yield message

    def _closes(self, byte: int) -> bool:
        """Whether this closes the outermost bracket."""
        if self._quoted:
            self._quoted = self._escaped or byte != ord('"')
            self._escaped = not self._escaped and byte == ord("\\")
            return False
        if byte == ord('"'):
            self._quoted = True
        elif byte in b"{[":
            self._depth += 1
        elif byte in b"}]":
            self._depth -= 1
            return self._depth == 0
        return False
