"""The plugins that ship: what they say of guests whose every access and call is known beforehand."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import ClassVar

import pytest

import hypervisor as hv
from hypervisor.plugins.audit import MOST_ROWS, Audit
from hypervisor.plugins.linux_calls import ARGUMENTS, NAMES
from hypervisor.plugins.strace import NO_RETURN, Strace
from hypervisor.state import numbers, record
from hypervisor.testing import check_plugin
from hypervisor.traps.plugins import plugin_set

ANSWERS = 0x88000
IDT = 0x60000


# --- audit ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_audit_counts_each_access(seed: int) -> None:
    choice = random.Random(seed)
    ports, leaves, msrs = [0x60, 0x80, 0x3F8], [0, 1, 0x80000001], [0x10, 0xC0000080, 0xC0000082]
    counted: dict[tuple[str, int], list[int]] = {}
    code = []
    for _ in range(200):
        what = choice.choice(("in", "out", "cpuid", "rdmsr", "cr", "to cr"))
        number = choice.choice({"in": ports, "out": ports, "cpuid": leaves, "rdmsr": msrs}.get(what, [0, 2, 3, 4]))
        code.append({
            "in": f"mov dx, {number}; in al, dx", "out": f"mov dx, {number}; out dx, al",
            "cpuid": f"mov eax, {number}; cpuid", "rdmsr": f"mov ecx, {number}; rdmsr",
            "cr": f"mov rbx, cr{number}", "to cr": f"mov rbx, cr{number}; mov cr{number}, rbx",
        }[what])  # fmt: skip
        key = ({"in": "port", "out": "port", "rdmsr": "msr", "to cr": "cr"}.get(what, what), number)
        row = counted.setdefault(key, [0, 0])
        row[0] += what != "out"
        row[1] += what in ("out", "to cr")
    audit = Audit()
    result = hv.run_asm("; ".join(code) + "; hlt", plugins=[audit])
    assert result.reason is hv.Reason.HALTED
    assert {(row.what, row.number): [row.read, row.written] for row in audit.rows} == counted


def test_audit_writes_its_table(tmp_path: Path) -> None:
    table = tmp_path / "audit.txt"
    with hv.boot("hello", memory="16M", plugins=[("audit", {"to": str(table)})]) as vm:
        vm.run(timeout=10)
    lines = table.read_text().splitlines()
    assert lines[0].split() == ["what", "number", "name", "read", "written", "last", "value", "first", "seen", "at"]
    assert lines[1].split() == ["port", "0x604", "acpi-pm", "0", "1", "0x2000", "0x7c26", "(canonical.off+0x6)"]


def test_audit_does_not_grow_without_end() -> None:
    audit = Audit()
    loop = f"mov r8d, {MOST_ROWS + 50}; again: mov eax, r8d; cpuid; dec r8d; jnz again; hlt"
    assert hv.run_asm(loop, plugins=[audit], virtual_timeout=10).reason is hv.Reason.HALTED
    assert len(audit.rows) == MOST_ROWS and audit.lost == 50 and "(50 accesses of further ones)" in audit.table()


# --- strace -----------------------------------------------------------------------------------------------------------

Calls = list[tuple[int, tuple[int, ...], int]]


def _calls(seed: int, bits: int) -> Calls:
    """Number, arguments and result of some calls; arguments are shown as numbers."""
    choice = random.Random(seed)
    numbers = [number for number, name in NAMES[bits].items() if name not in ARGUMENTS] + [5000]
    mask = (1 << bits) - 1
    return [
        (
            choice.choice([n for n in numbers if NAMES[bits].get(n) not in NO_RETURN]),
            tuple(choice.getrandbits(choice.choice((1, 8, 31, bits))) for _ in range(6)),
            choice.choice((0, 3, 0x12345678, -2 & mask, -13 & mask)),
        )
        for _ in range(60)
    ]


def _lines(calls: Calls, bits: int) -> list[str]:
    results = {0: "0", 3: "3", 0x12345678: "0x12345678", (1 << bits) - 2: "-1 ENOENT", (1 << bits) - 13: "-1 EACCES"}
    return [
        f"{NAMES[bits].get(number, f'syscall_{number:#x}')}({', '.join(map(hex, arguments))}) = {results[result]}"
        for number, arguments, result in calls
    ]


def _seen(path: Path) -> list[str]:
    return [line.split(" ", 2)[2] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("seed", range(3))
def test_strace_of_64_bits(seed: int, tmp_path: Path) -> None:
    calls, to = _calls(seed, 64), tmp_path / "calls"

    def setup(vm: hv.VM) -> None:
        handler = "mov rax, [r15]; add r15, 8; jmp rcx"
        from hypervisor.assembler import assemble

        vm.memory.write(0x70000, assemble(handler, origin=0x70000, mode=64).code)
        vm.memory.write(ANSWERS, struct.pack(f"<{len(calls)}Q", *(result for *_, result in calls)))
        vm.vcpu.set("lstar", 0x70000)

    registers = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
    code = [
        "; ".join(f"mov {name}, {value}" for name, value in zip(("rax", *registers), (number, *arguments), strict=True))
        for number, arguments, _ in calls
    ]
    source = f"mov r15, {ANSWERS}; " + "".join(f"{one}; syscall; " for one in code) + "hlt"
    result = hv.run_asm(source, setup=setup, plugins=[Strace(to=str(to))])
    assert result.reason is hv.Reason.HALTED, result.message
    assert _seen(to) == _lines(calls, 64)


@pytest.mark.parametrize("seed", range(3))
def test_strace_of_32_bits(seed: int, tmp_path: Path) -> None:
    calls, to = _calls(seed, 32), tmp_path / "calls"

    def setup(vm: hv.VM) -> None:
        from hypervisor.assembler import assemble

        handler = "push esi; mov esi, [0x87000]; mov eax, [esi]; add esi, 4; mov [0x87000], esi; pop esi; iretd"
        vm.memory.write(0x70000, assemble(handler, origin=0x70000, mode=32).code)
        vm.memory.write(IDT + 8 * 0x80, struct.pack("<HHBBH", 0, 8, 0, 0x8E, 0x7))
        vm.memory.write(0x87000, struct.pack("<I", ANSWERS))
        vm.memory.write(ANSWERS, struct.pack(f"<{len(calls)}I", *(result for *_, result in calls)))
        vm.vcpu.idtr = hv.Table(IDT, 0x7FF)

    registers = ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp")
    code = [
        "; ".join(f"mov {name}, {value}" for name, value in zip(registers, (number, *arguments), strict=True))
        for number, arguments, _ in calls
    ]
    source = "".join(f"{one}; int 0x80; " for one in code) + "hlt"
    result = hv.run_asm(source, mode=32, setup=setup, plugins=[Strace(to=str(to))])
    assert result.reason is hv.Reason.HALTED, result.message
    assert _seen(to) == _lines(calls, 32)


def test_strace_shows_texts_and_picks_calls(tmp_path: Path) -> None:
    to = tmp_path / "calls"

    def setup(vm: hv.VM) -> None:
        vm.memory.write(0x70000, bytes.fromhex("ffe1"))  # jmp rcx: the number is the result
        vm.memory.write(0x80000, b'say "hi"\n\0' + b"x" * 100)
        vm.vcpu.set("lstar", 0x70000)

    call = "mov eax, {}; mov rdi, {}; mov rsi, {}; mov edx, {}; mov r10d, 0x1a4; syscall; "
    source = "".join((
        call.format(257, 0xFFFFFF9C, 0x80000, 0), call.format(1, 2, 0x8000A, 99), call.format(3, 7, 0, 0),
        call.format(257, 3, 1 << 40, 0), call.format(59, 0x80000, 0, 0), "hlt",
    ))  # fmt: skip
    hv.run_asm(source, setup=setup, plugins=[Strace(to=str(to), only="openat+write+execve")])
    assert _seen(to) == [
        'openat(AT_FDCWD, "say \\"hi\\"\\n", 0x0, 0644) = 257',
        f'write(2, "{"x" * 64}"..., 0x63) = 1',
        "openat(3, 0x10000000000, 0x0, 0644) = 257",
        'execve("say \\"hi\\"\\n", NULL, NULL)',
        "execve failed = 59",
    ]


# --- what all have in common ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", plugin_set.SHIPPED)
def test_they_keep_the_contract(name: str, tmp_path: Path) -> None:
    check_plugin((name, {"to": str(tmp_path / "out")}))


class Remembering:
    """Counts posts, and forgets to say so."""

    seen: ClassVar[list[int]] = []

    def attach(self, vm: hv.VM) -> None:
        """Count writes to the power port, in a list that all share."""
        vm.traps.port_out(0x604, lambda vcpu, exit: self.seen.append(exit.value), mode="observe")

    def state(self) -> SeenState:
        """What has been seen."""
        return SeenState(list(self.seen))

    def restore(self, state: SeenState) -> None:
        """Go on from there."""
        self.seen[:] = state.seen


@record
class SeenState:
    """Values."""

    seen: list[int] = numbers(100, 0, 1 << 32)


def test_the_contract_notices_what_machines_share() -> None:
    with pytest.raises(AssertionError, match="Remembering: a machine that has not run is another one"):
        check_plugin(Remembering)
    with pytest.raises(hv.PluginError, match="does not say what it remembers"):
        check_plugin(Silent)


def test_they_are_found_by_name() -> None:
    for name in plugin_set.SHIPPED:
        assert plugin_set.make(name)[0] == name
    with pytest.raises(hv.PluginError, match="Did you mean strace"):
        plugin_set.make("strase")


class Silent:
    """Says nothing of a state."""

    def attach(self, vm: hv.VM) -> None:
        """Nothing."""


class Newer:
    """A plugin for handlers as they will be."""

    api = 2

    def attach(self, vm: hv.VM) -> None:
        """Nothing."""


def test_a_plugin_for_another_version_is_refused() -> None:
    assert hv.API == 1
    with pytest.raises(
        hv.PluginError, match="Newer is written for version 2 of the handler API, and this is version 1"
    ):
        hv.run_asm("hlt", plugins=[Newer])
