"""The peer saves a Linux guest and loads it again: savevm and loadvm, into a qcow2 image that is nothing else."""

from __future__ import annotations

import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench import saved
from bench.qemu import MACHINE, PROGRAM, TIMEOUT_S, PeerError

CLUSTER_BITS = 16
NAME, RUNNING = "there", b"VM status: running"


def save(bench_image: Path) -> float:
    """Seconds that ``savevm`` takes of a guest that waits at a shell; the qcow2 image stays beside ``bench_image``."""
    image, serial = _files(bench_image)
    image.write_bytes(empty_qcow2(1 << 20))
    serial.unlink(missing_ok=True)
    with _started(image, serial) as monitor:
        until = time.monotonic() + TIMEOUT_S
        while not (serial.exists() and b"# " in serial.read_bytes().partition(b"READY")[2]):
            if time.monotonic() > until or monitor.poll() is not None:
                raise PeerError("QEMU's guest never came to its shell")
            time.sleep(0.1)
        _asked(monitor, "info status")
        start = time.perf_counter()
        _asked(monitor, f"savevm {NAME}\ninfo status")
        seconds = time.perf_counter() - start
        monitor.communicate(b"quit\n", timeout=TIMEOUT_S)
    return seconds


def load(bench_image: Path) -> float:
    """Seconds from the start of a process with ``-loadvm`` to its guest running."""
    image, serial = _files(bench_image)
    if not image.exists():
        save(bench_image)
    start = time.perf_counter()
    with _started(image, serial, "-loadvm", NAME) as monitor:
        _asked(monitor, "info status")
        seconds = time.perf_counter() - start
        monitor.communicate(b"quit\n", timeout=TIMEOUT_S)
    return seconds


PEERS: dict[str, Callable[[Path], float]] = {"save_linux": save, "open_linux": load}
"""By what they are beside (`bench.process.MEASURES`)."""


def _files(bench_image: Path) -> tuple[Path, Path]:
    return bench_image.with_name("saved.qcow2"), bench_image.with_name("serial")


def _started(image: Path, serial: Path, *more: str) -> subprocess.Popen[bytes]:
    kernel, initrd = saved.shell(image.parent)
    machine = ["-m", saved.MEMORY, "-kernel", str(kernel), "-initrd", str(initrd), "-append", saved.COMMAND_LINE]
    machine += ["-serial", f"file:{serial}", "-monitor", "stdio", "-drive", f"if=none,id=saved,file={image}"]
    command = [PROGRAM, *MACHINE, *machine, *more]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _asked(monitor: subprocess.Popen[bytes], command: str) -> None:
    """Give the monitor a command, and wait until it says that the guest runs."""
    assert monitor.stdin is not None and monitor.stdout is not None
    monitor.stdin.write(command.encode() + b"\n")
    monitor.stdin.flush()
    said = []
    for line in monitor.stdout:
        said.append(line)
        if RUNNING in line:
            return
        if b"rror" in line:
            break
    raise PeerError(f"QEMU's monitor said {b''.join(said)[-300:]!r} to {command!r}")


def empty_qcow2(size: int) -> bytes:
    """A qcow2 image, version 2, without anything in it (docs/interop/qcow2.txt of QEMU): its header, a table of
    reference counts with one block, and a table of clusters with one entry.
    """
    cluster = 1 << CLUSTER_BITS
    header = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, CLUSTER_BITS, size, 0, 1, 3 * cluster, cluster, 1, 0, 0
    )
    counts_at, counts = struct.pack(">Q", 2 * cluster), struct.pack(">4H", 1, 1, 1, 1)
    return b"".join(part.ljust(cluster, b"\0") for part in (header, counts_at, counts, b""))
