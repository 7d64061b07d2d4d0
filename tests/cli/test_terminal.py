from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor.cli.terminal import HELP, EscapeFilter

FAKE_MAIN = str(Path(__file__).with_name("fake_main.py"))
LFLAG = 3


@pytest.mark.parametrize(
    ("typed", "passed", "ended"),
    [
        ([b"ls\r"], b"ls\r", False),
        ([b"a\x01xb"], b"a", True),
        ([b"a\x01", b"x"], b"a", True),  # the escape may arrive in two pieces
        ([b"\x01X"], b"", True),
        ([b"\x01\x01x"], b"\x01x", False),
        ([b"\x01c"], b"\x01c", False),
        ([b"\x03\x04\x1a"], b"\x03\x04\x1a", False),
    ],
)
def test_escape_filter(typed: list[bytes], passed: bytes, ended: bool) -> None:
    escape = EscapeFilter()
    pieces = [escape.feed(piece) for piece in typed]
    assert b"".join(data for data, _ in pieces) == passed
    assert any(end for _, end in pieces) is ended


class Session:
    """The command on a terminal of its own, whose other side is ours."""

    def __init__(self, *arguments: str) -> None:
        self.ours, self.theirs = pty.openpty()
        self.settings = termios.tcgetattr(self.theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, FAKE_MAIN, *arguments],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
        )
        self.seen = b""

    def read_until(self, text: bytes) -> None:
        while text not in self.seen:
            self.seen += os.read(self.ours, 4096)

    def write(self, data: bytes) -> None:
        os.write(self.ours, data)

    def wait_restored(self) -> None:
        deadline = time.monotonic() + 10
        while termios.tcgetattr(self.theirs) != self.settings and time.monotonic() < deadline:
            time.sleep(0.01)
        assert termios.tcgetattr(self.theirs) == self.settings


# Makes the inherited terminal the controlling one, as a login does, then becomes the command.
_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture
def sessions() -> Iterator[list[Session]]:
    started: list[Session] = []
    yield started
    for session in started:
        session.process.kill()
        session.process.wait()
        os.close(session.ours)
        os.close(session.theirs)


def start(sessions: list[Session], script: str) -> Session:
    session = Session(script)
    sessions.append(session)
    session.read_until(b"ready")
    assert not termios.tcgetattr(session.theirs)[LFLAG] & (termios.ICANON | termios.ECHO | termios.ISIG)
    return session


def test_the_escape_is_printed_and_ends_the_guest(sessions: list[Session]) -> None:
    session = start(sessions, "echoes")
    session.write(b"hi\x03\r")  # Ctrl-C belongs to the guest
    session.read_until(b"HI\x03\r")
    assert HELP.encode() in session.seen
    session.write(b"\x01x")
    assert session.process.wait(10) == 121
    session.wait_restored()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_the_guest_and_restores_the_terminal(sessions: list[Session], number: signal.Signals) -> None:
    session = start(sessions, "waits")
    session.process.send_signal(number)
    assert session.process.wait(10) == 128 + number
    session.wait_restored()


def test_a_second_signal_ends_a_guest_that_does_not_let_go(sessions: list[Session]) -> None:
    session = start(sessions, "deaf")
    session.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    session.process.send_signal(signal.SIGTERM)
    assert session.process.wait(10) == 128 + signal.SIGTERM
    session.wait_restored()


def test_the_terminal_comes_back_even_after_a_kill(sessions: list[Session]) -> None:
    session = start(sessions, "waits")
    session.process.kill()
    session.process.wait(10)
    session.wait_restored()
