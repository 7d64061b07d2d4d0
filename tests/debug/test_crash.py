"""The crash report: what it holds, and that no state of a guest makes it fail."""

from __future__ import annotations

from types import SimpleNamespace

from hypervisor.arch.exits import ExitKind
from hypervisor.core.symbols import SymbolTable
from hypervisor.debug import registers, report
from hypervisor.debug.crash import LAST_EXITS, exit_line, fault_line
from hypervisor.debug.registers import mode_name
from tests.debug.fakes import FakeVcpu, FakeVm

SYMBOLS = SymbolTable({"main": 0x1000})


def crashed_vm() -> FakeVm:
    vcpu = FakeVcpu(rip=0x1004)
    vcpu.write(0x1000, bytes.fromhex("90909090 c705b8000000 00000000"))
    vcpu.write(0x2000, bytes(range(64)))
    return FakeVm([vcpu], SYMBOLS)


def test_a_report_has_faults_registers_code_stack_and_exits() -> None:
    faults = [SimpleNamespace(vector=14, error=2, address=0xB8, rip=0x1004), "then #DF, then shutdown"]
    exits = [SimpleNamespace(kind=ExitKind.PORT_OUT, rip=0x1000, port=0x604, size=2, value=0x2000)] * 20
    text = report(crashed_vm(), faults, exits, title="The guest crashed: triple fault.")
    lines = text.splitlines()
    assert lines[0] == "The guest crashed: triple fault."
    assert "  #PF page fault, error 0x2 [W], address 0xb8, at 0x1004 (main+0x4)" in lines
    assert "  then #DF, then shutdown" in lines
    assert "vcpu 0, 64-bit long mode, CPL 0:" in lines
    assert "code at 0x1004 (main+0x4):" in lines
    assert any(line.startswith("  -> 0x1004: c7 05") and "mov dword ptr" in line for line in lines)
    assert "  0x2000: 0706050403020100 0f0e0d0c0b0a0908 1716151413121110 1f1e1d1c1b1a1918" in lines
    assert f"last {LAST_EXITS} exits, newest last:" in lines
    assert lines[-1] == "  port_out port=0x604 size=2 value=0x2000 at 0x1000 (main)"


def test_unreadable_code_and_stack_are_replaced_by_the_reason() -> None:
    text = report(FakeVm([FakeVcpu(rip=0xDEAD000)]))
    assert text.count("cannot be read: guest-virtual address") == 2
    assert "code at 0xdead000:\n  cannot be read: guest-virtual address 0xdead000 is not mapped" in text
    assert "faults" not in text and "exits" not in text


def test_registers_are_as_wide_as_the_mode() -> None:
    wide, narrow = registers(FakeVcpu()), registers(FakeVcpu(bits=32, efer=0))
    assert "r15 " in wide and "rax 0000000000" in wide
    assert "r15" not in narrow and "eax 0000" in narrow
    assert "cr0 80010011 [PE ET WP PG]" in narrow and "IOPL 0" in narrow and "(data32, DPL 0)" in narrow
    assert "[PF ZF IF]" in wide and "cs   0008" in wide and "(code64, DPL 0)" in wide


def test_modes_have_names() -> None:
    assert mode_name(FakeVcpu()) == "64-bit long mode, CPL 0"
    assert mode_name(FakeVcpu(bits=32)) == "32-bit compatibility mode, CPL 0"
    assert mode_name(FakeVcpu(bits=32, efer=0, cpl=3)) == "32-bit protected mode, paged, CPL 3"
    assert mode_name(FakeVcpu(bits=16, efer=0, cr0=0x11)) == "16-bit protected mode, not paged, CPL 0"
    assert mode_name(FakeVcpu(bits=16, efer=0, cr0=0x10)) == "real mode"
    assert mode_name(FakeVcpu(bits=16, efer=0, rflags=0x20002, cpl=3)) == "virtual-8086 mode"


def test_exits_and_faults_show_what_they_know() -> None:
    assert exit_line(SimpleNamespace(kind=ExitKind.RDMSR, rip=None, msr=0xC0000080), SYMBOLS) == "rdmsr msr=EFER"
    assert (
        exit_line(SimpleNamespace(kind="cpuid", rip=0x1, leaf=1, subleaf=0), SYMBOLS)
        == "cpuid leaf=0x1 subleaf=0x0 at 0x1"
    )
    assert fault_line(SimpleNamespace(vector=6, rip=0x1000), SYMBOLS) == "#UD invalid opcode, at 0x1000 (main)"
    assert fault_line(SimpleNamespace(vector=0x80), SYMBOLS) == "vector 128"
