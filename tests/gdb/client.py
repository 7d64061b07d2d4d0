"""The other end of the socket, by hand: a client that speaks gdb's remote protocol."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

import hypervisor as hv
from hypervisor.debug.gdb.packets import frame

PATIENCE_S = 30


@contextlib.contextmanager
def connected(server: Any) -> Iterator[socket.socket]:
    """A connection to a VM's server, for the block."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as end:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # an answer's + and the next packet go at once
        yield end


def ask(end: socket.socket, *packets: bytes) -> list[bytes]:
    """Send packets, and wait for the answer of each."""
    answers = []
    for packet in packets:
        end.sendall(frame(packet))
        said = b""
        while b"#" not in said[:-2]:
            more = end.recv(4096)
            if not more:
                return answers
            said += more
        answers.append(said.partition(b"$")[2].rpartition(b"#")[0])
        end.sendall(b"+")
    return answers


class Visitor:
    """Somebody who attaches to a VM again and again while it runs, looks at it, and lets it go on: first before it
    runs. For a ``with`` block, in which the VM is run. Nothing is stepped: a step takes no interrupt, so where one
    waits, which is where a timer lets others look in, it would come later.
    """

    LOOKS = (b"?", b"g", b"m0,80", b"qfThreadInfo")

    def __init__(self, vm: hv.VM, rng: random.Random, most: int = 20) -> None:
        """``most`` is how often, at most."""
        self._server, self._rng, self._most = vm.gdb(wait=True), rng, most
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._visit)
        self.visits = 0
        """How often the guest has stood still for it."""

    def _visit(self) -> None:
        for _ in range(self._most):
            with contextlib.suppress(OSError), connected(self._server) as end:
                answers = ask(end, *self.LOOKS, b"D")
                self.visits += len(answers) >= len(self.LOOKS)
            if self._over.wait(self._rng.random() * 0.1):
                return

    def __enter__(self) -> Visitor:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._server.close()
        self._thread.join()


__all__ = ["PATIENCE_S", "Visitor", "ask", "connected"]
