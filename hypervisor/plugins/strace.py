"""The system calls of a Linux guest, seen from outside: names, arguments and results, of 64- and 32-bit programs.

``hypervisor run bzImage --initrd initrd.gz --plugin strace,to=calls.txt`` writes a line for each call that returns::

    cr3 0x4c1a000 openat(AT_FDCWD, "/etc/passwd", 0x80000, 00) = 3
    cr3 0x4c1a000 read(3, 0x7ffd1a0, 0x1000) = 1024

CR3 tells one program from another: nothing is asked of the guest, and nothing in it is changed. How it works: the
instructions by which programs call Linux are trapped (SYSCALL, SYSENTER, INT 80h). Each handler notes number, arguments
and stack pointer, and passes; an execute trap where the program goes on finds the result in RAX. A call that does not
return, as exit and execve, is written when it is made. Texts that lie in pages which Linux has not brought in yet are
shown as their address.
"""

from __future__ import annotations

import errno
import sys
from typing import NamedTuple, TextIO

import hypervisor as hv
from hypervisor.plugins.linux_calls import ARGUMENTS, NAMES

LONGEST_TEXT = 64
"""Characters of a text that are shown."""
MOST_PLACES, MOST_PENDING = 2048, 4096
"""Instructions behind calls that are trapped, and calls that are waited for: a guest may make any number of either."""
NO_RETURN = frozenset(("exit", "exit_group", "reboot", "execve", "execveat", "rt_sigreturn", "sigreturn"))
ORDERS = {64: ("rdi", "rsi", "rdx", "r10", "r8", "r9"), 32: ("ebx", "ecx", "edx", "esi", "edi", "ebp")}
"""Registers of the arguments."""


class Call(NamedTuple):
    """One that has been made."""

    name: str
    arguments: str | None
    """None if they have been written: it should not return, and says why it does."""


class Strace:
    """Options: ``to``, a file for the lines, by default stderr; ``only``, names of calls with ``+`` between them."""

    stateless = True  # calls that a snapshot found half made are not seen to return

    def __init__(self, to: str = "", only: str = "") -> None:
        self.to = to
        self.only = frozenset(only.split("+")) if only else frozenset[str]()
        self._pending: dict[tuple[int, int, int], Call] = {}
        """By CR3, stack pointer and the address behind the call."""
        self._places: set[int] = set()
        self._file: TextIO | None = None

    def attach(self, vm: hv.VM) -> None:
        """Trap the instructions that call Linux."""
        self._vm = vm
        self._file = open(self.to, "w", encoding="utf-8") if self.to else None
        vm.traps.syscall(self._syscall, name="syscall")
        vm.traps.sysenter(self._syscall, name="sysenter")
        vm.traps.int_n(0x80, self._int80, name="int 80h")

    def reset(self) -> None:
        """No call returns any more."""
        self._pending.clear()

    def detach(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _syscall(self, vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        if vcpu.mode == 64:
            self._made(vcpu, 64, (vcpu.rip + exit.length,))
        else:  # the vDSO goes on behind the INT 80h that follows there
            self._made(vcpu, 32, (vcpu.rip + exit.length, vcpu.rip + exit.length + 2))
        return hv.PASS

    def _int80(self, vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        self._made(vcpu, 32, (vcpu.rip + exit.length,))
        return hv.PASS

    def _made(self, vcpu: hv.Vcpu, bits: int, behind: tuple[int, ...]) -> None:
        number = vcpu.eax
        name = NAMES[bits].get(number, f"syscall_{number:#x}")
        if self.only and name not in self.only:
            return
        call = Call(name, _arguments(vcpu, name, [vcpu.get(register) for register in ORDERS[bits]]))
        if name in NO_RETURN:
            self._write(vcpu.cr3, f"{name}({call.arguments})")
            call = Call(name, None)
        for place in behind:
            if self._trapped(place) and len(self._pending) < MOST_PENDING:
                self._pending[vcpu.cr3, vcpu.rsp, place] = call

    def _trapped(self, place: int) -> bool:
        """Have the guest left where a program goes on, from now on; whether it is."""
        if place not in self._places and len(self._places) < MOST_PLACES:
            self._places.add(place)
            self._vm.traps.execute(place, self._returned, name=f"behind {place:#x}")
        return place in self._places

    def _returned(self, vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        call = self._pending.pop((vcpu.cr3, vcpu.rsp, exit.address), None)
        if call is not None:
            value = vcpu.rax if vcpu.mode == 64 else vcpu.eax
            arguments = " failed" if call.arguments is None else f"({call.arguments})"
            self._write(vcpu.cr3, f"{call.name}{arguments} = {_result(value, vcpu.mode)}")
        return hv.PASS

    def _write(self, space: int, text: str) -> None:
        (self._file or sys.stderr).write(f"cr3 {space & ~0xFFF:#x} {text}\n")


def _result(value: int, bits: int) -> str:
    """A number, an address, or the error that Linux says with a small negative number."""
    error = (1 << bits) - value
    if 0 < error < 4096:
        return f"-1 {errno.errorcode.get(error, error)}"
    return str(value) if value < 1 << 16 else f"{value:#x}"


def _arguments(vcpu: hv.Vcpu, name: str, values: list[int]) -> str:
    kinds = ARGUMENTS.get(name, "xxxxxx")
    return ", ".join(_shown(vcpu, kind, values, n) for n, kind in enumerate(kinds))


def _shown(vcpu: hv.Vcpu, kind: str, values: list[int], n: int) -> str:
    value = values[n]
    small = (value & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000
    if kind == "d":
        return str(small)
    if kind == "o":
        return f"0{value & 0xFFFF_FFFF:o}"
    if kind == "a":
        return "AT_FDCWD" if small == -100 else str(small)
    if kind in "sb" and value:
        try:
            return _quoted(vcpu, value, values[n + 1] if kind == "b" else None)
        except hv.GuestFault:
            pass  # not there, or not yet: an address says as much
    return "NULL" if kind in "psb" and not value else f"{value:#x}"


def _quoted(vcpu: hv.Vcpu, at: int, size: int | None) -> str:
    if size is None:
        text = vcpu.read_cstr(at, LONGEST_TEXT + 1)
    else:
        text = vcpu.read(at, min(size, LONGEST_TEXT + 1)).decode(errors="backslashreplace")
    more = "..." if len(text) > LONGEST_TEXT else ""
    return '"' + text[:LONGEST_TEXT].replace("\n", "\\n").replace('"', '\\"') + '"' + more


__all__ = ["Strace"]
