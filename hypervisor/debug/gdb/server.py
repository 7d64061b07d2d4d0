"""The socket: a thread that takes connections and packets, and the VM's side, which serves them while the guest waits.

The thread only frames and queues what comes; it touches the VM through `VM.request_pause`. So a guest never waits for
gdb unless gdb has stopped it, and everything that gdb does happens between two instructions.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections.abc import Sequence
from enum import Enum
from queue import Full, Queue
from typing import Any

from hypervisor.debug.gdb import commands
from hypervisor.debug.gdb.gdb_session import SIGINT, SIGSEGV, SIGTRAP, Session
from hypervisor.debug.gdb.packets import ACK, NAK, Event, PacketReader, frame
from hypervisor.debug.gdb.remembered import Remembered
from hypervisor.errors import ConfigError
from hypervisor.outcome.result import Reason

LOOPBACK = "127.0.0.1"
GIVE_UP_S = 10.0
"""Host seconds after which a client that does not take our answers is left."""

_BACKLOG = 256  # packets that wait for the VM; gdb sends one at a time
_AT_ONCE = 16  # packets that are served before a running guest goes on
_PATIENCE_S = 0.1
_LOOKED_AT = {
    Reason.CRASHED: SIGSEGV,
    Reason.HALTED: SIGTRAP,
    Reason.IDLE: SIGTRAP,
    Reason.STOPPED: SIGTRAP,
    Reason.HOST_ERROR: SIGTRAP,
}
"""Ends of a run after which the guest is still worth a look, and the signal that gdb is told."""

_GONE = {Reason.POWERED_OFF, Reason.DEBUG_EXIT, Reason.RESET}


class _Change(Enum):
    CLOSED = "the connection is closed"
    WOKEN = "the host wants the run to end"


class GdbServer:
    """Serves one gdb at a time on a port of the loopback interface; `VM.gdb` makes one. Close it, or its VM."""

    def __init__(self, vm: Any, port: int = 0, wait: bool = False) -> None:
        """``port`` 0 is any free one; ``wait`` holds the guest until a gdb has come. Raises `ConfigError` if the port
        cannot be had.
        """
        self._vm = vm
        self._wait = wait
        self._events: Queue[_Change | Event | bytes | socket.socket] = Queue(_BACKLOG)
        """What has come, in order; a socket is a gdb that has connected."""
        self._listener = _listen(port)
        self.port: int = self._listener.getsockname()[1]
        """The TCP port, for ``target remote :PORT``."""
        self._connection: socket.socket | None = None
        self._served: socket.socket | None = None
        """Whose packets the VM's thread serves: perhaps one that has gone, while the next has connected already."""
        self._sending = threading.Lock()
        self._last = b""
        self._session: Session | None = None
        self._remembered = Remembered(vm)
        self._acknowledges = True
        self._lost = False
        self._closing = False
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name=f"{vm.name}-gdb", daemon=True)
        self._thread.start()

    # --- the socket's thread ------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        reader = PacketReader()
        while not self._closing:
            ready = _readable([self._listener, self._wake_read, self._connection], None)
            while not self._closing and _readable([self._connection], 0):  # who has gone makes room for who comes
                self._receive(self._connection, reader)
            if self._listener in ready:
                reader = PacketReader() if self._connection is None else reader
                self._take()

    def _take(self) -> None:
        try:
            new, _ = self._listener.accept()
        except OSError:
            time.sleep(_PATIENCE_S)  # it has gone again, or this process may open no more files
            return
        if self._connection is not None:  # one gdb at a time
            new.close()
            return
        new.settimeout(GIVE_UP_S)
        new.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._sending:
            self._acknowledges, self._lost, self._last = True, False, b""
            self._connection = new
        self._put(new)

    def _receive(self, connection: socket.socket | None, reader: PacketReader) -> None:
        assert connection is not None
        try:
            data = connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            with self._sending:
                self._connection = None
                connection.close()
            self._put(_Change.CLOSED)
            return
        for item in reader.feed(data):
            if self._lost or self._closing:
                break
            if item is Event.RESEND:
                self._transmit(connection, self._last)
            elif self._acknowledges and item is not Event.INTERRUPTED:
                self._transmit(connection, NAK if item is Event.DAMAGED else ACK)
            if isinstance(item, bytes) or item is Event.INTERRUPTED:
                self._put(item)

    def _put(self, item: _Change | Event | bytes | socket.socket) -> None:
        while not self._closing:
            try:
                self._events.put(item, timeout=_PATIENCE_S)
                break
            except Full:
                continue
        self._vm.request_pause()

    def _transmit(self, to: socket.socket | None, data: bytes) -> None:
        """Send to a gdb, unless it has gone."""
        with self._sending:
            if to is not None and to is self._connection:
                try:
                    to.sendall(data)
                except OSError:
                    self._hang_up()

    def _hang_up(self, both: bool = True) -> None:
        """End the connection; the socket's thread notices, and closes it, unless only our side of it is ended."""
        self._lost = True
        if self._connection is not None:
            try:
                self._connection.shutdown(socket.SHUT_RDWR if both else socket.SHUT_WR)
            except OSError:
                return  # the other side was quicker

    @property
    def connected(self) -> bool:
        """Whether a gdb is there."""
        return self._connection is not None

    # --- the VM's thread ----------------------------------------------------------------------------------------------

    def attend(self, ended: tuple[Reason, str] | None) -> None:
        """See `hypervisor.run.pausing.Debugger`."""
        if ended is not None:
            self._end(*ended)
            return
        for _ in range(_AT_ONCE):
            if self._events.empty() or self._vm.runner.stop_requested:
                break
            self._serve_one(self._events.get())
        if not self._events.empty():
            self._vm.request_pause()  # whoever sends without end slows the guest, and does not keep it
        session = self._session
        if session is not None and session.running:
            reply = session.why_stopped()
            if reply is not None:
                self._send(reply)
        self._hold()

    def _hold(self) -> None:
        """Serve gdb until the guest is to run, or the host wants the run to end."""
        while self._holds() and not self._vm.runner.stop_requested:
            self._serve_one(self._events.get())

    def _holds(self) -> bool:
        return self._wait if self._session is None else not self._session.running

    def _serve_one(self, item: _Change | Event | bytes | socket.socket) -> None:
        """Act on what came in."""
        session = self._session
        if isinstance(item, socket.socket):
            self._served = item
            self._session, self._wait = Session(self._vm, lambda: not self._events.empty(), self._remembered), False
        elif item is _Change.CLOSED:
            self._drop()
        elif item is Event.INTERRUPTED:
            if session is not None and session.running:
                self._send(session.stop(SIGINT, vcpu=self._vm.current))
        elif isinstance(item, bytes) and session is not None and not self._lost:
            self._answer(session, item)

    def _answer(self, session: Session, packet: bytes) -> None:
        reply = commands.answer(session, packet)
        with self._sending:  # before the reply, behind which gdb sends the next packet
            if self._served is self._connection:
                self._acknowledges = session.acknowledges
        if reply is not None:
            self._send(reply)
        if session.left:
            self._drop()
            with self._sending:
                if self._served is self._connection:
                    self._hang_up()

    def _drop(self) -> None:
        if self._session is not None:
            self._session.leave()
            self._session = None

    def _send(self, data: bytes) -> None:
        packet = frame(data)
        with self._sending:
            if self._served is self._connection:
                self._last = packet
        self._transmit(self._served, packet)

    def _end(self, reason: Reason, message: str) -> None:
        """The run has ended. After a crash and the like, gdb may look at the guest before it is told that it is
        gone.
        """
        session = self._session
        if session is None or not session.running:
            return
        if reason in _LOOKED_AT:
            self._send(b"O" + f"hypervisor: {message}\n".encode().hex().encode())
            session.over = True
            self._send(session.stop(_LOOKED_AT[reason]))
            self._hold()
            if not session.over:  # the machine went back, and so the run goes on
                return
        if self._session is session and (reason in _LOOKED_AT or reason in _GONE):
            self._send(b"X0b" if reason is Reason.CRASHED else b"W00")
            self._drop()

    def wake(self) -> None:
        """See `hypervisor.run.pausing.Debugger`."""
        try:
            self._events.put_nowait(_Change.WOKEN)
        except Full:
            return  # something else wakes it

    def close(self) -> None:
        """Tell gdb that the VM is gone, and stop listening."""
        if self._closing:
            return
        if self._session is not None and self._session.running:
            self._send(b"W00")
        self._closing = True
        # The thread may be sending to somebody who does not listen. Not both sides: whoever is still sending, and waits
        # for room here, would not be told that there is some once that is read, and so not be reset by what comes then.
        self._hang_up(both=False)
        self._wake_write.send(b"\0")
        self._thread.join()
        for end in (self._listener, self._wake_read, self._wake_write, self._connection):
            if end is not None:
                end.close()
        self._remembered.close()
        if self._vm.debugger is self:
            self._vm.debugger = None


def _readable(ends: Sequence[socket.socket | None], timeout: float | None) -> list[socket.socket]:
    """Those that have something to read, or have ended; waits at most ``timeout`` seconds, for ever if None."""
    there = {end.fileno(): end for end in ends if end is not None}
    poll = select.poll()  # select() refuses descriptors from 1024 on, which a host of many VMs has
    for number in there:
        poll.register(number, select.POLLIN)
    return [there[number] for number, _ in poll.poll(None if timeout is None else timeout * 1000)] if there else []


def _listen(port: int) -> socket.socket:
    if not isinstance(port, int) or not 0 <= port < 1 << 16:
        raise ConfigError(f"gdb: port={port!r} is no TCP port; give a number from 0 (any free one) to 65535.")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(16)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"gdb: port {port} is in use; choose another one, or 0 for any free one.") from error
        raise ConfigError(f"gdb: port {port} cannot be had: {error.strerror}.") from error
    return listener


__all__ = ["GdbServer"]
