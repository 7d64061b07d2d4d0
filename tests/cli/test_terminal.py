from __future__ import annotations

import signal
import termios
import time
from pathlib import Path

import pytest

from hypervisor.cli.tty.terminal import HELP, EscapeFilter
from tests.cli.session import Session

FAKE_MAIN = str(Path(__file__).with_name("fake_main.py"))


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


def start(sessions: list[Session], script: str) -> Session:
    session = Session(FAKE_MAIN, script)
    sessions.append(session)
    session.read_until(b"ready")
    assert session.is_raw()
    return session


def test_the_escape_is_printed_and_ends_the_guest(sessions: list[Session]) -> None:
    session = start(sessions, "echoes")
    session.write(b"hi\x03\r")  # Ctrl-C belongs to the guest
    session.read_until(b"HI\x03\r")
    assert HELP.encode() in session.seen
    session.write(b"\x01x")
    assert session.process.wait(10) == 121
    session.wait_restored()


def test_the_escape_is_seen_when_the_guest_takes_no_input(sessions: list[Session]) -> None:
    """What is typed beyond what is kept for the guest is lost; the way out is not."""
    session = start(sessions, "takes_nothing")
    session.write(b"hello")
    session.write(b"\x01x")
    assert session.process.wait(10) == 121
    session.read_until(b"having been given 0 bytes")
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


def test_a_process_that_goes_on_takes_the_terminal_again(sessions: list[Session]) -> None:
    session = start(sessions, "echoes")
    termios.tcsetattr(session.theirs, termios.TCSANOW, session.settings)  # as a shell does when it stops
    session.process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 10
    while not session.is_raw() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert session.is_raw()
    session.write(b"\x01x")
    assert session.process.wait(10) == 121
    session.wait_restored()


def test_the_terminal_comes_back_even_after_a_kill(sessions: list[Session]) -> None:
    session = start(sessions, "waits")
    session.process.kill()
    session.process.wait(10)
    session.wait_restored()
