"""Frames there and back between two machines: through a network of ours, and between two QEMUs joined by ``-netdev
socket``: ``python -m bench.wire [--count 10000]``.

The same kernel (wire.asm) runs at all four ends. It drives the card that it finds: here the interface of
docs/networks.md, there an NE2000 (ne2k_isa), which no machine of ours has. So what is compared is a network with its
cards: to send, a guest of ours writes two registers, and one of QEMU's moves the frame through a port, word by word.
Figures are of frames there and back, less what a run with one frame takes, with the CPU time of all processes.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import hypervisor as hv
from bench.image import INCLUDES, SUCCESS
from bench.qemu import DEBUG_EXIT, MACHINE, ONE_THREAD, PROGRAM
from hypervisor.assembler import assemble

SOURCE = Path(__file__).with_name("wire.asm")
SIZES = 60, 1514
FRAMES, TIMEOUT_S = 10_000, 120.0
Took = tuple[float, float]
"""Seconds of the clock, and of processors."""


def ours(image: Path, size: int, count: int, cpus: int = 2) -> Took:
    """Two machines in a world."""
    with closing(hv.Host("32M", cpus)) as host:
        world = hv.World(host=host)
        for role, name in enumerate(("asks", "answers"), 1):
            vm = world.create_vm(str(image), name=name, memory="4M", append=f"{role} {size} {count}")
            world.lan().connect(vm, hv.Link(latency=50e-6))
        start = time.perf_counter(), time.process_time()
        results = world.run(timeout=TIMEOUT_S)
        took = time.perf_counter() - start[0], time.process_time() - start[1]
        assert results["asks"].reason is hv.Reason.DEBUG_EXIT, results
        assert results["asks"].status == SUCCESS, results
    return took


def qemus(image: Path, size: int, count: int) -> Took:
    """Two QEMUs, each with one thread for its processor."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before = os.times()

    def command(role: int, how: str) -> list[str]:
        return [
            PROGRAM, "-accel", ONE_THREAD, *MACHINE[2:], "-m", "64M", "-kernel", str(image),
            "-append", f"{role} {size} {count}", *DEBUG_EXIT,
            "-netdev", f"socket,id=n,{how}=127.0.0.1:{port}", "-device", "ne2k_isa,iobase=0x300,irq=10,netdev=n",
        ]  # fmt: skip

    answers = subprocess.Popen(command(2, "listen"), stdin=subprocess.DEVNULL)
    try:
        time.sleep(1.0)
        start = time.perf_counter()
        asks = subprocess.run(command(1, "connect"), stdin=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False)
        took = time.perf_counter() - start
        assert asks.returncode == SUCCESS, asks.returncode
    finally:
        answers.kill()
        answers.wait()
    after = os.times()
    return took, sum(after[2:4]) - sum(before[2:4])


def build(folder: Path) -> Path:
    """Write the image into a folder; returns its path."""
    path = folder / "wire.bin"
    path.write_bytes(assemble(SOURCE.read_text(), file=SOURCE.name, folder=INCLUDES).code)
    return path


def _by_qemus(size: int) -> float:
    """Our time for frames there and back, by that of two QEMUs."""
    with tempfile.TemporaryDirectory(prefix="rootmode-bench-") as folder:
        image = build(Path(folder))
        mine, its = (measure(image, size, FRAMES)[0] - measure(image, size, 1)[0] for measure in (ours, qemus))
    return mine / its


def short_frames(image: Path) -> float:
    """Of 60 bytes."""
    return _by_qemus(SIZES[0])


def long_frames(image: Path) -> float:
    """Of 1,514 bytes."""
    return _by_qemus(SIZES[1])


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=FRAMES, help="frames there and back")
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="rootmode-bench-") as folder:
        image = build(Path(folder))
        for size in SIZES:
            each: dict[str, list[Took]] = {"ours": [], "QEMU": []}
            for _ in range(given.pairs):
                for name, measure in (("ours", ours), ("QEMU", qemus)):
                    one, many = measure(image, size, 1), measure(image, size, given.count)
                    each[name].append((many[0] - one[0], many[1] - one[1]))
            for name, took in each.items():
                wall, cpu = (statistics.median(figures) / given.count for figures in zip(*took, strict=True))
                print(
                    f"{size} bytes, {name}: {1 / wall:,.0f} there and back a second, {2 * size / wall / 1e6:.1f} MB/s; "
                    f"{cpu * 1e6:.1f} us of processors for each"
                )


if __name__ == "__main__":
    main()
