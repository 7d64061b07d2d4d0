"""The peer: qemu-system-x86_64 with TCG on one CPU, without any device that the guests do not use."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from bench.image import SUCCESS

PROGRAM = "qemu-system-x86_64"
ONE_THREAD, MANY_THREADS = "tcg,thread=single", "tcg,thread=multi"
MACHINE = ("-accel", "tcg", "-cpu", "max", "-nodefaults", "-no-reboot", "-display", "none")
DEBUG_EXIT = ("-device", "isa-debug-exit,iobase=0xf4,iosize=1")
TIMEOUT_S = 300.0


class PeerError(Exception):
    """QEMU is not there, or did not run the image to its end."""


def version() -> str:
    """QEMU's own name and version. Raises `PeerError` if it is not installed."""
    if shutil.which(PROGRAM) is None:
        raise PeerError(f"{PROGRAM} is not installed; on Debian, run: apt-get install qemu-system-x86")
    return subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def micro(image: Path, test: int, rounds: int, options: tuple[str, ...] = ()) -> float:
    """Seconds from the start of the process to its end; ``options`` are added to the machine's."""
    guest = ["-m", "64M", "-kernel", str(image), "-append", f"{test} {rounds}"]
    guest += ["-drive", f"if=ide,format=raw,snapshot=on,file={image}"]
    seconds, status, output = _run([*guest, *DEBUG_EXIT, *options])
    if status != SUCCESS:
        raise PeerError(f"test {test} with N={rounds} ended with status {status}, not {SUCCESS}: {output[-500:]!r}")
    return seconds


def linux(kernel: Path, initrd: Path, command_line: str, memory: str) -> float:
    """Seconds from the start of the process to the reset that the guest's init asks for once it is ready."""
    files = ["-kernel", str(kernel), "-initrd", str(initrd), "-append", command_line]
    seconds, status, output = _run(["-m", memory, "-serial", "stdio", *files])
    if status != 0 or b"READY" not in output:
        raise PeerError(f"Linux ended with status {status}: {output[-500:]!r}")
    return seconds


def processors(image: Path, accelerator: str, cpus: int, test: int, rounds: int) -> float:
    """As `micro`, for the image of what processors do to each other."""
    arguments = ["-m", "64M", "-smp", str(cpus), "-kernel", str(image), "-append", f"{test} {rounds}", *DEBUG_EXIT]
    seconds, status, output = _run(arguments, accelerator)
    if status != SUCCESS:
        raise PeerError(f"test {test} with N={rounds} ended with status {status}, not {SUCCESS}: {output[-500:]!r}")
    return seconds


def linux_off(kernel: Path, initrd: Path, command_line: str, memory: str, accelerator: str, cpus: int) -> float:
    """Seconds from the start of the process to the power-off that the guest's init asks for once it is ready."""
    files = ["-kernel", str(kernel), "-initrd", str(initrd), "-append", command_line]
    seconds, status, output = _run(["-m", memory, "-smp", str(cpus), "-serial", "stdio", *files], accelerator)
    if status != 0 or b"READY" not in output:
        raise PeerError(f"Linux ended with status {status}: {output[-500:]!r}")
    return seconds


def _run(arguments: list[str], accelerator: str = "tcg") -> tuple[float, int, bytes]:
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [PROGRAM, "-accel", accelerator, *MACHINE[2:], *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as problem:
        raise PeerError(f"QEMU was still running after {TIMEOUT_S:g} s: {' '.join(arguments)}") from problem
    return time.perf_counter() - start, done.returncode, done.stdout
