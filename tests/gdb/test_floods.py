"""Clients that send without end, or take nothing, or go in the middle: the run ends when its host wants it to, the VM
can be closed, and what the server keeps is bounded.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.debug.gdb.packets import frame
from hypervisor.debug.gdb.server import GdbServer
from hypervisor.debug.gdb.stops import MAX_BREAKPOINTS
from tests.core.bare import bare
from tests.gdb.client import ask, connected
from tests.gdb.test_server import LOOP

PATIENCE_S = 20
FLOODS = {
    "packets": frame(b"qC") * 4000,
    "resends": b"-" * 65536,
    "interrupts": b"\3" * 65536,
    "damaged": b"$qC#00" * 10000,
    "endless": b"$" + b"a" * 65536,
    "escapes": frame(b"\x7d" * 8000) * 8,
    "memory": frame(b"m0,ffffffff") * 4000,
    "breakpoints": b"".join(frame(b"Z0,%x,1" % n) for n in range(4000)),
    "actions": frame(b"vCont" + b";c:1" * 3000) * 4,
    "steps": frame(b"s") * 4000,
    "range-steps": frame(b"vCont;r0,ffffffffffffffff") * 4000,
    "description": frame(b"qXfer:features:read:target.xml:ffffffffffffffff,ffffffffffffffff") * 1000,
}


class Flood:
    """A client that sends the same again and again until the connection ends. ``reads`` says that it takes answers."""

    def __init__(self, port: int, data: bytes, *, reads: bool, first: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.sent = threading.Event()
        self._data, self._first = data, first
        self._threads = [threading.Thread(target=self._send, daemon=True)]
        if reads:
            self._threads.append(threading.Thread(target=self._read, daemon=True))
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.sendall(self._first)
            while True:
                self.socket.sendall(self._data)
                self.sent.set()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while self.socket.recv(1 << 16):
                continue

    def end(self) -> None:
        """The connection is closed by now, or it is a fault."""
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        self.socket.close()


@contextlib.contextmanager
def running(vm: hv.VM) -> Iterator[list[hv.RunResult]]:
    """The VM runs in a thread, until the host stops it."""
    results: list[hv.RunResult] = []
    thread = threading.Thread(target=lambda: results.append(vm.run()), daemon=True)
    thread.start()
    until(lambda: vm.runner is not None or results)
    yield results
    vm.request_stop("the test is over")
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def until(condition: Callable[[], object]) -> None:
    """Wait for something that comes soon."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def close(vm: hv.VM) -> None:
    thread = threading.Thread(target=vm.close, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), "the VM cannot be closed"


@pytest.mark.parametrize("state", ["runs", "is held", "never runs"])
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_keeps_nobody(flood: str, state: str) -> None:
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    with bare(LOOP) as vm:
        server = vm.gdb(wait=state == "is held")
        first = frame(b"c") if state == "runs" else b""
        client = Flood(server.port, FLOODS[flood], reads=True, first=first)
        if state == "never runs":
            client.sent.wait(0.5)  # what fits into buffers and queue
        else:
            with running(vm) as results:
                client.sent.wait(0.5)
            assert results[0].message == "the test is over"
        close(vm)
        client.end()
    assert set(threading.enumerate()) == threads
    assert len(os.listdir("/proc/self/fd")) <= files


def test_closing_does_not_wait_for_a_client_that_takes_nothing() -> None:
    """Its answers fill the connection, and the thread that sends stands."""
    with bare(LOOP) as vm:
        client = Flood(vm.gdb().port, FLOODS["resends"], reads=False, first=frame(b"g"))
        with running(vm):
            client.sent.wait(0.5)
        close(vm)
        client.end()


def test_a_flood_takes_no_memory() -> None:
    with bare(LOOP) as vm:
        server = vm.gdb()
        with running(vm):
            client = Flood(server.port, FLOODS["escapes"], reads=True)
            client.sent.wait(PATIENCE_S)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            client.sent.clear()
            client.sent.wait(PATIENCE_S)
            assert server._events.maxsize and server._events.qsize() <= server._events.maxsize
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10
        close(vm)
        client.end()


def test_breakpoints_are_bounded() -> None:
    with bare(LOOP) as vm:
        server = vm.gdb()
        with running(vm), connected(server) as end:
            answers = ask(end, *(b"Z0,%x,1" % n for n in range(MAX_BREAKPOINTS + 2)))
            assert answers[:-2] == [b"OK"] * MAX_BREAKPOINTS
            assert answers[-2:] == [b"E16"] * 2
            assert ask(end, b"Z0,0,1", b"z0,1,1", b"Z0,ffff,1", b"Z0,fffe,1") == [b"OK", b"OK", b"OK", b"E16"]


def test_a_storm_of_connections() -> None:
    with bare(LOOP) as vm:
        server = vm.gdb()
        with running(vm):
            for n in range(40):
                with connected(server) as end:
                    if n % 3:
                        end.sendall(frame(b"m0,ffffffff") * (n % 7))
            with connected(server) as end:
                assert ask(end, b"qC") == [b"QC1"]
        assert vm.result is not None and vm.result.reason is hv.Reason.STOPPED


@pytest.mark.parametrize("leaves", [True, False])
def test_a_range_of_steps_ends_with_its_client_or_its_run(leaves: bool) -> None:
    """The guest never leaves the range."""
    with bare(LOOP) as vm:
        server = vm.gdb()
        with running(vm):
            with connected(server) as end:
                assert ask(end, b"?") == [b"T05thread:1;"]
                end.sendall(frame(b"vCont;r0,ffffffffffffffff:1;c"))
                before = vm.vcpu.rax
                until(lambda: vm.vcpu.rax != before)
                if not leaves:
                    vm.request_stop("the test is over")
            if leaves:
                with connected(server) as end:
                    assert ask(end, b"qC") == [b"QC1"]


def test_a_stop_that_comes_just_before_the_guest_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    with bare(LOOP) as vm:
        server = vm.gdb(wait=True)
        attend = GdbServer.attend

        def late(self: GdbServer, ended: Any) -> None:
            vm.request_stop("just before")
            attend(self, ended)

        monkeypatch.setattr(GdbServer, "attend", late)
        with running(vm) as results:
            until(lambda: results)
        assert results[0].message == "just before"
        server.close()


def test_a_process_with_a_thousand_open_files() -> None:
    """select() takes descriptors below 1024 only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1200
    if hard != resource.RLIM_INFINITY:
        assert hard >= wanted, "this test needs 1,200 open files: raise the limit (ulimit -Hn)"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1050)]
    try:
        with bare(LOOP) as vm:
            server = vm.gdb()
            with running(vm), connected(server) as end:
                assert ask(end, b"qC") == [b"QC1"]
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
