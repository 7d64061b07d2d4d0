"""An end that is shared, or not, by a serial port and a monitor: QEMU's mux.

Ctrl-A is QEMU's escape where it is shared: x ends, c changes between the guest and the monitor, h says so, Ctrl-A
sends one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

ESCAPE = 0x01
HELP = """
C-a h    print this help
C-a x    exit emulator
C-a c    switch between console and monitor
C-a b    send break (magic sysrq)
C-a C-a  sends C-a
"""
BACKLOG = 32 << 10
"""Bytes that wait for the guest at most before a socket is read no more."""


class Port(Protocol):
    """What takes a guest's input: a serial port, or the console."""

    def send(self, data: bytes) -> object:
        """Input, from any thread."""
        ...

    @property
    def pending(self) -> int:
        """Bytes that the guest has not taken yet."""
        ...


class Monitor(Protocol):
    """Who answers to what is typed for it."""

    def opened(self) -> None:
        """Somebody has come."""
        ...

    def typed(self, data: bytes) -> None:
        """This was typed; nothing means that it is turned to again."""
        ...


class Mux:
    """What `hypervisor.cli.tty.terminal_session.Session` takes for a guest's console, and `Connection` for its front.

    ``guest`` is given what is typed for the guest, ``monitor`` what is typed for the monitor; either may be None.
    """

    def __init__(
        self,
        streams: Sequence[Any],
        guest: Port | None,
        monitor: Monitor | None,
        *,
        shared: bool,
        leave: Callable[[], object],
    ) -> None:
        self._streams, self._guest, self._monitor = streams, guest, monitor
        self.shared, self._leave = shared, leave
        self._escaped = False
        self._at_monitor = guest is None
        self.write: Callable[[bytes], object] = lambda data: None
        """Writes to the output, from any thread."""

    @property
    def wanted(self) -> bool:
        """Whether anybody reads the input."""
        return self._guest is not None or self._monitor is not None

    @property
    def shows_something(self) -> bool:
        """Whether the output is somebody's."""
        return bool(self._streams) or self._monitor is not None

    @property
    def full(self) -> bool:
        """Whether the guest has enough to take before it needs more."""
        return not self._at_monitor and self.pending >= BACKLOG

    def opened(self) -> None:
        """Somebody has come to the other side."""
        self._escaped = False
        if self._at_monitor and self._monitor is not None:
            self._monitor.opened()

    # --- what a session asks of a console -----------------------------------------------------------------------------

    def listen(self, listener: Callable[[bytes], object]) -> None:
        """Show what the guest writes to its streams that end here: this process's own output, which is open at once."""
        self.connect(listener)
        self.opened()

    def connect(self, listener: Callable[[bytes], object]) -> None:
        """Write to this from now on."""
        self.write = listener
        for stream in self._streams:
            stream.listen(listener)

    def feed(self, read: Callable[[], bytes]) -> None:
        """Input is passed on when it comes."""

    def open_input(self) -> None:
        """It is open for as long as the machine is: a guest that waits is waited for."""

    def close_input(self) -> None:
        """Nobody types any more, and the guest goes on, as under QEMU."""

    @property
    def pending(self) -> int:
        """Bytes that the guest has not taken yet."""
        return 0 if self._guest is None else self._guest.pending

    def send(self, data: bytes) -> None:
        """Pass on what was typed."""
        if not self.shared:
            self._pass(data)
            return
        passed = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte != ESCAPE:
                    self._pass(bytes(passed))
                    passed.clear()
                    if self._command(byte):
                        return
                    continue
            elif byte == ESCAPE:
                self._escaped = True
                continue
            passed.append(byte)
        self._pass(bytes(passed))

    def _command(self, byte: int) -> bool:
        """Act on the letter behind the escape; True if it ends the machine."""
        match chr(byte).lower():
            case "x":
                self.write(b"QEMU: Terminated\n\r")
                self._leave()
                return True
            case "h" | "?":
                self.write(HELP.encode())
            case "c" if self._guest is not None and self._monitor is not None:
                self._at_monitor = not self._at_monitor
                if self._at_monitor:
                    self._monitor.typed(b"")
        return False

    def _pass(self, data: bytes) -> None:
        if not data:
            return
        if self._at_monitor:
            if self._monitor is not None:
                self._monitor.typed(data)
        elif self._guest is not None:
            self._guest.send(data)
