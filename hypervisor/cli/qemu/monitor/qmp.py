"""``-qmp``: QEMU's machine protocol, for programs: JSON lines on a Unix socket, or on a port of this machine.

One client at a time. Sources: QEMU 7.2, ``docs/interop/qmp-spec.txt`` and ``qapi/``.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from hypervisor.cli.qemu.monitor import monitor_commands as commands
from hypervisor.cli.qemu.monitor import pictures
from hypervisor.cli.qemu.monitor.monitor_commands import State
from hypervisor.errors import ConfigError, HypervisorError

LONGEST = 1 << 20
"""Bytes of a command."""
GIVE_UP_S = 10.0
"""Host seconds after which a client that does not take our answers is left."""
LOOPBACK = ("", "localhost", "127.0.0.1")
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


class QmpServer:
    """Listens for as long as it is open. Raises `ConfigError` for an address that cannot be had."""

    def __init__(self, machine: Any, address: str) -> None:
        self._state = State(machine)
        self._path: str | None = None
        self._listener = self._listen(address)
        self._client: socket.socket | None = None
        self._ready = False
        self._sending = threading.Lock()
        machine.listeners.append(self._event)
        self._thread = threading.Thread(target=self._serve, name="qmp", daemon=True)

    def __enter__(self) -> QmpServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        client = self._client
        if client is not None:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self._thread.join(GIVE_UP_S)
        self._listener.close()
        if self._path is not None:
            with suppress(OSError):
                os.unlink(self._path)

    def _listen(self, address: str) -> socket.socket:
        where, _, rest = address.partition(",")
        if "server" not in (word.partition("=")[0] for word in rest.split(",")):
            raise ConfigError(f"-qmp {address}: nobody is connected to from here; add ,server,nowait.")
        kind, _, name = where.partition(":")
        host, _, port = name.rpartition(":")
        try:
            if kind == "unix" and name:
                with suppress(FileNotFoundError):
                    os.unlink(name)
                made = socket.socket(socket.AF_UNIX)
                made.bind(name)
                self._path = name
            elif kind == "tcp" and host in LOOPBACK and port.isdigit() and int(port) < 1 << 16:
                made = socket.create_server(("127.0.0.1", int(port)))
            else:
                raise ConfigError(f"-qmp {address}: give unix:PATH or a port of this machine, tcp:127.0.0.1:PORT.")
            made.listen(1)
        except OSError as error:
            raise ConfigError(f"-qmp {address}: {error.strerror}.") from error
        return made

    # --- the server's thread ------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # it is closed
                return
            client.setblocking(True)
            with self._sending:
                self._client, self._ready = client, False
            self._send({"QMP": {"version": _VERSION, "capabilities": []}})
            for line in _lines(client):
                self._send(self._answer(line))
            with self._sending:
                self._client = None
                client.close()

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
            return {"error": {"class": error.kind, "desc": str(error)}, **id}
        except (HypervisorError, OSError) as error:
            return {"error": {"class": "GenericError", "desc": str(error)}, **id}

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
            if self._client is not None:
                try:
                    self._client.settimeout(GIVE_UP_S)
                    self._client.sendall(json.dumps(message).encode() + b"\r\n")
                    self._client.settimeout(None)
                except OSError:
                    with suppress(OSError):
                        self._client.shutdown(socket.SHUT_RDWR)


def _lines(client: socket.socket) -> Iterator[bytes]:
    """What a client sends, by messages: each ends with its line, or before, where its last bracket is closed (clients
    need not send line ends). One that sends none for too long is left.
    """
    splitter = Splitter()
    while len(splitter.waiting) < LONGEST:
        try:
            data = client.recv(65536)
        except TimeoutError:
            continue  # another thread is sending
        except OSError:
            return
        if not data:
            return
        yield from splitter.feed(data)


class Splitter:
    """Finds the ends of messages in what comes piece by piece."""

    def __init__(self) -> None:
        self.waiting = bytearray()
        """The message that has no end yet."""
        self._depth, self._quoted, self._escaped = 0, False, False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that end in ``data``."""
        for byte in data:
            self.waiting.append(byte)
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
