"""The picture that a machine under qemu-system-x86_64 shows when its guest has said D on the debug console."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.programs import QEMU, program
from tests.qemu_screen import SECONDS, ask


def picture(options: Sequence[str], directory: Path, said: bytes = b"D") -> np.ndarray:
    """Run QEMU's PC with these options until its guest has ``said`` this last; height by width by 3."""
    debug, dump = directory / "debugcon", directory / "screen.ppm"
    command = [program(QEMU), "-accel", "tcg", "-M", "pc", "-vga", "std", "-display", "none", "-nic", "none"]
    command += ["-no-reboot", "-no-shutdown", "-qmp", "stdio", "-debugcon", f"file:{debug}", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            ask(process, "qmp_capabilities")
            end = time.monotonic() + SECONDS
            while not debug.exists() or not debug.read_bytes().endswith(said):
                assert time.monotonic() < end, f"QEMU's guest did not end on {said[-20:]!r}"
                time.sleep(0.05)
            ask(process, "screendump", filename=str(dump))
        finally:
            process.kill()
    return read_ppm(dump.read_bytes())


def kernel(image: bytes, directory: Path) -> list[str]:
    """Options that boot a multiboot kernel."""
    path = directory / "kernel"
    path.write_bytes(image)
    return ["-kernel", str(path)]


def disk(image: bytes, directory: Path) -> list[str]:
    """Options that boot a disk."""
    path = directory / "disk"
    path.write_bytes(image.ljust(1 << 20, b"\0"))
    return ["-drive", f"file={path},format=raw,if=ide"]


def read_ppm(data: bytes) -> np.ndarray:
    """A binary PPM with 8 bits a sample."""
    kind, size, most, pixels = data.split(b"\n", 3)
    assert (kind, most) == (b"P6", b"255")
    width, height = map(int, size.split())
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
