"""The table in docs/benchmarks.md and the figures behind it as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from bench import loop_table, rows
from bench.measure import ACPI_COMMAND_LINE, LINUX_COMMAND_LINE, LINUX_MEMORY, QEMU, QEMU_THREADS, Figures
from bench.qemu import MACHINE, PROGRAM

TEXT = """# Benchmarks

Written by `python -m bench` (`make bench`); do not edit. The figures behind the tables are in
[benchmarks.json](benchmarks.json).

Machine: {cpu}, {cores} CPUs, {system}; Python {python}; {peer}.
Medians of {repeat} runs{quick}. Ratios are our time divided by QEMU's (smaller is better); behind each limit is its
target in brackets. **Bold** figures are over their limit.

## Beside QEMU

| | QEMU | virtual clock | ratio | limit | wall clock | ratio | limit |
|---|--:|--:|--:|--:|--:|--:|--:|
{beside}

## Several processors beside QEMU

| | QEMU, one thread | QEMU, a thread for each | virtual clock | ratio | limit | wall clock | ratio | limit |
|---|--:|--:|--:|--:|--:|--:|--:|--:|
{processors}

## Exits that QEMU does not take

| | virtual clock | wall clock | limit |
|---|--:|--:|--:|
{exits}

## As a whole

| | | limit |
|---|--:|--:|
{whole}
{problems}
{loops}
## How these come about

- QEMU runs as `{program} {machine}` on one virtual CPU with 64 MiB, the image by `-kernel`, and ends through
  `isa-debug-exit`. Its time is that of the whole process, from start to exit, by the host's monotonic clock.
- Our time is that from `hypervisor.boot(...)` to the end of `vm.run()`, in one process that has done so before.
- Both run the image [bench/micro.asm](../bench/micro.asm) with its test and number of rounds, and with 0 rounds. The
  median of the latter is subtracted on each side, and the rest divided by the number of operations. The sides take
  turns within each row, so a ratio is of one run; two rows need not be (`--update` measures some again). No guest clock
  is used.
- *TLB miss* loads from 2048 pages of 4 KiB (mapped by 2 MiB pages) and flushes the TLB by a write to CR3, over and
  over; *4 stores after a TLB miss* does the same with four stores to each page.
- *Port write* goes to port 0x80, which both sides ignore; ours is a compiled device. *MMIO read* is the version
  register of the local APIC in QEMU, and a compiled device at the same address in ours. The *PM timer*, the *HPET* and
  the *PIT* are devices of both.
- *Timer interrupts* are those of the PIT at 49.7 kHz, more than QEMU delivers, through the 8259, each acknowledged by
  the guest. With the virtual clock a guest that waits in HLT does not wait at all.
- *Full-screen redraw* is 16000 stores of four pixels into the frame buffer of mode 13h, with an addition between
  them; QEMU has `-vga std` for it. Nobody looks at the picture on either side.
- *Integer loop* is one step of xorshift64* in registers; *sieve* is Eratosthenes' over 65536 numbers; *call + return*
  is one call of fib(20). *x87 loop* and *SSE2 loop* are one step of a logistic map in doubles; the first keeps it
  in memory.
- *Linux to READY* is Debian's unmodified 6.1 cloud kernel with a busybox initramfs, {linux_memory} of memory, and
  `{linux}`: the whole process, from start to the reset that init asks for once it has
  printed READY.
- *Linux to power-off* is the same kernel with `{acpi}`, so with ACPI, APICs and all processors, from the start of the
  process to the power-off that init asks for. The vCPUs of a VM take turns on one thread here, so QEMU runs with
  `-accel tcg,thread=single`; the figure with a thread for each vCPU stands beside it, and ratios are to the former.
- *IPI there and back* is one round of [bench/ipi.asm](../bench/ipi.asm): two processors in HLT that wake each other.
  *APIC ID read in each lock* is one round of each of two processors that take one lock, which knows them by that ID.
- *Saving a Linux guest* is that kernel with 256 MiB at a shell; QEMU does `savevm` into a qcow2 image, which does not
  compress, and `-loadvm`, from the start of the process to the guest running.
- *VMs at once* are on two pCPUs of one process ([bench/together.py](../bench/together.py)); the figures are ratios of
  host time. Python handlers serve CPUID, what computes is the integer loop, and Linux boots as in *Linux to READY*.
- *Memory of an idle VM* is what each of 8 more VMs of 64 MiB adds to the private memory of one process
  (`/proc/self/smaps_rollup`), after it ran to a halt.
"""


def markdown(figures: Sequence[Figures], repeat: int, quick: bool, peer: str) -> str:
    """The whole document."""
    problems = [f"- {item.row.name}: {item.problem}" for item in figures if item.problem]
    return TEXT.format(
        cpu=_cpu(),
        cores=os.cpu_count(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        peer=peer,
        repeat=repeat,
        quick=", with a quarter of the work (`--quick`)" if quick else "",
        beside=_lines(figures, "micro", "linux"),
        processors=_lines(figures, "processors"),
        exits=_lines(figures, "exit"),
        whole=_lines(figures, "whole"),
        loops=loop_table.section(),
        problems="\n## Not measured\n\n" + "\n".join(problems) + "\n" if problems else "",
        program=PROGRAM,
        machine=" ".join(MACHINE),
        linux=LINUX_COMMAND_LINE,
        linux_memory=LINUX_MEMORY,
        acpi=ACPI_COMMAND_LINE,
    )


def line(item: Figures) -> str:
    """One row of its table."""
    row, bounded = item.row, item.bounded()
    cells = [row.name]
    if isinstance(row, rows.Micro | rows.Linux | rows.Processors):
        rate = isinstance(row, rows.Micro) and row.per_second
        cells.append(_time(item.values.get(QEMU), rate))
        if isinstance(row, rows.Processors):
            cells.append(_time(item.values.get(QEMU_THREADS), rate))
        for clock in rows.CLOCKS:
            cells += [_time(item.values.get(clock), rate), _bold(bounded.get(clock), "{:.2f}"), str(row.bounds[clock])]
    elif isinstance(row, rows.Exit):
        cells += [_bold(bounded.get(clock), "{:.3f} us") for clock in rows.CLOCKS]
        cells.append(f"{row.bound} us")
    else:
        peer = f" (QEMU {item.values[QEMU]:.3g} {row.unit})" if QEMU in item.values else ""
        cells += [_bold(bounded.get("ours"), f"{{:.3g}} {row.unit}") + peer, f"{row.bound} {row.unit}"]
    return f"| {' | '.join(cells)} |"


class OtherRunError(Exception):
    """The published figures cannot stand beside those of this run."""


def read_json(path: Path, repeat: int, peer: str) -> dict[str, Figures]:
    """The published figures by name. Raises `OtherRunError` if they are not of this machine, or not of all rows."""
    content = json.loads(path.read_text())
    if content["machine"] != _machine(peer) or content["repeat"] != repeat or content["quick"]:
        raise OtherRunError("the published table is of another machine, QEMU or number of runs; measure all rows again")
    by_name = {row["name"]: row for row in content["rows"]}
    missing = [row.name for row in rows.ROWS if row.name not in by_name]
    if missing:
        raise OtherRunError(f"the published table has no row {missing[0]!r}; measure all rows again")
    return {
        row.name: Figures(row, **{field: by_name[row.name][field] for field in ("samples", "values", "problem")})
        for row in rows.ROWS
    }


def _machine(peer: str) -> dict[str, object]:
    return {"cpu": _cpu(), "cpus": os.cpu_count(), "python": platform.python_version(), "qemu": peer}


def write_json(path: Path, figures: Sequence[Figures], repeat: int, quick: bool, peer: str) -> None:
    """All samples, medians and bounds; times in seconds unless a unit is given."""
    content = {
        "machine": _machine(peer),
        "repeat": repeat,
        "quick": quick,
        "rows": [
            {
                "name": item.row.name,
                "kind": item.row.kind,
                "unit": getattr(item.row, "unit", "s"),
                "values": item.values,
                "samples": item.samples,
                "bounded": {
                    side: {"figure": figure, "limit": bound.limit, "target": bound.target}
                    for side, (figure, bound) in item.bounded().items()
                },
                "problem": item.problem,
            }
            for item in figures
        ],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def over(figures: Sequence[Figures]) -> list[str]:
    """Sentences about figures that are over their limits or missing."""
    found = []
    for item in figures:
        if item.problem:
            found.append(f"{item.row.name}: not measured: {item.problem}")
        for side, (figure, bound) in item.bounded().items():
            if figure > bound.limit:
                found.append(f"{item.row.name} ({side}): {figure:.3g}, limit {bound}")
    return found


def _lines(figures: Sequence[Figures], *kinds: str) -> str:
    return "\n".join(line(item) for item in figures if item.row.kind in kinds)


def _bold(figure: tuple[float, rows.Bound] | None, form: str) -> str:
    if figure is None:
        return "-"
    text = form.format(figure[0])
    return f"**{text}**" if figure[0] > figure[1].limit else text


def _time(seconds: float | None, rate: bool) -> str:
    if seconds is None:
        return "-"
    if rate:
        return f"{1 / seconds:,.0f}/s" if seconds > 0 else "-"
    for factor, unit in ((1, "s"), (1e6, "us"), (1e9, "ns")):
        if seconds * factor >= 0.1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.2g} ns"


def _cpu() -> str:
    """The host's CPU as Linux names it."""
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return platform.processor() or "an unknown CPU"
