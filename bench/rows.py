"""What is measured, as data: each row with its work, its limit and its target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

WALK_PAGES: Final = 2048
"""Pages that one round of the TLB tests touches (micro.asm)."""
SIEVED: Final = 65536
"""Numbers that one round of the sieve covers (micro.asm)."""
CALLS: Final = 21891
"""Calls that one round of the call test takes: those of fib(20)."""
SECTORS: Final = 8
"""Sectors that one round of the disk test reads (micro.asm)."""


@dataclass(frozen=True)
class Bound:
    """The most that a figure may be, and what we would like."""

    limit: float
    target: float | None = None

    def __str__(self) -> str:
        return f"{self.limit:g}" if self.target is None else f"{self.limit:g} ({self.target:g})"


@dataclass(frozen=True)
class Micro:
    """A test of micro.asm, beside QEMU. Bounds are on our time divided by QEMU's."""

    name: str
    test: int
    rounds: int
    """N of the image."""
    operations: int
    """Operations in one round."""
    bounds: dict[str, Bound]
    """By clock."""
    handler: str = ""
    """A key of `bench.handlers.ATTACH`, or nothing."""
    per_second: bool = False
    """Show operations per second instead of the time of one."""
    peer: tuple[str, ...] = ()
    """Options that QEMU needs for it."""
    kind: str = field(default="micro", init=False)


@dataclass(frozen=True)
class Exit:
    """A test of micro.asm that QEMU has no counterpart for. The bound is in microseconds for one exit."""

    name: str
    test: int
    rounds: int
    bound: Bound
    handler: str
    operations: int = field(default=1, init=False)
    kind: str = field(default="exit", init=False)


@dataclass(frozen=True)
class Whole:
    """Something measured as a whole; ``measure`` names a function of `bench.process`. The bound is in ``unit``."""

    name: str
    measure: str
    unit: str
    bound: Bound
    kind: str = field(default="whole", init=False)


@dataclass(frozen=True)
class Linux:
    """Linux from the start of the process to the end of its init, beside QEMU. The bound is a ratio."""

    name: str
    bounds: dict[str, Bound]
    kind: str = field(default="linux", init=False)


@dataclass(frozen=True)
class Processors:
    """Work for several vCPUs, beside QEMU with one thread for all of them and, for comparison, with one for each.

    With ``rounds`` it is a ``test`` of ipi.asm and the figure is the time of a round; without, Linux from the start of
    the process to its power-off. Bounds are on our time divided by that of QEMU with one thread.
    """

    name: str
    cpus: int
    bounds: dict[str, Bound]
    rounds: int = 0
    test: int = 0
    kind: str = field(default="processors", init=False)


Row = Micro | Exit | Whole | Linux | Processors
CLOCKS: Final = ("virtual", "wall")


def _both(limit: float, target: float) -> dict[str, Bound]:
    return {clock: Bound(limit, target) for clock in CLOCKS}


_EVENT = _both(1.6, 1.0)
_DEVICE = _both(1.5, 1.0)
_COMPUTE = {"virtual": Bound(3.5, 2.0), "wall": Bound(2.2, 1.7)}
_PREEMPT = {"virtual": Bound(3.5), "wall": Bound(2.2)}
_IN_ENGINE = Bound(0.15)
_IN_PYTHON = Bound(5.0)

ROWS: Final[tuple[Row, ...]] = (
    Micro("syscall + sysret", 1, 8_000_000, 1, _EVENT),
    Micro("page fault + iret", 2, 2_000_000, 1, _EVENT),
    Micro("int 0x80 + iret", 3, 3_000_000, 1, _EVENT),
    Micro("TLB miss", 4, 5_000, WALK_PAGES, _EVENT),
    Micro("4 stores after a TLB miss", 5, 5_000, WALK_PAGES, _EVENT),
    Micro("port write, compiled device", 6, 20_000_000, 1, _DEVICE, "port"),
    Micro("MMIO read, compiled device", 7, 20_000_000, 1, _DEVICE, "mmio"),
    Micro("ACPI PM timer read", 22, 5_000_000, 1, _DEVICE),
    Micro("HPET counter read", 23, 5_000_000, 1, _DEVICE),
    Micro("PIT count read, two bytes", 24, 2_000_000, 1, _DEVICE),
    Micro("timer interrupts, waiting in HLT", 8, 20_000, 1, _DEVICE, per_second=True),
    Micro("timer interrupts, computing", 16, 20_000, 1, _DEVICE, per_second=True),
    Micro("work under preemption at 1 kHz, a thousand rounds", 17, 300_000, 1, _PREEMPT),
    Micro("integer loop", 9, 200_000_000, 1, _COMPUTE),
    Micro("sieve, one number", 10, 1_000, SIEVED, _COMPUTE),
    Micro("call + return", 11, 4_000, CALLS, _COMPUTE),
    Micro("x87 loop", 20, 20_000_000, 1, _COMPUTE),
    Micro("SSE2 loop", 21, 20_000_000, 1, _COMPUTE),
    Micro("full-screen redraw in mode 13h", 18, 20_000, 1, _COMPUTE, peer=("-vga", "std")),
    Micro("REP INSW of a sector from IDE", 19, 10_000, SECTORS, _DEVICE),
    Linux("Linux to READY", _both(1.3, 0.9)),
    Processors("Linux to power-off, 1 vCPU", 1, _both(1.2, 0.9)),
    Processors("Linux to power-off, 2 vCPUs", 2, _both(1.2, 0.9)),
    Processors("Linux to power-off, 4 vCPUs", 4, _both(1.2, 0.9)),
    Processors("IPI there and back, both in HLT", 2, _both(4.0, 2.5), rounds=50_000, test=1),
    Processors("APIC ID read in each lock, 2 vCPUs", 2, _both(2.0, 1.0), rounds=1_000_000, test=2),
    Exit("CPUID, compiled handler", 12, 5_000_000, _IN_ENGINE, "compiled cpuid"),
    Exit("RDMSR, compiled handler", 13, 5_000_000, _IN_ENGINE, "compiled rdmsr"),
    Exit("hypercall, compiled handler", 14, 5_000_000, _IN_ENGINE, "compiled hypercall"),
    Exit("CPUID, Python handler", 12, 200_000, _IN_PYTHON, "python cpuid"),
    Exit("RDMSR, Python handler", 13, 200_000, _IN_PYTHON, "python rdmsr"),
    Exit("hypercall, Python handler", 14, 200_000, _IN_PYTHON, "python hypercall"),
    Whole("hypervisor run hello, whole process", "run_hello", "s", Bound(1.0)),
    Whole("import hypervisor", "import_package", "s", Bound(0.15)),
    Whole("creating a VM in a running process", "create_vm", "ms", Bound(5.0)),
    Whole("handing a run to a pCPU and back", "hand_over", "µs", Bound(100.0)),
    Whole("2 VMs in Python handlers at once, by one after the other", "in_python", "times", Bound(1.05)),
    Whole("2 VMs that compute at once, by two processes", "computing", "times", Bound(1.05)),
    Whole("8 VMs that compute, by 2 processes", "eight", "times", Bound(4.2)),
    Whole("4 boots of Linux at once, by one at a time", "linuxes", "times", Bound(0.59)),
    Whole("frames of 60 bytes there and back, by two QEMUs", "short_frames", "times", Bound(4.0, 2.0)),
    Whole("frames of 1,514 bytes there and back, by two QEMUs", "long_frames", "times", Bound(2.0, 1.0)),
    Whole("memory of an idle 64 MiB VM", "idle_memory", "MiB", Bound(6.0)),
    Whole("fork of a 256 MiB Linux guest, until it may run", "fork", "ms", Bound(4.0, 1.0)),
    Whole("fork of a 256 MiB Linux guest, to its first exit", "fork_to_exit", "ms", Bound(6.0, 2.0)),
    Whole("forks in a row, each run to its first exit and closed", "forks_in_a_row", "ms", Bound(6.0, 2.0)),
    Whole("revert after 40 dirty frames", "revert", "µs", Bound(600.0, 300.0)),
    Whole("a short case, 4 dirty frames, 1.1 µs of guest time", "short_case", "µs", Bound(100.0, 50.0)),
    Whole("the same with its edges", "covered_case", "µs", Bound(100.0, 50.0)),
    Whole("putting back in the loop of cases after 40 dirty frames", "put_back", "µs", Bound(60.0, 30.0)),
    Whole("memory of a fork that has not run", "idle_fork", "MiB", Bound(0.6)),
    Whole("saving a 256 MiB Linux guest at a shell in a file", "save_linux", "s", Bound(1.0)),
    Whole("that file to a machine that runs, in a fresh process", "open_linux", "s", Bound(0.4)),
)
