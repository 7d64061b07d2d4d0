"""Which source lines a guest executes, as lcov: for ``genhtml``, for editors, for services that show coverage.

``hypervisor run kernel.elf --plugin coverage,to=kernel.lcov`` writes the report at the end. The lines are those of the
image, if it is an ELF file that was compiled with ``-g``; ``symbols=vmlinux`` names another file that has them, and
``base=`` says how far from its addresses the guest runs. How it works: while `hypervisor.VM.coverage` is on, each block
of the guest notes its address when it is first executed, and an ELF file's line table says what lines an address
belongs to. The guest sees nothing of it.
"""

from __future__ import annotations

import sys

import hypervisor as hv


class Lcov:
    """Options: ``to``, a file for the report, by default ``coverage.lcov``; ``symbols`` and ``base``, see above."""

    stateless = True  # what was executed is no part of the machine: a fork begins a count of its own

    def __init__(self, to: str = "coverage.lcov", symbols: str = "", base: int = 0) -> None:
        self.to, self.symbols, self.base = to, symbols, base

    def attach(self, vm: hv.VM) -> None:
        """Count from the first instruction on."""
        self._vm = vm
        if self.symbols:
            vm.symbols.load(self.symbols, self.base)
        vm.coverage.start()

    def detach(self) -> None:
        """Write the report; say on stderr what is in it."""
        report = self._vm.coverage.lcov()
        with open(self.to, "w", encoding="utf-8") as file:
            file.write(report)
        lines = [line for line in report.splitlines() if line.startswith("DA:")]
        text = f"{sum(not line.endswith(',0') for line in lines)} of {len(lines)} lines were executed: {self.to}"
        if not lines:
            text = f"{self._vm.name} has no source lines: compile it with -g, or name its ELF file by symbols="
        elif not self._vm.coverage.complete:
            text += " (without those of blocks for which there was no room)"
        sys.stderr.write(f"coverage: {text}\n")


__all__ = ["Lcov"]
