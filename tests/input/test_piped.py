"""Piped input: when it arrives is the affair of the guest and not of the host, unless the writer is silent for long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import ECHO, FLAT, KEYS, ROOT, boot_sector, flat

TEXT = b"".join(b"line %d of the input\n" % number for number in range(300)) + b"q"
SERVED = """
    mov word ptr [0x70], serve; mov word ptr [0x72], 0
    mov al, 0x11; out 0x20, al; mov al, 0x18; out 0x21, al; mov al, 4; out 0x21, al; mov al, 1; out 0x21, al
    mov al, 0xef; out 0x21, al
    mov dx, 0x3fa; mov al, 0xc7; out dx, al; mov dx, 0x3fc; mov al, 8; out dx, al
    mov dx, 0x3f9; mov al, 1; out dx, al
    sti
wait: hlt
    jmp wait
serve: mov dx, 0x3fd; in al, dx; test al, 1; jz done
    mov dx, 0x3f8; in al, dx; cmp al, 'q'; je off; out dx, al
    jmp serve
done: mov al, 0x20; out 0x20, al
    iret
off: mov dx, 0x604; mov ax, 0x2000; out dx, ax
"""
"""An echo that is driven by interrupts, with the FIFOs on."""

GUESTS: dict[str, Any] = {
    "polling": lambda path: [flat(path, ECHO), *FLAT],
    "interrupts": lambda path: [flat(path, SERVED), *FLAT],
    "BIOS keyboard": lambda path: [boot_sector(path, KEYS)],
}


def at_once(pipe: Any) -> None:
    pipe.write(TEXT)


def late(pipe: Any) -> None:
    time.sleep(1.5)
    pipe.write(TEXT)


def in_drops(pipe: Any) -> None:
    size = 1
    for start in range(0, len(TEXT), 400):
        for at in range(start, min(start + 400, len(TEXT)), size):
            pipe.write(TEXT[at : min(at + size, start + 400)])
            pipe.flush()
        size += 7
        time.sleep(0.1)


def run(arguments: list[str], write: Any, stats: Path) -> tuple[bytes, Any]:
    command = [sys.executable, "-m", "hypervisor", "run", *arguments, "--timeout", "60", "--stats", str(stats)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin and process.stdout and process.stderr
        writer = threading.Thread(target=lambda: (write(process.stdin), process.stdin.close()))
        writer.start()
        output, errors = process.stdout.read(), process.stderr.read()
        writer.join()
        assert process.wait() == 0, errors
    facts = json.loads(stats.read_text())
    return output, (facts["virtual_s"], facts["exits"])


@pytest.mark.parametrize("guest", GUESTS)
def test_arrival_does_not_depend_on_the_writer(guest: str, tmp_path: Path) -> None:
    arguments = GUESTS[guest](tmp_path / "image")
    (tmp_path / "in").write_bytes(TEXT)
    runs = [run(arguments, write, tmp_path / "stats") for write in (at_once, late, in_drops)]
    assert runs[0][0] == TEXT[:-1].replace(b"\n", b"\r" if guest == "BIOS keyboard" else b"\n")
    assert runs[0] == runs[1] == runs[2]


def test_input_arrives_at_the_rate_of_the_line(tmp_path: Path) -> None:
    """At 9600 baud, what a UART is set to after a reset, a character of 8 bits takes 10 bit times."""
    source = f"mov dx, 0x3fb; mov al, 3; out dx, al; {ECHO}"
    _, (seconds, _) = run([flat(tmp_path / "image", source), *FLAT], at_once, tmp_path / "stats")
    assert seconds == pytest.approx(len(TEXT) * 10 / 9600, rel=0.01)


def test_a_guest_that_does_not_listen_does_not_wait_for_its_input(tmp_path: Path) -> None:
    read, write = os.pipe()
    command = [sys.executable, "-m", "hypervisor", "run", "hello", "--stats", str(tmp_path / "stats")]
    try:
        done = subprocess.run(command, stdin=read, capture_output=True, check=True, timeout=60, cwd=ROOT)
    finally:
        os.close(read)
        os.close(write)
    assert b"Hello" in done.stdout and json.loads((tmp_path / "stats").read_text())["wall_s"] < 3


def test_a_program_that_talks_with_the_guest(tmp_path: Path) -> None:
    """It writes only after it has read: the guest waits for a while, then goes on, and input enters when it comes."""
    command = [sys.executable, "-m", "hypervisor", "run", flat(tmp_path / "image", ECHO), *FLAT, "--timeout", "60"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT, bufsize=0) as process:
        assert process.stdin and process.stdout
        time.sleep(4)
        for word in (b"one", b"two", b"three"):
            process.stdin.write(word)
            heard = b""
            while len(heard) < len(word):
                heard += process.stdout.read(1)
            assert heard == word
        process.stdin.write(b"q")
        assert process.wait(60) == 0
