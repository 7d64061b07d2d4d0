"""``-d int,cpu_reset,guest_errors``: QEMU's log, in QEMU's form (``target/i386/tcg/seg_helper.c``, ``cpu.c``).

As there, interrupts and exceptions are logged in protected mode only, so that a BIOS does not fill the log.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TextIO

from hypervisor.arch import flags
from hypervisor.arch.vectors import DF, PF
from hypervisor.cli.qemu.monitor.cpu_text import dump
from hypervisor.errors import ConfigError

BY_INSTRUCTION = (3, 4)
"""Exceptions that INT3 and INTO raise, which QEMU counts as interrupts of the program's."""
LAST_EXCEPTION = 31
UNANSWERED = ("guest_errors", "unimp")


class DebugLog:
    """The log of one VM, as a context manager. Raises `ConfigError` for a file that cannot be written."""

    def __init__(self, vm: Any, items: Sequence[str], path: str | None) -> None:
        self._vm, self._items = vm, items
        self._count = 0
        try:
            self._file: TextIO = sys.stderr if path is None else open(path, "w", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"-D {path}: {error.strerror}.") from error
        self._lost = False

    def __enter__(self) -> DebugLog:
        traps = self._vm.traps
        if "int" in self._items:
            for register in (traps.exception, traps.interrupt, traps.int_n):
                register(mode="observe", when="before")(self._event)
        if "cpu_reset" in self._items:
            self._vm.listeners.append(self._told)
        return self

    def __exit__(self, *exc: object) -> None:
        if any(item in UNANSWERED for item in self._items):
            for what, count in self._vm.unclaimed.items():
                self._write(f"{what}: nothing answers there ({count} times)\n")
        if self._file is not sys.stderr:
            self._file.close()

    def crashed(self, chain: Sequence[Any]) -> None:
        """A triple fault: what followed the first exception, which no handler has seen."""
        if "int" in self._items:
            for link, following in pairwise(chain[1:]):  # the last one shuts the processor down
                if link.vector <= LAST_EXCEPTION and following.vector != DF:  # which that one becomes
                    self._line(self._vm.current, link.vector, link.error or 0, address=link.address)
        if "cpu_reset" in self._items:
            self._write("Triple fault\n")

    def _event(self, vcpu: Any, exit: Any) -> None:
        if not vcpu.cr0 & flags.CR0_PE:
            return
        kind, vector = exit.kind.name, exit.vector
        if kind == "INTERRUPT":
            self._write(f"Servicing hardware INT=0x{vector:02x}\n")
        if kind == "EXCEPTION":
            self._line(
                vcpu, vector, exit.error_code or 0, by_instruction=vector in BY_INSTRUCTION, address=exit.address
            )
        else:
            self._line(vcpu, vector, by_instruction=kind == "INT_N")

    def _line(
        self, vcpu: Any, vector: int, error: int = 0, *, by_instruction: bool = False, address: int | None = None
    ) -> None:
        last = f"CR2={address or 0:016x}" if vector == PF else f"env->regs[R_EAX]={vcpu.rax:016x}"
        cs, ss = vcpu.cs, vcpu.ss
        base = 0 if vcpu.mode == 64 else cs.base
        self._write(
            f"{self._count:6}: v={vector:02x} e={error:04x} i={int(by_instruction)} cpl={vcpu.cpl} "
            f"IP={cs.selector:04x}:{vcpu.rip:016x} pc={base + vcpu.rip:016x} "
            f"SP={ss.selector:04x}:{vcpu.rsp:016x} {last}\n{dump(vcpu, fpu=False)}\n"
        )
        self._count += 1

    def _told(self, category: str, text: str, vcpu: Any) -> None:
        if category == "reset" and text == "reset":
            for each in self._vm.vcpus:
                self._write(f"CPU Reset (CPU {each.number})\n{dump(each, fpu=True)}\n")

    def _write(self, text: str) -> None:
        if self._lost:
            return
        try:
            self._file.write(text)
        except (OSError, ValueError):  # a full disk: the guest goes on without its log
            self._lost = True
