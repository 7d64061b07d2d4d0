"""Where a serial port, a debug console or a monitor ends on the host, as QEMU's options say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hypervisor.cli.qemu.parsing import on, pairs, split
from hypervisor.errors import ConfigError

STDIO, MUX, NOWHERE, FILE, WINDOW, ABSENT = "stdio", "mon:stdio", "null", "file:", "vc", "none"
"""The ends that are texts: this process's input and output, alone or shared with the monitor; nowhere; a file; a tab of
QEMU's window; and no device at all.
"""
LOOPBACK = ("", "localhost", "127.0.0.1")
_TALKED = "telnet:", "tn3270:", "websocket:"
_ELSEWHERE = ("udp:", "pipe:", "pty", "con:", "/dev/", "braille", "msmouse")
_KEYS = frozenset(("backend", "id", "mux", "path", "host", "port", "server", "wait"))
_NO_EFFECT = frozenset(("nodelay", "delay", "ipv4", "reconnect", "reconnect-ms"))
"""Keys of sockets that are taken: a connection that is lost is not made again from here."""
USUAL = "stdio, file:PATH, unix:PATH,server=on,wait=off or tcp:127.0.0.1:PORT,server=on,wait=off"


@dataclass(frozen=True)
class Socket:
    """A socket of this machine: a Unix socket where there is a ``path``, else a TCP port of the loopback interface.

    A ``server`` listens, and with ``wait`` the machine starts when somebody has come; otherwise it is connected to.
    """

    path: str = ""
    port: int = 0
    server: bool = False
    wait: bool = True
    shared: bool = False
    """By a serial port and the monitor."""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"tcp:127.0.0.1:{self.port}"


End = str | Socket


def shared(end: End) -> bool:
    """Whether a serial port and the monitor share it."""
    return end.shared if isinstance(end, Socket) else end == MUX


def end_of(option: str, text: str) -> End:
    """What an option such as ``-serial`` names. Raises `ConfigError`, with one to use instead."""
    inner = text.removeprefix("mon:")
    if inner.startswith(FILE) and len(inner) > len(FILE):
        return inner
    if text in (STDIO, MUX, NOWHERE, ABSENT):
        return text
    if inner == WINDOW or inner.startswith("vc:"):
        return WINDOW
    if inner.startswith(("unix:", "tcp:")):
        where, *rest = (item.replace(",", ",,") for item in split(inner))
        kind, _, address = where.partition(":")
        keys = pairs(",".join(rest)) | ({"mux": "on"} if inner != text else {})
        if kind == "unix":
            keys["path"] = address.replace(",,", ",")
        else:
            keys["host"], _, keys["port"] = address.rpartition(":")
        return _socket(f"{option} {text}", keys)
    if inner.startswith(_TALKED):
        raise ConfigError(f"{option} {text}: only bytes as they are go over sockets here; use tcp: or unix:.")
    if inner.startswith(_ELSEWHERE):
        raise ConfigError(f"{option} {text}: nothing of that kind is connected here; use {USUAL}.")
    raise ConfigError(f"{option} {text}: give {USUAL}, or null or none.")


def end_of_chardev(keys: Mapping[str, str]) -> End:
    """The end that ``-chardev`` describes. Raises `ConfigError`."""
    backend = keys.get("backend", "")
    match backend:
        case "stdio":
            return MUX if keys.get("mux") == "on" else STDIO
        case "file":
            if "path" not in keys:
                raise ConfigError("-chardev file: path= is missing; give the file.")
            return FILE + keys["path"]
        case "null" | "ringbuf":
            return NOWHERE
        case "vc":
            return WINDOW
        case "socket":
            return _socket("-chardev socket", keys)
    raise ConfigError(f"-chardev {backend}: give stdio, file, socket or null.")


def _socket(said: str, keys: Mapping[str, str]) -> Socket:
    """A socket by QEMU's keys; ``said`` is the option. Raises `ConfigError`."""
    for key in keys:
        if key not in _KEYS | _NO_EFFECT:
            raise ConfigError(f"{said}: there is no {key}= for sockets here; leave it out.")
    is_server = on(keys.get("server", "off"))
    waits = is_server and on(keys.get("wait", "on"))
    mux = on(keys.get("mux", "off"))
    if "path" in keys:
        if not keys["path"]:
            raise ConfigError(f"{said}: the path of the socket is missing; give one.")
        return Socket(path=keys["path"], server=is_server, wait=waits, shared=mux)
    host, port = keys.get("host", ""), keys.get("port", "")
    if host not in LOOPBACK or not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ConfigError(f"{said}: give a Unix socket or a port of this machine, such as tcp:127.0.0.1:4444.")
    return Socket(port=int(port), server=is_server, wait=waits, shared=mux)
