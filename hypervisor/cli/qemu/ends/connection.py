"""A socket as an end: one client at a time, who may read slowly, go, and come again. The machine never waits for it.

What is written for nobody is lost, as under QEMU. A thread of the connection's own passes on what comes in, as fast as
it is taken, and what goes out.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from hypervisor.cli.qemu.ends.host_ends import Socket
from hypervisor.errors import ConfigError

LIMIT = 4 << 20
"""Bytes that wait for a client at most."""
BLOCK = 1 << 16
"""Bytes sent or received at once."""
GIVE_UP_S = 10.0
"""Host seconds after which a client that does not take what it has asked for is left."""
LAST_WORDS_S = 1.0
"""The same for one that has gone, or when the machine has ended."""
LOOK_AGAIN_S = 0.02


class Front(Protocol):
    """Who is at our side of the socket; called on the connection's thread."""

    @property
    def full(self) -> bool:
        """Whether it takes nothing more for now."""
        ...

    def opened(self) -> None:
        """A client has come."""
        ...

    def send(self, data: bytes) -> None:
        """It has sent this."""
        ...


class Connection:
    """Context manager: open while it is entered. ``whole`` says that a client must get everything or be left, as one
    that reads messages; others lose what is more than `LIMIT`, and ``say`` is told so.
    """

    def __init__(self, address: Socket, *, whole: bool, say: Callable[[str], object]) -> None:
        self._address, self._whole, self._say = address, whole, say
        self._front: Front
        self._waiting = bytearray()
        self._lock = threading.Lock()
        """Of what waits, and of who the client is."""
        self._client: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._file: tuple[int, int] | None = None
        """Device and inode of the listener's file."""
        self._lost_said = self._left = self._over = False
        self._thread = threading.Thread(target=self._serve, name=str(address), daemon=True)

    def open(self, front: Front) -> Connection:
        """Listen, or connect, and wait for the first client where that was asked for. Raises `ConfigError`."""
        self._front = front
        first = None
        try:
            if not self._address.server:
                first = self._connected()
            else:
                self._listener = self._listening()
                if self._address.wait:
                    self._say(f"waiting for a connection to {self._address}")
                    first, _ = self._listener.accept()
        except OSError as error:
            self._close_listener()
            doing = "listen at" if self._address.server else "connect to"
            raise ConfigError(f"Failed to {doing} {self._address}: {error.strerror or error}.") from error
        except BaseException:
            self._close_listener()
            raise
        self._wake_end, self._waker = socket.socketpair()
        for one in (self._wake_end, self._waker):
            one.setblocking(False)
        self._client = first
        self._thread.start()
        return self

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self._over = True
        self._wake()
        self._thread.join(GIVE_UP_S + LAST_WORDS_S)
        self._close_listener()

    # --- from any thread ----------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Have this sent; it is copied, and nobody waits but the client's own commands."""
        mine = threading.current_thread() is self._thread
        if mine and len(self._waiting) + len(data) > LIMIT:
            self._drain(GIVE_UP_S)
        with self._lock:
            if self._client is None:
                return
            wakes = not self._waiting and not mine
            if fits := len(self._waiting) + len(data) <= LIMIT:
                self._waiting += data
            else:
                self._left = wakes = self._whole
        if wakes:
            self._wake()
        if not fits and not self._whole and not self._lost_said:
            self._lost_said = True
            self._say(f"{self._address}: its reader is slow, and loses what is more than {LIMIT >> 20} MiB behind.")

    def _wake(self) -> None:
        with suppress(OSError):  # it is full of such calls already
            self._waker.send(b"!")

    # --- making a socket ----------------------------------------------------------------------------------------------

    def _connected(self) -> socket.socket:
        if not self._address.path:
            return socket.create_connection(("127.0.0.1", self._address.port))
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(self._address.path)
        except OSError:
            made.close()
            raise
        return made

    def _listening(self) -> socket.socket:
        path = self._address.path
        if not path:
            return socket.create_server(("127.0.0.1", self._address.port), backlog=1)
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode):  # one that another process has left behind
                os.unlink(path)
        made = socket.socket(socket.AF_UNIX)
        try:
            made.bind(path)
            made.listen(1)
        except OSError:
            made.close()
            raise
        found = os.stat(path)
        self._file = found.st_dev, found.st_ino
        return made

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._file is not None:
            with suppress(OSError):
                found = os.stat(self._address.path)
                if (found.st_dev, found.st_ino) == self._file:  # and not one that somebody else has made since
                    os.unlink(self._address.path)

    # --- its thread ---------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        client = self._client
        while not self._over:
            if client is None:
                client = self._next_client()
            if client is not None:
                self._talk(client)
                client = None
            elif self._listener is None:  # nobody comes to who has connected
                break
        self._wake_end.close()
        self._waker.close()

    def _next_client(self) -> socket.socket | None:
        if self._listener is None:
            return None
        ready = select.select([self._listener, self._wake_end], [], [])[0]
        self._quieten(ready)
        if self._listener not in ready:
            return None
        try:
            return self._listener.accept()[0]
        except OSError:  # it has gone again
            return None

    def _quieten(self, ready: list[socket.socket]) -> None:
        if self._wake_end in ready:
            self._wake_end.recv(BLOCK)

    def _talk(self, client: socket.socket) -> None:
        """Until it goes, is left, or all is over."""
        client.setblocking(False)
        with self._lock:
            self._client, self._left = client, False
        self._front.opened()
        while not (self._over or self._left) and self._turn(client):
            pass
        if not self._left:
            self._drain(LAST_WORDS_S)
        with self._lock:
            self._client = None
            self._waiting.clear()
        client.close()

    def _turn(self, client: socket.socket) -> bool:
        """Pass on what can be passed on; False when the client has gone."""
        full = self._front.full
        ready, writable, _ = select.select(
            [self._wake_end] if full else [self._wake_end, client],
            [client] if self._waiting else [],
            [],
            LOOK_AGAIN_S if full else None,
        )
        self._quieten(ready)
        if writable and not self._send():
            return False
        if client not in ready:
            return True
        try:
            data = client.recv(BLOCK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if data:
            self._front.send(data)
        return bool(data)

    def _send(self) -> bool:
        """Send what it takes at once; False when it has gone."""
        client = self._client
        if client is None:
            return False
        with self._lock:
            data = bytes(self._waiting[:BLOCK])
        try:
            sent = client.send(data)
        except BlockingIOError:
            return True
        except OSError:
            return False
        with self._lock:
            del self._waiting[:sent]
        return True

    def _drain(self, seconds: float) -> None:
        """Send all that waits, and leave a client that takes nothing of it for so long."""
        until = time.monotonic() + seconds
        while self._waiting and self._client is not None:
            before = len(self._waiting)
            if not select.select([], [self._client], [], max(until - time.monotonic(), 0))[1] or not self._send():
                self._left = True
                return
            if len(self._waiting) < before:
                until = time.monotonic() + seconds
