"""Another checkout beside this one, by turns: ``python -m bench.pairs OLD [--pairs 20] [--only NAME]``.

OLD is the folder of a checkout with its own ``.venv``. Each row runs there and here, one after the other, so that a
change of the machine's speed meets both; the figure is processor time, and what counts is the median of the ratios
(here / there), with the interval that it lies in with a probability of 95%. Nothing is written.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import image
from bench.measure import ACPI_COMMAND_LINE, LINUX_COMMAND_LINE, LINUX_MEMORY
from bench.rows import CLOCKS, ROWS, Exit, Linux, Micro, Processors, Row
from tests import debian
from tests.initramfs import POWER_OFF, RESET, initramfs

WORKER = """
import json, sys, time
from pathlib import Path
from bench import ours
import hypervisor as hv

def linux(kernel, initrd, append, memory, clock, cpus):
    with hv.boot(str(kernel), initrd=initrd, append=append, memory=memory, clock=clock, cpus=cpus) as vm:
        vm.run(timeout=600)
        assert "READY" in vm.console.text

for line in sys.stdin:
    name, path, *rest = json.loads(line)
    started = time.process_time()
    {"micro": ours.micro, "processors": getattr(ours, "processors", None), "linux": linux}[name](Path(path), *rest)
    print(time.process_time() - started, flush=True)
"""


class Side:
    """A process that runs what it is told with one checkout's code."""

    def __init__(self, checkout: Path) -> None:
        self._process = subprocess.Popen(
            [checkout / ".venv/bin/python", "-c", WORKER],
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._bases: dict[str, float] = {}

    def seconds(self, call: list[Any]) -> float:
        """Processor time of a call."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{call}: the worker in {self._process.args} has ended")
        return float(answer)

    def work(self, call: list[Any], base: list[Any] | None) -> float:
        """The same less what the call costs without any rounds."""
        if base is None:
            return self.seconds(call)
        key = json.dumps(base)
        if key not in self._bases:
            self._bases[key] = min(self.seconds(base) for _ in range(3))
        return self.seconds(call) - self._bases[key]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def calls(row: Row, share: int, folder: Path) -> dict[str, tuple[list[Any], list[Any] | None]]:
    """By clock: what a worker is told for a row, and for its base; nothing for rows that are no guest's."""
    if isinstance(row, Micro | Exit):
        rounds = max(row.rounds // share, 1)
        clocks = CLOCKS if isinstance(row, Micro) else ("virtual",)
        picture = str(folder / "micro.bin")
        call = {c: ["micro", picture, c, row.handler, row.test] for c in clocks}
        return {c: ([*call[c], rounds], [*call[c], 0]) for c in clocks}
    if isinstance(row, Processors) and row.rounds:
        picture, rounds = str(folder / "ipi.bin"), row.rounds // share
        arguments = {c: ["processors", picture, c, row.cpus, row.test] for c in CLOCKS}
        return {c: ([*those, rounds], [*those, 0]) for c, those in arguments.items()}
    if isinstance(row, Linux | Processors):
        kernel = str(debian.debian_path(debian.kernel_package(), "boot/vmlinuz-*"))
        ready = isinstance(row, Linux)
        initrd = str(folder / ("ready.cpio" if ready else "off.cpio"))
        append, cpus = (LINUX_COMMAND_LINE, 1) if ready else (ACPI_COMMAND_LINE, row.cpus if not ready else 1)
        return {c: (["linux", kernel, initrd, append, LINUX_MEMORY, c, cpus], None) for c in CLOCKS}
    return {}


def interval(figures: list[float], sure: float = 0.95) -> tuple[float, float]:
    """Between which two of the figures the median of all such figures lies with this probability, or as near as so
    few can tell: each is above that median as often as a coin shows heads, so no distribution is assumed.
    """
    ordered, count = sorted(figures), len(figures)
    beyond, rank = 0.0, 0
    while rank < (count - 1) // 2 and beyond + math.comb(count, rank) / 2**count <= (1 - sure) / 2:
        beyond += math.comb(count, rank) / 2**count
        rank += 1
    rank = max(rank - 1, 0)
    return ordered[rank], ordered[-1 - rank]


def main() -> None:
    """Print a line for each row and clock."""
    parser = argparse.ArgumentParser(prog="python -m bench.pairs", description=__doc__)
    parser.add_argument("old", type=Path, help="the other checkout")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--only", action="append", metavar="NAME", help="rows whose name has NAME in it")
    parser.add_argument("--clock", choices=CLOCKS, action="append")
    parser.add_argument("--share", type=int, default=8, help="this part of each row's rounds (default: an eighth)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rootmode-pairs-") as name:
        folder = Path(name)
        image.build(folder)
        image.build_ipi(folder)
        busybox = debian.debian_path("busybox-static", "bin/busybox").read_bytes()
        (folder / "ready.cpio").write_bytes(initramfs(RESET, busybox))
        (folder / "off.cpio").write_bytes(initramfs(POWER_OFF, busybox))
        there, here = Side(options.old.resolve()), Side(Path(__file__).parent.parent)
        for row in ROWS:
            if options.only and not any(text in row.name for text in options.only):
                continue
            for clock, (call, base) in calls(row, options.share, folder).items():
                if options.clock and clock not in options.clock:
                    continue
                pairs = [(there.work(call, base), here.work(call, base)) for _ in range(options.pairs)]
                ratios = [new / old for old, new in pairs]
                low, high = interval(ratios)
                middle = statistics.median(ratios)
                best = f"{min(new for _, new in pairs):.3f} against {min(old for old, _ in pairs):.3f} s"
                print(f"{row.name}, {clock}: {middle:.3f} ({low:.3f} to {high:.3f}), best {best}", flush=True)
        there.close()
        here.close()


if __name__ == "__main__":
    sys.exit(main())
