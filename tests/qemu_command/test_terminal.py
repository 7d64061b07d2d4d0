"""A person at a terminal: whose Ctrl-C is, how a machine is left, what is shown; and machines that stand still."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.session import Session
from tests.qemu_command import images
from tests.qemu_command.programs import Program, commands
from tests.qemu_command.test_monitor import answers

ECHO = """
again: mov dx, 0x3fd
    in al, dx
    test al, 1
    jz again
    mov dx, 0x3f8
    in al, dx
    out dx, al
    jmp again
"""


@pytest.fixture
def sessions() -> Iterator[list[Session]]:
    made: list[Session] = []
    yield made
    for session in made:
        session.end()


def start(sessions: list[Session], *words: str) -> Session:
    session = Session("-m", "hypervisor.cli.qemu", *words)
    sessions.append(session)
    session.read_until(b"GUEST")
    return session


def test_without_a_screen_every_key_is_the_guests(sessions: list[Session], tmp_path: Path) -> None:
    session = start(sessions, str(images.disk(tmp_path / "d", "echo", ECHO)), "-snapshot", "-nographic")
    session.write(b"hello\x03\x1a\x04\r")
    session.read_until(b"hello\x03\x1a\x04\r")
    assert session.is_raw()
    session.write(b"\x01x")
    assert session.process.wait(30) == 0
    session.wait_restored()


def test_a_serial_port_of_its_own_leaves_ctrl_c_to_the_person(sessions: list[Session], tmp_path: Path) -> None:
    session = start(sessions, str(images.disk(tmp_path / "d", "echo", ECHO)), "-snapshot", "-serial", "stdio")
    session.write(b"a\x01x")
    session.read_until(b"a\x01x")
    session.write(b"\x03")
    session.read_until(b"terminating on signal 2")
    assert session.process.wait(30) == 0
    session.wait_restored()


def test_the_screen_is_on_the_terminal_where_nothing_else_is(sessions: list[Session], tmp_path: Path) -> None:
    prints = "mov ah, 14\n" + "".join(f"mov al, {byte}; int 0x10\n" for byte in b"GUEST screen")
    image = tmp_path / "d"
    images.disk(image, "", f"{prints}{images.HALT}")
    session = start(sessions, str(image), "-snapshot")
    session.read_until(b"screen")
    session.write(b"\x01x")
    assert session.process.wait(30) == 0
    session.wait_restored()


def test_no_shutdown_leaves_a_machine_to_look_at(tmp_path: Path) -> None:
    """The same in both: a machine that has powered off, or crashed, is there until ``quit``."""
    for ending in (images.POWER_OFF, images.TRIPLE_FAULT):
        said = {}
        for name, command in commands().items():
            serial = tmp_path / name
            image = images.disk(tmp_path / "d", "ends", ending)
            words = ["-drive", f"format=raw,file={image}", "-no-shutdown", "-no-reboot", "-display", "none"]
            with Program(command, [*words, "-serial", f"file:{serial}", "-monitor", "stdio"], tmp_path) as program:
                program.wait_for(b"(qemu) ")
                for _ in range(400):
                    status = answers(program, ("info status",))[0]
                    if status.startswith("VM status: paused"):
                        break
                    time.sleep(0.02)
                said[name] = status.partition(" (")[0], *answers(program, ("xp/2xh 0x7dfe",))
                program.type(b"quit\n")
                assert program.end() == 0
            assert serial.read_bytes().endswith(b"GUEST ends")
        assert said["ours"] == said["qemu"] == ("VM status: paused", "0000000000007dfe: 0xaa55 0x0000")


def test_a_machine_that_is_held_waits_for_the_monitor(tmp_path: Path) -> None:
    image, serial = images.disk(tmp_path / "d", "goes~", images.HALT), tmp_path / "serial"
    words = [image, "-S", "-display", "none", "-serial", f"file:{serial}", "-monitor", "stdio"]
    with Program(commands()["ours"], words, tmp_path) as program:
        program.wait_for(b"(qemu) ")
        assert answers(program, ("info status", "cont", "info status")) == [
            "VM status: paused",
            "",
            "VM status: running",
        ]
        while not serial.read_bytes().endswith(b"~"):
            answers(program, ("info status",))
        program.signal(signal.SIGTERM)
        assert program.end() == 0
