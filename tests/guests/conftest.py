"""Fixtures for the tests of the shipped guests."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor.assembler import Image, assemble_file
from hypervisor.guests import NAMES, SOURCES
from tests.programs import QEMU, program

SECONDS = 60
"""After which a run is killed, which shows as a negative status."""


@pytest.fixture(scope="session")
def images() -> dict[str, Image]:
    """Every shipped guest, assembled from its source."""
    return {name: assemble_file(SOURCES / f"{name}.asm") for name in NAMES}


@pytest.fixture
def qemu(images: dict[str, Image], tmp_path: Path) -> Callable[..., tuple[str, int]]:
    """``qemu(name, *options)`` runs a guest under QEMU (``until``: up to that output); gives its output and status."""

    def run(name: str, *options: str, until: bytes = b"") -> tuple[str, int]:
        image = tmp_path / f"{name}.bin"
        image.write_bytes(images[name].code)
        load = ["-drive", f"format=raw,file={image}"] if name == "hello" else ["-kernel", str(image)]
        board = ["-display", "none", "-no-reboot", "-m", "16", "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        command = [program(QEMU), "-accel", "tcg", *board, *load, *(options or ("-serial", "stdio"))]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT) as process:
            watchdog = threading.Timer(SECONDS, process.kill)
            watchdog.start()
            assert process.stdout is not None
            output = b""
            while (until == b"" or until not in output) and (line := process.stdout.readline()):
                output += line
            if until:
                process.kill()
            status = process.wait()
            watchdog.cancel()
        return output.decode(errors="replace"), status

    return run
