"""``--display``: what a run shows, on pipes and on a terminal."""

from __future__ import annotations

import fcntl
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from hypervisor.cli.tty.ansi import ENTER, LEAVE
from tests.cli.command import FLAT, POWER_OFF, ROOT, flat
from tests.cli.session import Session

DRAW = """
    mov ax, 0xb800
    mov es, ax
    mov word [es:0], 0x1f48  # white on blue
    mov word [es:2], 0x1f69
    mov word [es:162], 0x072e
"""
SPEAK = "mov dx, 0x3f8; mov al, 's'; out dx, al; mov al, 10; out dx, al"
PICTURE = "mov dx, 0x1ce; mov ax, 4; out dx, ax; inc dx; mov ax, 0x41; out dx, ax"
KEYS = """
again: in al, 0x64
    test al, 1
    jz again
    in al, 0x60
    mov [es:160], al
    cmp al, 0x10  # q
    jne again
"""


def run(tmp_path: Path, source: str, *options: str) -> tuple[str, str]:
    command = [sys.executable, "-m", "hypervisor", "run", flat(tmp_path / "image", source + "\n" + POWER_OFF)]
    done = subprocess.run(
        [*command, *FLAT, *options], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


SCREEN = "Hi\n ."


@pytest.mark.parametrize(
    ("source", "options", "output"),
    [
        (DRAW, (), f"{SCREEN}\n"),
        (DRAW + SPEAK, (), "s\n"),
        (DRAW + SPEAK, ("--display", "screen"), f"{SCREEN}\n"),
        (DRAW + SPEAK, ("--display", "none"), ""),
        (DRAW, ("--display", "serial"), ""),
        (SPEAK, ("--display", "serial"), "s\n"),
        (SPEAK, ("--display", "screen"), ""),
        ("nop", (), ""),
    ],
)
def test_on_a_pipe(tmp_path: Path, source: str, options: tuple[str, ...], output: str) -> None:
    assert run(tmp_path, source, *options) == (output, "")


def test_a_picture_is_not_printed_but_named(tmp_path: Path) -> None:
    output, errors = run(tmp_path, PICTURE)
    assert output == ""
    assert "the guest's screen is a picture (8x1x8)" in errors


def test_a_last_screen_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hypervisor", "run", flat(tmp_path / "image", f"{DRAW}\n{POWER_OFF}"), *FLAT]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 125
    assert done.stderr == b"hypervisor: standard output failed: No space left on device.\n"


def test_an_unknown_display_is_refused(tmp_path: Path) -> None:
    image = flat(tmp_path / "image", "nop")
    done = subprocess.run(
        [sys.executable, "-m", "hypervisor", "run", image, "--display", "tv"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 125
    assert "--display is 'tv'; it must be one of: auto, serial, screen, none." in done.stderr


def start(
    sessions: list[Session], tmp_path: Path, source: str, *options: str, size: tuple[int, int] = (40, 100)
) -> Session:
    session = Session("-m", "hypervisor", "run", flat(tmp_path / "image", source), *FLAT, *options)
    fcntl.ioctl(session.theirs, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
    sessions.append(session)
    return session


def test_on_a_terminal_the_screen_goes_live_and_keys_go_to_the_keyboard(
    sessions: list[Session], tmp_path: Path
) -> None:
    session = start(sessions, tmp_path, f"{DRAW}\n{KEYS}\n{POWER_OFF}")
    session.read_until(ENTER.encode())
    session.read_until(b"\x1b[97;44mHi")
    session.write(b"q")
    assert session.process.wait(30) == 0
    session.read_until(LEAVE.encode())
    session.wait_restored()
    session.read_until("Hi\r\n►.\r\n".encode())  # the scan code of q, 10h, is on the screen that stays
    assert session.seen.split(LEAVE.encode())[-1] == "Hi\r\n►.\r\n".encode()


@pytest.mark.parametrize(("source", "shown"), [(DRAW, b"\r\nHi\r\n .\r\n"), (SPEAK, b"\r\ns\r\n")])
def test_a_run_too_short_to_go_live_shows_its_last_screen(
    sessions: list[Session], tmp_path: Path, source: str, shown: bytes
) -> None:
    session = start(sessions, tmp_path, f"{source}\n{POWER_OFF}")
    assert session.process.wait(30) == 0
    session.read_until(shown)


def test_a_stream_that_says_what_the_screen_shows_keeps_it_from_going_live(
    sessions: list[Session], tmp_path: Path
) -> None:
    both = "mov dx, 0x3f8; mov al, 'H'; out dx, al; mov al, 'i'; out dx, al; mov al, '.'; out dx, al"
    session = start(sessions, tmp_path, f"{DRAW}\n{both}\n{KEYS}\n{POWER_OFF}", "--virtual-timeout", "1")
    assert session.process.wait(30) == 124
    session.read_until(b"still running")
    assert ENTER.encode() not in session.seen and b"Hi." in session.seen
    session.wait_restored()


def test_what_streams_say_meanwhile_comes_after_the_screen(sessions: list[Session], tmp_path: Path) -> None:
    session = start(sessions, tmp_path, f"{DRAW}\n{KEYS}\n{SPEAK}\n{POWER_OFF}", "--display", "auto")
    session.read_until(b"\x1b[97;44mHi")
    session.write(b"q")
    assert session.process.wait(30) == 0
    session.read_until(b"s\r\n")
    assert b"Hi\r\n" in session.seen.split(LEAVE.encode())[-1]


@pytest.mark.parametrize("size", [(40, 100), (0, 0)], ids=["a size", "no size"])
def test_a_picture_is_drawn_with_half_blocks(sessions: list[Session], tmp_path: Path, size: tuple[int, int]) -> None:
    session = start(sessions, tmp_path, f"{PICTURE}\nhere: jmp here", "--display", "screen", size=size)
    session.read_until("\u2580".encode())
    session.write(b"\x01x")
    assert session.process.wait(30) == 121
    session.read_until(LEAVE.encode())
    session.wait_restored()


def test_the_screen_comes_back_even_after_a_kill(sessions: list[Session], tmp_path: Path) -> None:
    session = start(sessions, tmp_path, f"{DRAW}\nhere: jmp here")
    session.read_until(b"\x1b[97;44mHi")
    session.process.kill()
    session.process.wait(10)
    session.wait_restored()
    session.read_until(LEAVE.encode())
