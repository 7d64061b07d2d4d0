"""What loops cost the host for each second of virtual time: ``python -m bench.loops [NAME]... [--update]``.

Each row is a guest that does one thing for ever, by the virtual clock and with the built-in handlers alone. It runs for
a stretch, and the host's CPU time is divided by the virtual time that has passed. A kind of exit that costs the guest
in proportion to what it costs the host cannot hold up a virtual timeout. ``--update`` puts the table into
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import struct
import sys
import time
from contextlib import closing
from dataclasses import dataclass

import hypervisor as hv
from bench.loop_rows import ROWS, Row
from bench.loop_table import publish
from hypervisor.assembler import assemble

STRETCH_S = 0.3
VIRTUAL_S = 2.0
CODE, SECOND, IDT, HANDLERS = 0x100000, 0x110000, 0x200000, 0x201000
GATES = range(256)


@dataclass(frozen=True)
class Figure:
    """Host seconds of CPU time and virtual seconds of one row's stretch, and exits in it."""

    row: Row
    host_s: float
    virtual_s: float

    @property
    def ratio(self) -> float:
        """Host time per virtual time."""
        return self.host_s / self.virtual_s if self.virtual_s else float("inf")

    @property
    def within(self) -> bool:
        """Whether the ratio is where it should be."""
        return self.row.least <= self.ratio <= self.row.most


def machine(row: Row) -> hv.VM:
    """The row's guest before its first instruction."""
    if row.mode == 16:
        sector = assemble(row.source, origin=0x7C00, mode=16).code.ljust(510, b"\0") + b"\x55\xaa"
        return hv.boot(sector + bytes(1440 * 1024 - 512), memory="4M", **row.options)
    code = assemble(row.source, origin=CODE, mode=row.mode).code
    cpus = 2 if row.second else 1
    vm = hv.boot(code, format="flat", at=CODE, mode=row.mode, memory="16M", cpus=cpus, **row.options)
    handler = assemble(row.handler, origin=HANDLERS, mode=64).code
    gate = struct.pack("<HHBBHII", HANDLERS & 0xFFFF, vm.vcpu.cs.selector, 0, 0x8E, HANDLERS >> 16, 0, 0)
    vm.memory.write(HANDLERS, handler)
    vm.memory.write(IDT, gate * len(GATES))
    vm.vcpu.idtr = hv.Table(IDT, 16 * len(GATES) - 1)
    if row.second:
        first, second = vm.vcpus
        second.startup(0)
        vm.memory.write(SECOND, assemble(row.second, origin=SECOND, mode=row.mode).code)
        for name in ("es", "cs", "ss", "ds", "fs", "gs", "gdtr", "idtr"):
            setattr(second, name, getattr(first, name))
        for name in ("cr3", "cr4", "efer", "cr0"):
            second.set(name, first.get(name))
        second.rip, second.rsp = SECOND, first.rsp - 0x800
    return vm


def measure(row: Row, stretch_s: float = STRETCH_S) -> Figure:
    """Run a row's guest once to warm up, and once to measure."""
    for seconds in (stretch_s / 4, stretch_s):
        with closing(machine(row)) as vm:
            began = time.process_time()
            result = vm.run(timeout=seconds, virtual_timeout=VIRTUAL_S)
            host_s = time.process_time() - began
            if result.reason not in (hv.Reason.TIMEOUT, hv.Reason.VIRTUAL_TIMEOUT):
                raise RuntimeError(f"{row.name} ended as {result.reason.value}: {result.message}")
    return Figure(row, host_s, result.virtual_s)


def main() -> int:
    """Exit status: 0 when each row is within its band, 1 when one is not, 2 on bad usage."""
    parser = argparse.ArgumentParser(prog="python -m bench.loops", description="Host time per virtual time of loops.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows whose name has NAME in it (default: all)")
    parser.add_argument("--update", action="store_true", help="put the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    wanted = [row for row in ROWS if not arguments.names or any(name in row.name for name in arguments.names)]
    if not wanted:
        parser.error(f"no row is called {arguments.names[0]!r}; there are: {'; '.join(row.name for row in ROWS)}")
    if arguments.update and arguments.names:
        parser.error("--update publishes all rows: leave the names out")
    figures = []
    for row in wanted:
        figures.append(figure := measure(row))
        mark = "" if figure.within else f"  outside {row.band}"
        print(f"{row.name:<44} {figure.ratio:10.3f} host s per virtual s{mark}", flush=True)
    if arguments.update:
        publish([(item.row.name, round(item.ratio, 4), item.row.band, item.within) for item in figures])
    return 0 if all(figure.within for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
