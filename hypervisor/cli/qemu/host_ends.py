"""Where a serial port, a debug console or the monitor ends on the host: QEMU's character devices."""

from __future__ import annotations

from collections.abc import Mapping

from hypervisor.errors import ConfigError

STDIO, MUX, NOWHERE, FILE, WINDOW, ABSENT = "stdio", "mon:stdio", "null", "file:", "vc", "none"
"""The ends that there are: this process's input and output, alone or shared with the monitor; nowhere; a file; a tab of
QEMU's window; and no device at all.
"""
_SOCKETS = ("tcp:", "telnet:", "websocket:", "udp:", "unix:", "pipe:", "pty", "con:", "/dev/", "braille", "msmouse")


def check_end(option: str, text: str) -> str:
    """``text`` if it is an end. Raises `ConfigError`, with one to use instead."""
    inner = text.removeprefix("mon:")
    if inner.startswith(FILE) and len(inner) > len(FILE):
        return inner
    if text in (STDIO, MUX, NOWHERE, ABSENT):
        return text
    if inner == WINDOW or inner.startswith("vc:"):
        return WINDOW
    if inner.startswith(_SOCKETS):
        raise ConfigError(
            f"{option} {text}: only files and this terminal are connected here; use {option} stdio, or file:PATH."
        )
    raise ConfigError(f"{option} {text}: give stdio, mon:stdio, file:PATH, null or none.")


def end_of_chardev(keys: Mapping[str, str]) -> str:
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
    raise ConfigError(f"-chardev {backend}: give stdio, file or null.")
