"""What a guest asks of its processor and its board: each CPUID leaf, MSR, control register and port that it touches.

``hypervisor run kernel.elf --plugin audit`` prints a table at the end::

    what         number      name             read  written  last value  first seen at
    cpuid        0x80000001                      1        0              0x100a13 (detect+0x13)
    msr          0xc0000080  EFER                1        1  0x500       0x100b02 (long_mode+0x22)
    port         0x3f8       uart0               0       26  0xa         0x100c40 (put+0x8)

It only looks on, at final values. An access that the processor refused has no value.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import hypervisor as hv
from hypervisor.arch.msr import NAMES as MSR_NAMES

MOST_ROWS = 10_000
"""Different things that are told apart; a guest may touch every CPUID leaf."""
COLUMNS = ("what", "number", "name", "read", "written", "last value", "first seen at")


@dataclass
class Row:
    """One thing that the guest has touched."""

    what: str
    number: int
    name: str
    first: str
    read: int = 0
    written: int = 0
    value: int | None = None


class Audit:
    """Options: ``to``, a file for the table, which is written when the VM is closed; by default it goes to stderr.

    `rows` and `table` have it at any time.
    """

    stateless = True  # what it has seen is no part of the machine: a fork begins an audit of its own

    def __init__(self, to: str = "") -> None:
        self.to = to
        self.lost = 0
        """Accesses of more things than there is room for."""
        self._rows: dict[tuple[str, int], Row] = {}

    def attach(self, vm: hv.VM) -> None:
        """Register an observer for each kind of thing."""
        self._vm = vm
        for name, register in (("cpuid", vm.traps.cpuid), ("msr", vm.traps.msr), ("port", vm.traps.port),
                               ("cr", vm.traps.cr), ("dr", vm.traps.dr)):  # fmt: skip
            register(self._saw, name=name, mode="observe", when="after")

    def detach(self) -> None:
        """Write the table."""
        if self.to:
            with open(self.to, "w", encoding="utf-8") as file:
                file.write(self.table())
        else:
            sys.stderr.write(self.table())

    def _saw(self, vcpu: hv.Vcpu, exit: hv.Exit) -> None:
        what, number = self._thing(exit)
        row = self._rows.get((what, number))
        if row is None:
            if len(self._rows) >= MOST_ROWS:
                self.lost += 1
                return
            row = self._rows[what, number] = Row(what, number, self._name(what, number), str(vcpu.where))
        if what != "cpuid" and exit.direction == "write":
            row.written += 1
        else:
            row.read += 1
        row.value = exit.value

    @staticmethod
    def _thing(exit: hv.Exit) -> tuple[str, int]:
        for what, number in (("cpuid", exit.leaf), ("msr", exit.msr), ("port", exit.port)):
            if number is not None:
                return what, number
        return exit.kind.name.partition("_")[0].lower(), exit.number

    def _name(self, what: str, number: int) -> str:
        if what == "port":
            there = self._vm.ports.find(number)
            return "" if there is None else there.device.name
        return MSR_NAMES.get(number, "") if what == "msr" else ""

    @property
    def rows(self) -> list[Row]:
        """What has been touched, by kind and number."""
        return [self._rows[key] for key in sorted(self._rows)]

    def table(self) -> str:
        """The rows as text, a line each."""
        lines = [COLUMNS] + [
            (r.what, f"{r.number:#x}", r.name, str(r.read), str(r.written),
             "" if r.value is None else f"{r.value:#x}", r.first)
            for r in self.rows
        ]  # fmt: skip
        widths = [max(len(line[n]) for line in lines) for n in range(len(COLUMNS))]
        text = [
            "  ".join(
                f"{cell:>{width}}" if n in (3, 4) else f"{cell:<{width}}"
                for n, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        if self.lost:
            text.append(f"({self.lost} accesses of further ones)")
        return "".join(line.rstrip() + "\n" for line in text)


__all__ = ["Audit", "Row"]
