"""Measuring rows: both sides by turns, medians, and what is subtracted."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench import image, ours, process, qemu, qemu_saved, rows
from hypervisor.errors import HypervisorError
from tests import debian
from tests.initramfs import POWER_OFF, RESET, initramfs

Run = Callable[[int, int], float]
"""Seconds for a test of the image with its number of rounds."""
Side = TypeVar("Side")
QEMU, QEMU_THREADS = "qemu", "qemu, a thread for each vCPU"
LINUX_COMMAND_LINE = "acpi=off noapic nolapic console=ttyS0 reboot=k"
LINUX_MEMORY = "128M"
ACPI_COMMAND_LINE = "console=ttyS0"
QUICK_SHARE = 4
"""``--quick`` runs a quarter of the rounds; with fewer, the start of QEMU's process drowns the figure."""


@dataclass
class Figures:
    """What came out for one row. ``samples`` are in seconds (in the row's unit for `bench.rows.Whole`), by side."""

    row: rows.Row
    samples: dict[str, list[float]] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    """Medians, per operation where there are operations; sides are ``qemu`` and our clocks, or ``ours``."""
    problem: str = ""
    """Why there is no figure."""

    def bounded(self) -> dict[str, tuple[float, rows.Bound]]:
        """The figures that have a bound, in the bound's unit, by side."""
        if isinstance(self.row, rows.Micro | rows.Linux | rows.Processors):
            bounds = self.row.bounds
            return {
                clock: (self.values[clock] / self.values[QEMU], bounds[clock])
                for clock in bounds
                if clock in self.values and QEMU in self.values
            }
        scale = 1e6 if isinstance(self.row, rows.Exit) else 1.0
        return {side: (value * scale, self.row.bound) for side, value in self.values.items() if side != QEMU}


class Bench:
    """One run of the benchmarks: ``repeat`` samples of each figure, of QEMU's alone with ``peer_only``."""

    def __init__(self, repeat: int, quick: bool, peer_only: bool = False) -> None:
        self._repeat = repeat
        self._peer_only = peer_only
        self._share = QUICK_SHARE if quick else 1
        self._directory = tempfile.TemporaryDirectory(prefix="rootmode-bench-")
        self._image = image.build(Path(self._directory.name))
        self._ipi_image = image.build_ipi(Path(self._directory.name))
        self._baselines: dict[str, float] = {}

    def close(self) -> None:
        """Remove the files."""
        self._directory.cleanup()

    def measure(self, row: rows.Row) -> Figures:
        """The figures of one row; what went wrong is a sentence in them."""
        figures = Figures(row)
        try:
            if isinstance(row, rows.Micro):
                peer: dict[str, Run] = {QEMU: partial(qemu.micro, self._image, options=row.peer)}
                self._per_operation(figures, row, self._chosen(peer | self._own(row.handler)))
            elif isinstance(row, rows.Exit):
                self._per_operation(figures, row, self._own(row.handler))
            elif isinstance(row, rows.Linux):
                self._linux(figures)
            elif isinstance(row, rows.Processors) and row.rounds:
                self._ipi(figures, row)
            elif isinstance(row, rows.Processors):
                self._linux_off(figures, row)
            else:
                measure = process.MEASURES[row.measure]
                sides = {"ours": lambda: measure(self._image)}
                if row.measure in qemu_saved.PEERS:
                    sides[QEMU] = lambda: qemu_saved.PEERS[row.measure](self._image)
                self._take(figures, sides)
                for side, samples in figures.samples.items():
                    figures.values[side] = statistics.median(samples)
        except (
            HypervisorError,
            ours.RunError,
            process.ProcessError,
            qemu.PeerError,
            debian.PackageUnavailable,
        ) as problem:
            figures.values.clear()
            figures.problem = f"{type(problem).__name__}: {problem}"
        return figures

    def _take(self, figures: Figures, sides: dict[str, Callable[[], float]]) -> None:
        """Sample the sides by turns, so that a change of the machine's speed meets all of them."""
        for _ in range(self._repeat):
            for side, measure in sides.items():
                figures.samples.setdefault(side, []).append(measure())

    def _per_operation(self, figures: Figures, row: rows.Micro | rows.Exit, sides: dict[str, Run]) -> None:
        """Sample ``sides``, each called with a test and its rounds; values are the seconds of one operation."""
        rounds = max(row.rounds // self._share, 1)
        operations = rounds * row.operations
        bases = {
            side: self._baseline(f"{side} {row.handler} {getattr(row, 'peer', '')}", partial(run, row.test, 0))
            for side, run in sides.items()
        }
        self._take(figures, {side: partial(run, row.test, rounds) for side, run in sides.items()})
        for side, samples in figures.samples.items():
            figures.values[side] = (statistics.median(samples) - bases[side]) / operations

    def _baseline(self, key: str, run: Callable[[], float]) -> float:
        """The median time of a run with N = 0: everything but the work. The first, cold run does not count."""
        if key not in self._baselines:
            run()
            self._baselines[key] = statistics.median(run() for _ in range(self._repeat))
        return self._baselines[key]

    def _own(self, handler: str) -> dict[str, Run]:
        return {clock: partial(ours.micro, self._image, clock, handler) for clock in rows.CLOCKS}

    def _files(self, init: str) -> tuple[Path, Path]:
        """Kernel and initrd."""
        kernel = debian.debian_path(debian.kernel_package(), "boot/vmlinuz-*")
        busybox = debian.debian_path("busybox-static", "bin/busybox").read_bytes()
        initrd = Path(self._directory.name) / "initrd.cpio"
        initrd.write_bytes(initramfs(init, busybox))
        return kernel, initrd

    def _linux_off(self, figures: Figures, row: rows.Processors) -> None:
        machine = (*self._files(POWER_OFF), ACPI_COMMAND_LINE, LINUX_MEMORY)
        sides: dict[str, Callable[[], float]] = {
            QEMU: partial(qemu.linux_off, *machine, qemu.ONE_THREAD, row.cpus),
            QEMU_THREADS: partial(qemu.linux_off, *machine, qemu.MANY_THREADS, row.cpus),
        }
        sides |= {clock: partial(process.linux_off, *machine, clock, row.cpus) for clock in rows.CLOCKS}
        self._take(figures, self._chosen(sides))
        for side, samples in figures.samples.items():
            figures.values[side] = statistics.median(samples)

    def _ipi(self, figures: Figures, row: rows.Processors) -> None:
        rounds = row.rounds // self._share
        at = self._ipi_image
        runs: dict[str, Callable[[int], float]] = {
            QEMU: partial(qemu.processors, at, qemu.ONE_THREAD, row.cpus, row.test),
            QEMU_THREADS: partial(qemu.processors, at, qemu.MANY_THREADS, row.cpus, row.test),
        }
        runs |= {clock: partial(ours.processors, at, clock, row.cpus, row.test) for clock in rows.CLOCKS}
        runs = self._chosen(runs)
        bases = {side: self._baseline(f"processors {row.test} {side}", partial(run, 0)) for side, run in runs.items()}
        self._take(figures, {side: partial(run, rounds) for side, run in runs.items()})
        for side, samples in figures.samples.items():
            figures.values[side] = (statistics.median(samples) - bases[side]) / rounds

    def _linux(self, figures: Figures) -> None:
        machine = (*self._files(RESET), LINUX_COMMAND_LINE, LINUX_MEMORY)
        sides: dict[str, Callable[[], float]] = {QEMU: partial(qemu.linux, *machine)}
        sides |= {clock: partial(process.linux, *machine, clock) for clock in rows.CLOCKS}
        self._take(figures, self._chosen(sides))
        for side, samples in figures.samples.items():
            figures.values[side] = statistics.median(samples)

    def _chosen(self, sides: dict[str, Side]) -> dict[str, Side]:
        return {side: run for side, run in sides.items() if side.startswith(QEMU)} if self._peer_only else sides
