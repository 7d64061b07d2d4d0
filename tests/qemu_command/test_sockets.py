"""Serial ports, debug consoles and monitors on sockets of this machine, here and under QEMU."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypervisor.cli.qemu.connected import Users
from hypervisor.errors import ConfigError
from tests.qemu_command import images
from tests.qemu_command.programs import PATIENCE_S, Program, commands
from tests.qemu_command.test_rows import connected, free_port
from tests.qemu_command.test_terminal import ECHO

MIRROR = ECHO.replace("out dx, al", "out dx, al; out 0xe9, al")
BIOS_TEXT = "mov si, text\nagain: lodsb; test al, al; jz stop; mov ah, 0xe; int 0x10; jmp again\nstop: hlt; jmp stop"


@contextmanager
def started(name: str, words: Sequence[str | Path], folder: Path) -> Iterator[Program]:
    with Program(commands()[name], [*words, "-display", "none", "-snapshot"], folder) as program:
        yield program


def come(path: Path) -> socket.socket:
    """A client of a Unix socket whose listener is still starting."""
    end_at = time.monotonic() + PATIENCE_S
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(str(path))
        except OSError:
            client.close()
            assert time.monotonic() < end_at, "nobody listens"
            time.sleep(0.05)
        else:
            client.settimeout(PATIENCE_S)
            return client


def read_until(client: socket.socket, text: bytes) -> bytes:
    data = b""
    while text not in data:
        piece = client.recv(4096)
        assert piece, data
        data += piece
    return data


@pytest.mark.parametrize("name", ["qemu", "ours"])
def test_a_serial_port_and_a_debug_console(tmp_path: Path, name: str) -> None:
    """The machine starts when both clients are there; one goes and comes again."""
    serial, debug = tmp_path / "serial", free_port()
    words = [images.disk(tmp_path / "d", "echo", MIRROR), "-debugcon", f"tcp:127.0.0.1:{debug},server=on"]
    with started(name, [*words, "-serial", f"unix:{serial},server=on"], tmp_path) as program:
        with come(serial) as client, connected(debug) as console:
            read_until(client, b"GUEST echo")
            client.sendall(b"hello")
            assert read_until(client, b"hello") == read_until(console, b"hello")
        with come(serial) as client:
            client.sendall(b"again\x01x\x03")
            assert read_until(client, b"\x03") == b"again\x01x\x03"
        program.signal(signal.SIGTERM)
        assert program.end() == 0
    assert not serial.exists()


@pytest.mark.parametrize("name", ["qemu", "ours"])
def test_a_monitor_that_is_asked_by_a_script(tmp_path: Path, name: str) -> None:
    """``echo COMMAND | socat - unix-connect:PATH``: who writes no more gets the answer nevertheless."""
    path = tmp_path / "monitor"
    words = ["-monitor", f"unix:{path},server,nowait", "-chardev", "socket,id=m,path=other,server=on,wait=off"]
    words += ["-mon", "chardev=m", images.disk(tmp_path / "d", "", images.HALT)]
    with started(name, words, tmp_path) as program:
        for place in (path, tmp_path / "other", path):
            with come(place) as client:
                client.sendall(b"info status\n")
                client.shutdown(socket.SHUT_WR)
                said = b"".join(iter(lambda client=client: client.recv(4096), b""))
            assert b"monitor - type 'help'" in said
            assert b"VM status: running" in said
        with come(path) as client:
            client.sendall(b"quit\n")
            assert program.end() == 0
    assert not path.exists()


@pytest.mark.parametrize("name", ["qemu", "ours"])
@pytest.mark.parametrize("option", ["mon:", "mux=on"])
def test_a_serial_port_and_the_monitor_share_one(tmp_path: Path, name: str, option: str) -> None:
    port, image = free_port(), images.disk(tmp_path / "d", "echo", ECHO)
    if option == "mon:":
        words = [image, "-serial", f"mon:tcp:127.0.0.1:{port},server=on"]
    else:
        chardev = f"socket,id=c,host=localhost,port={port},server=on,mux=on,ipv4=on"
        words = [image, "-chardev", chardev, "-serial", "chardev:c", "-mon", "chardev=c"]
    with started(name, words, tmp_path) as program, connected(port) as client:
        read_until(client, b"GUEST echo")
        client.sendall(b"a\x01\x01b")
        read_until(client, b"a\x01b")
        client.sendall(b"\x01c")
        read_until(client, b"(qemu) ")
        client.sendall(b"info status\n")
        read_until(client, b"VM status: running")
        client.sendall(b"\x01cguest")
        read_until(client, b"guest")
        client.sendall(b"\x01x")
        read_until(client, b"QEMU: Terminated")
        assert program.end() == 0


@pytest.mark.parametrize("name", ["qemu", "ours"])
def test_what_the_bios_shows_goes_where_the_serial_port_ends(tmp_path: Path, name: str) -> None:
    """Without a screen; and QMP on this process's own input and output has these for itself."""
    image = tmp_path / "d"
    image.write_bytes(
        images.boot_sector(BIOS_TEXT + '\ntext: .asciz "GUEST by INT 10h~"').ljust(images.DISK_SIZE, b"\0")
    )
    words = ["-drive", f"format=raw,file={image}", "-nographic", "-snapshot", "-serial", "file:said", "-qmp", "stdio"]
    with Program(commands()[name], words, tmp_path) as program:
        program.wait_for(b"capabilities")
        end_at = time.monotonic() + PATIENCE_S
        said = tmp_path / "said"
        while not said.exists() or b"GUEST by INT 10h~" not in said.read_bytes():
            assert time.monotonic() < end_at
            time.sleep(0.05)
        program.type(b'{"execute": "qmp_capabilities"}{"execute": "quit"}\n')
        assert program.end() == 0
        assert {line[:1] for line in program.output.splitlines()} == {b"{"}


def test_a_socket_that_cannot_be_had_ends_the_command(tmp_path: Path) -> None:
    words = [images.disk(tmp_path / "d", "", images.HALT), "-monitor", "unix:x,server=on,wait=off"]
    with started("ours", [*words, "-serial", "unix:nobody/there"], tmp_path) as program:
        assert program.end() == 1
        assert b"Failed to connect to unix:nobody/there" in program.errors
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("users", "words"),
    [
        (Users(ports=[1], people=1), "mon:X"),
        (Users(ports=[1, 2], shared=True), "one input"),
        (Users(people=2, shared=True), "one input"),
        (Users(programs=2), "QMP is alone"),
        (Users(programs=1, people=1), "QMP is alone"),
        (Users(programs=1, streams=[1]), "QMP is alone"),
    ],
)
def test_who_cannot_share_an_end(users: Users, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        users.check("X")
    Users(ports=[1], people=1, shared=True).check("X")
