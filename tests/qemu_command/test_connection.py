"""A socket as an end, without a machine: all that is sent arrives, whoever reads how slowly; nobody holds us up."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hypervisor.cli.qemu.ends.connection import LIMIT, Connection
from hypervisor.cli.qemu.ends.host_ends import Socket
from hypervisor.errors import ConfigError

PATIENCE_S = 30.0


class Front:
    """Takes what comes, as much as it is let."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.comers = 0
        self.room = 1 << 30

    @property
    def full(self) -> bool:
        return len(self.taken) >= self.room

    def opened(self) -> None:
        self.comers += 1

    def send(self, data: bytes) -> None:
        self.taken += data


class Served:
    """A listening connection, and how to come to it."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self.address = Socket(str(folder / "s"), server=True, wait=False)
        self.said: list[str] = []
        self.front = Front()
        self._opened = opened
        self.connection = self.make()
        opened.enter_context(self.connection.open(self.front))

    def make(self, *, whole: bool = False) -> Connection:
        return Connection(self.address, whole=whole, say=self.said.append)

    def come(self) -> socket.socket:
        """Another client, once it has been taken."""
        before = self.front.comers
        client = self._opened.enter_context(socket.socket(socket.AF_UNIX))
        client.settimeout(PATIENCE_S)
        client.connect(self.address.path)
        until(lambda: self.front.comers > before)
        return client


def until(holds: object) -> None:
    """Wait for what another thread does."""
    assert callable(holds)
    end_at = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_at, "it did not come"
        time.sleep(0.005)


def received(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := client.recv(count - len(data))):
        data += piece
    return data


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with ExitStack() as opened:
        yield Served(tmp_path, opened)


def test_all_arrives_both_ways_in_any_pieces(served: Served) -> None:
    choose, client = random.Random(11), served.come()
    out, back = choose.randbytes(1 << 20), choose.randbytes(1 << 20)

    def sends() -> None:
        at = 0
        while at < len(out):
            size = choose.choice([1, 7, 100, 4096, 70000])
            served.connection.write(out[at : at + size])
            at += size

    writer = threading.Thread(target=sends)
    writer.start()
    feeder = threading.Thread(target=client.sendall, args=(back,))
    feeder.start()
    assert received(client, len(out)) == out
    writer.join()
    feeder.join()
    until(lambda: len(served.front.taken) == len(back))
    assert served.front.taken == back


def test_a_client_comes_again_and_sees_what_comes_from_then_on(served: Served) -> None:
    served.connection.write(b"nobody is there")
    for number in range(3):
        with served.come() as client:
            served.connection.write(b"for %d" % number)
            assert received(client, 5) == b"for %d" % number
            client.sendall(b"from %d." % number)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""
    assert served.front.taken == b"from 0.from 1.from 2."


def test_a_second_client_waits_for_the_first_to_go(served: Served, tmp_path: Path) -> None:
    first = served.come()
    with socket.socket(socket.AF_UNIX) as second:
        second.settimeout(PATIENCE_S)
        second.connect(served.address.path)
        served.connection.write(b"one")
        assert received(first, 3) == b"one"
        first.close()
        until(lambda: served.front.comers == 2)
        served.connection.write(b"two")
        assert received(second, 3) == b"two"


def test_who_reads_nothing_holds_up_nobody_and_loses_the_rest(served: Served) -> None:
    client, lines = served.come(), 0
    started = time.process_time()
    for lines in range(3 * LIMIT >> 16):
        served.connection.write(b"%-65535d\n" % lines)
    assert len(served.connection._waiting) <= LIMIT
    assert time.process_time() - started < PATIENCE_S
    assert ["reader is slow" in text for text in served.said] == [True]
    served.connection.__exit__()  # gives up on it soon
    data = b""
    while piece := client.recv(1 << 20):
        data += piece
    numbers = [int(line) for line in data.split(b"\n")[:-1]]
    assert numbers == list(range(len(numbers)))
    assert 0 < len(numbers) <= lines


def test_who_must_have_everything_is_left_instead(tmp_path: Path) -> None:
    with ExitStack() as opened:
        served = Served(tmp_path, opened)
        served.connection.__exit__()
        whole = opened.enter_context(served.make(whole=True).open(served.front))
        client = served.come()
        for _ in range(LIMIT >> 15):
            whole.write(bytes(1 << 16))
        with pytest.raises(ConnectionError):
            while client.recv(1 << 20):
                pass
            raise ConnectionError("it has ended")
        again = served.come()
        whole.write(b"new")
        assert received(again, 3) == b"new"


def test_who_sends_more_than_is_taken_waits(served: Served) -> None:
    served.front.room = 1
    client = served.come()
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        while True:
            client.sendall(bytes(1 << 16))
    assert len(served.front.taken) < 2 << 20
    served.front.room = 1 << 30
    client.settimeout(PATIENCE_S)
    client.sendall(b"!")
    until(lambda: served.front.taken.endswith(b"!"))


def test_its_file_is_gone_at_the_end_unless_it_is_anothers(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with ExitStack() as opened:
        Served(tmp_path, opened)
        assert path.is_socket()
    assert not path.exists()
    with ExitStack() as opened:
        Served(tmp_path, opened)
        with socket.socket(socket.AF_UNIX) as another:
            os.unlink(path)
            another.bind(str(path))
            opened.close()
        assert path.is_socket()
    with ExitStack() as opened:
        Served(tmp_path, opened)  # over one that was left behind


def test_a_file_that_is_no_socket_stays_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("mine")
    with pytest.raises(ConfigError, match=r"Failed to listen at unix:.*/s: "), ExitStack() as opened:
        Served(tmp_path, opened)
    assert (tmp_path / "s").read_text() == "mine"


@pytest.mark.parametrize("address", [Socket("/no/such"), Socket("x" * 200, server=True), Socket(port=1)], ids=str)
def test_what_cannot_be_had_is_named(address: Socket) -> None:
    with pytest.raises(ConfigError, match=r"Failed to (listen at|connect to) (unix|tcp):"):
        Connection(address, whole=False, say=print).open(Front())


def test_who_connects_sees_the_end_of_it(tmp_path: Path) -> None:
    """As labgrid has it: the other side listens."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        front = Front()
        with Connection(Socket(str(tmp_path / "s")), whole=False, say=print).open(front) as connection:
            client, _ = listener.accept()
            with client:
                connection.write(b"last words")
                connection.__exit__()
                assert received(client, 100) == b"last words"
