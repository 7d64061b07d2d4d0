"""The socket: who may come, and what happens when they go."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator

import pytest

import hypervisor as hv
from hypervisor.debug.gdb.packets import frame
from tests.core.bare import bare
from tests.gdb.client import PATIENCE_S, ask, connected

LOOP = "again: inc rax; jmp again"


@pytest.fixture
def running() -> Iterator[tuple[hv.VM, object, list[hv.RunResult]]]:
    """A VM that runs in a thread until it is stopped, and its server."""
    with bare(LOOP) as vm:
        server = vm.gdb()
        results: list[hv.RunResult] = []
        thread = threading.Thread(target=lambda: results.append(vm.run(timeout=PATIENCE_S)))
        thread.start()
        yield vm, server, results
        vm.request_stop("the test is over")
        thread.join()


def test_a_connection_stops_the_guest_and_its_end_lets_it_run(
    running: tuple[hv.VM, object, list[hv.RunResult]],
) -> None:
    _, server, results = running
    with connected(server) as end:
        assert ask(end, b"?", b"Z0,10000,1", b"vCont;c") == [b"T05thread:1;", b"OK", b"T05thread:1;swbreak:;"]
        first = ask(end, b"p0")
        assert first == ask(end, b"p0")
    with connected(server) as end:  # the breakpoint has gone with the first connection
        assert ask(end, b"?", b"vKill;1") == [b"T05thread:1;", b"OK"]
    while not results:
        pass
    assert results[0].message == "killed by gdb"


def test_a_second_gdb_is_sent_away(running: tuple[hv.VM, object, list[hv.RunResult]]) -> None:
    _, server, _ = running
    with connected(server) as first:
        assert ask(first, b"qC") == [b"QC1"]
        with connected(server) as second:
            assert second.recv(1) == b""
        assert ask(first, b"qC") == [b"QC1"]


def test_noise_on_the_socket_does_not_disturb_the_guest(running: tuple[hv.VM, object, list[hv.RunResult]]) -> None:
    _, server, results = running
    rng = random.Random(1)
    for _ in range(3):
        with connected(server) as end:
            end.sendall(rng.randbytes(rng.randint(1, 5000)))
    with connected(server) as end:
        assert ask(end, b"qC") == [b"QC1"]
    assert not results


def test_a_damaged_packet_is_asked_for_again(running: tuple[hv.VM, object, list[hv.RunResult]]) -> None:
    with connected(running[1]) as end:
        end.sendall(b"$qC#00")
        assert end.recv(1) == b"-"
        assert ask(end, b"qC") == [b"QC1"]
        end.sendall(b"-")
        assert end.recv(64).endswith(b"$QC1#c5")


def test_without_acknowledgements(running: tuple[hv.VM, object, list[hv.RunResult]]) -> None:
    with connected(running[1]) as end:
        assert ask(end, b"QStartNoAckMode") == [b"OK"]
        end.sendall(frame(b"qC"))
        assert end.recv(64) == b"$QC1#c5"


def test_a_client_that_takes_no_answers_is_left(
    running: tuple[hv.VM, object, list[hv.RunResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    vm, server, _ = running
    monkeypatch.setattr("hypervisor.debug.gdb.server.GIVE_UP_S", 0.2)
    with connected(server) as end:
        end.settimeout(PATIENCE_S)
        with contextlib.suppress(OSError):  # the connection is reset
            for _ in range(100_000):
                end.sendall(frame(b"m0,2000"))
    before = vm.vcpu.rax
    while vm.vcpu.rax == before:  # the guest runs again
        pass


def test_closing_the_vm_says_goodbye() -> None:
    with bare(LOOP) as vm:
        server = vm.gdb()
        with connected(server) as end:
            thread = threading.Thread(target=vm.run, kwargs={"timeout": PATIENCE_S})
            thread.start()
            assert ask(end, b"?") == [b"T05thread:1;"]
            end.sendall(frame(b"c"))
            while vm.vcpu.rax == 0:
                pass
            vm.request_stop()
            thread.join()
            vm.close()
            said = b""
            while more := end.recv(64):  # the acknowledgement may come by itself; the end follows the goodbye
                said += more
            assert said.endswith(b"$W00#b7")
        with pytest.raises(ConnectionRefusedError), connected(server):
            pass


@pytest.mark.parametrize("port", [-1, 65536, "1234", 1.5])
def test_a_port_that_is_none(port: object) -> None:
    with bare(LOOP) as vm, pytest.raises(hv.ConfigError, match=r"gdb: port=.* is no TCP port; give a number from 0"):
        vm.gdb(port=port)  # type: ignore[arg-type]


def test_a_port_in_use() -> None:
    with bare(LOOP) as vm, bare(LOOP) as other:
        server = vm.gdb()
        with pytest.raises(hv.ConfigError, match=f"gdb: port {server.port} is in use; choose another one"):
            other.gdb(port=server.port)
        server.close()
        other.gdb(port=server.port)


def test_one_server_for_a_vm() -> None:
    with bare(LOOP) as vm:
        vm.gdb()
        with pytest.raises(hv.ConfigError, match="has a debugger already"):
            vm.gdb()


def test_a_closed_vm_has_no_server() -> None:
    with bare(LOOP) as vm:
        vm.close()
        with pytest.raises(hv.ConfigError, match="is closed"):
            vm.gdb()
