"""``hypervisor up`` with a person at a terminal, whose screen is looked at."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.cli.up.fleet_keys import Keys
from hypervisor.cli.up.fleet_table import KEYS
from tests.cli.command import ECHO, ROOT
from tests.cli.screen_model import ScreenModel
from tests.cli.session import PATIENCE_S, Session
from tests.cli.test_up import CRASH, LOOP, described

SLEEPS = "sti; again: hlt; jmp again"
DRAWS = """
    mov ax, 0xb800; mov es, ax; mov ah, 0x1f; xor di, di; mov si, text
next: lodsb; test al, al; jz keys; stosw; jmp next
keys: in al, 0x64; test al, 1; jz keys
    in al, 0x60; cmp al, 0x1e; jne keys
    mov word ptr es:[160], 0x1f4b
    jmp keys
text: .asciz "drawn by a guest"
"""
"""Writes on the screen, and a K into its second line when the key A is pressed."""


class Watched(Session):
    """A session with its screen."""

    def __init__(self, *arguments: str, columns: int = 100, rows: int = 24, env: dict[str, str] | None = None) -> None:
        super().__init__("-m", "hypervisor", "up", *arguments, env=env)
        self.screen = ScreenModel(columns, rows)
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        self.screen.resize(columns, rows)
        self.process.send_signal(signal.SIGWINCH)

    def until(self, condition: Callable[[ScreenModel], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition(self.screen):
            assert self.look(deadline), f"it never came so far:\n{self.screen.text}\n{self.seen[-2000:]!r}"

    def look(self, deadline: float) -> bool:
        if not select.select([self.ours], [], [], max(0, deadline - time.monotonic()))[0]:
            return False
        data = os.read(self.ours, 4096)
        self.seen += data
        self.screen.feed(data)
        return True

    def shows(self, *texts: str) -> None:
        self.until(lambda screen: all(text in screen.text for text in texts))

    def row(self, name: str) -> str:
        """The table's row of a machine."""
        return next((line for line in self.screen.lines if line[1:].split()[:1] == [name]), "")

    def ended(self, status: int) -> None:
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            self.look(time.monotonic() + 0.1)
        assert self.process.wait(1) == status, self.seen[-2000:]
        while self.look(time.monotonic() + 0.1):
            pass
        self.wait_restored()
        assert not self.screen.alternate and not self.screen.cursor_hidden


def watch(
    sessions: list[Session], *arguments: str, columns: int = 100, rows: int = 24, env: dict[str, str] | None = None
) -> Watched:
    session = Watched(*arguments, "--interval", "0.1", columns=columns, rows=rows, env=env)
    sessions.append(session)
    return session


def test_the_table_shows_all_and_keys_act_on_the_chosen_one(sessions: list[Session], tmp_path: Path) -> None:
    session = watch(sessions, described(tmp_path, "[host]\ncpus = 2\n", a=LOOP, b=LOOP))
    session.until(lambda screen: "running" in session.row("a") and "running" in session.row("b"))
    assert session.screen.alternate and session.is_raw()
    session.shows("2 VMs on 2 pCPUs", "a started at", "b started at", "q quit")
    assert session.row("a").startswith(">")
    session.write(b"\x1b[B")
    session.until(lambda screen: session.row("b").startswith(">") and not session.row("a").startswith(">"))
    session.write(b"p")
    session.until(lambda screen: "paused" in session.row("b"))
    assert "running" in session.row("a")
    session.shows("b paused at")
    session.until(lambda screen: " 0% " in session.row("b"))
    session.write(b"r")
    session.until(lambda screen: "running" in session.row("b"))
    session.write(b"s")
    session.until(lambda screen: "stopped" in session.row("b"))
    session.write(b"r")
    session.until(lambda screen: "running" in session.row("b"))
    session.write(b"q")
    session.ended(121)
    assert b"hypervisor: a: stopped: the set is ended" in session.seen


@pytest.mark.parametrize("key", [b"\x03", b"q"], ids=["ctrl-c", "q"])
def test_a_key_ends_all(sessions: list[Session], tmp_path: Path, key: bytes) -> None:
    session = watch(sessions, described(tmp_path, a=LOOP, b=SLEEPS))
    session.shows("a started at", "b started at")
    session.write(key)
    session.ended(121)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_and_gives_the_terminal_back(
    sessions: list[Session], tmp_path: Path, number: signal.Signals
) -> None:
    session = watch(sessions, described(tmp_path, a=LOOP))
    session.shows("a started at")
    session.process.send_signal(number)
    session.ended(128 + number)


def test_a_killed_process_gives_the_terminal_back(sessions: list[Session], tmp_path: Path) -> None:
    session = watch(sessions, described(tmp_path, a=LOOP))
    session.shows("a started at")
    session.process.kill()
    session.process.wait(10)
    session.wait_restored()


def test_it_fits_the_terminal_whatever_size_that_gets(sessions: list[Session], tmp_path: Path) -> None:
    names = {f"machine{n}": LOOP for n in range(12)}
    session = watch(sessions, described(tmp_path, **names))
    session.shows("machine0", "machine11")
    for columns, rows in ((40, 10), (200, 50), (80, 24), (7, 2), (1, 1), (60, 12), (120, 24)):
        session.resize(columns, rows)
        if columns >= 40:
            session.shows("VM", "machine0", "running")
            session.until(lambda screen, columns=columns: screen.lines[-1] == KEYS[:columns].rstrip())
            assert ("machine11 " in session.screen.text) == (rows >= 24)
        else:
            session.until(lambda screen, columns=columns: screen.lines[0] == "make it larger"[:columns].rstrip())
        assert not session.screen.overflowed, session.screen.text
    session.resize(80, 12)
    session.write(b"j" * 11)
    session.until(lambda screen: session.row("machine11").startswith(">"))  # which was not there before
    session.write(b"q")
    session.ended(121)


def test_a_console_is_visited_and_left(sessions: list[Session], tmp_path: Path) -> None:
    session = watch(sessions, described(tmp_path, a=LOOP, b=ECHO))
    session.shows("b started at")
    session.write(b"jc")
    session.read_until(b"Ctrl-A d goes back to the table")
    session.write(b"hello\x03")
    session.read_until(b"hello\x03")
    session.write(b"\x01d")
    session.screen = ScreenModel(100, 24)
    session.until(lambda screen: session.row("b").startswith(">"))
    session.seen = b""
    session.write(b"c")
    session.read_until(b"hello\x03")  # what was there before
    session.write(b"\x01n")
    session.read_until(b"[b, serial0: Ctrl-A d goes back to the table")
    session.screen = ScreenModel(100, 24)
    session.write(b"q\x01d")  # which the guest takes for its end
    session.until(lambda screen: "powered-off" in session.row("b"))
    session.write(b"q")
    session.ended(121)


def test_a_screen_is_visited_and_left(sessions: list[Session], tmp_path: Path) -> None:
    session = watch(sessions, described(tmp_path, a=LOOP, b=DRAWS))
    session.shows("b started at")
    session.write(b"jv")
    session.shows("drawn by a guest")
    assert "drawn by a guest" in session.screen.lines[0] and not session.row("b")
    assert not session.screen.lines[1].strip()
    session.write(b"a")
    session.until(lambda screen: screen.lines[1].startswith("K"))
    session.write(b"\x01d")
    session.until(lambda screen: session.row("b").startswith(">"))
    assert "drawn by a guest" not in session.screen.text
    session.write(b"q")
    session.ended(121)


def test_a_machine_is_saved_and_goes_on(sessions: list[Session], tmp_path: Path) -> None:
    session = watch(sessions, described(tmp_path, a=LOOP))
    session.shows("a started at")
    session.write(b"n")
    session.shows("a is saved in a-")
    session.until(lambda screen: "running" in session.row("a"))
    session.write(b"q")
    session.ended(121)
    saved = ROOT / re.findall(r"a is saved in (\S+);", session.screen.text + session.seen.decode())[0]
    try:
        with hv.boot(saved) as vm:
            assert vm.clock.now_ns > 0 and vm.run(virtual_timeout=0.001).reason is hv.Reason.VIRTUAL_TIMEOUT
    finally:
        saved.unlink()


def test_a_handler_that_does_not_return_keeps_nobody_from_leaving(sessions: list[Session], tmp_path: Path) -> None:
    """A pause of its machine waits for it, and so would who waited for the pause."""
    (tmp_path / "stuck.py").write_text(
        "import time\n"
        "class Stuck:\n"
        "    def attach(self, vm):\n"
        "        @vm.traps.port_out(0x80)\n"
        "        def waits(vcpu, exit):\n"
        "            while True:\n"
        "                time.sleep(0.01)\n"
    )
    path = Path(described(tmp_path, a="out 0x80, al; again: jmp again", b=LOOP))
    path.write_text(path.read_text().replace("[vm.b]", 'plugins = ["stuck:Stuck"]\n[vm.b]'))
    session = watch(sessions, str(path), env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    session.shows("a started at")
    session.write(b"p")
    session.shows("pausing a ...")
    session.write(b"q")
    session.ended(121)


def test_it_ends_when_all_have_ended(sessions: list[Session], tmp_path: Path) -> None:
    session = watch(sessions, described(tmp_path, a=CRASH, b="mov dx, 0x604; mov ax, 0x2000; out dx, ax"))
    session.ended(126)
    session.wait_restored()
    assert b"hypervisor: a: crashed: triple fault" in session.seen


def test_a_terminal_that_hangs_up_ends_all(sessions: list[Session], tmp_path: Path) -> None:
    session = watch(sessions, described(tmp_path, a=LOOP))
    session.shows("a started at")
    os.close(session.ours)
    os.close(session.theirs)
    try:
        assert session.process.wait(30) in (121, 125, 128 + signal.SIGHUP)
    finally:
        session.ours, session.theirs = os.pipe()  # for who closes them


def test_keys_come_in_pieces_and_what_is_left_is_somebody_elses() -> None:
    keys = Keys()
    keys.put(b"\x1b")
    assert keys.next() == ""
    keys.put(b"[")
    assert keys.next() == ""
    keys.put(b"A\x1b[Bp\x1b[99;1Xq\x03\x1bOA\x1b[Bc\x1b[Ax")
    assert [keys.next() for _ in range(8)] == ["up", "down", "p", "q", "ctrl-c", "up", "down", "c"]
    assert keys.rest() == b"\x1b[Ax" and keys.next() == ""
