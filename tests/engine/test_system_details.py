"""Small things of system instructions, where generated code of Unicorn's differs from the manual."""

from __future__ import annotations

import struct

import pytest

import hypervisor as hv
from hypervisor.arch import segments
from hypervisor.arch.segments import Segment, Table
from hypervisor.assembler import assemble
from tests.core.bare import CODE, DATA, bare

GDT, VM = 0x1000, 1 << 17


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0x82, 0, "loaded"),
        (0x82, 0x02, "#GP 20"),
        (0x82, 0x1F, "#GP 20"),
        (0x82, 0xE0, "loaded"),  # above the type
        (0x02, 0x1F, "#NP 20"),
        (0x89, 0x1F, "#GP 20"),
        (0x92, 0, "#GP 20"),
    ],
)
@pytest.mark.parametrize("watched", [False, True])
def test_lldt_looks_at_its_whole_descriptor(low: int, high: int, expected: str, watched: bool) -> None:
    """APM volume 2, 4.8.3: in long mode, the type in the upper half is 0."""
    with bare("lldt ax; int 0x20", rax=0x20) as vm:
        vm.memory.write(GDT + 0x20, struct.pack("<QQ", 0x00000000_0000FFFF | low << 40 | 0x4000 << 16, high << 40 | 1))
        vm.vcpu.gdtr = Table(GDT, 0x2F)
        vm.traps.exception(13, lambda vcpu, exit: hv.stop(f"#GP {exit.error_code:x}"))
        vm.traps.exception(11, lambda vcpu, exit: hv.stop(f"#NP {exit.error_code:x}"))
        vm.traps.int_n(0x20, lambda vcpu, exit: hv.stop("loaded"))
        if watched:
            vm.traps.lldt(lambda vcpu, exit: None, mode="observe")
        assert vm.run(timeout=5).message == expected
        ldtr = vm.vcpu.registers.segment("ldtr")
        assert (ldtr.selector, ldtr.base) == ((0x20, 0x1_0000_4000) if expected == "loaded" else (0, 0))


@pytest.mark.parametrize(("watched", "stopped"), [(False, False), (True, False), (False, True)])
def test_pushf_in_virtual_8086_mode_shows_vm_clear(watched: bool, stopped: bool) -> None:
    """APM volume 3, PUSHF. ``stopped``: at an execute trap, where the flags are kept, VM stays."""
    with bare("", 32) as vm:
        registers = vm.vcpu.registers
        for name in ("cs", "ss", "ds", "es", "fs", "gs"):
            registers.set_segment(name, Segment(0x1000, 0x10000, 0xFFFF, 0xF3))
        registers.set("rflags", 2 | VM | 3 << 12 | 0x40)
        vm.memory.write(0x10000, b"\x66\x9c\x66\x9c\xf4")
        vm.vcpu.rip, vm.vcpu.rsp = 0, 0x8000
        vm.traps.exception(13, lambda vcpu, exit: hv.stop("#GP"))
        if watched:
            vm.traps.pushf(lambda vcpu, exit: None, mode="observe")
        if stopped:
            vm.traps.execute(0x10002, lambda vcpu, exit: hv.PASS)
        assert vm.run(timeout=5).message == "#GP"
        assert (vm.vcpu.rip, vm.vcpu.rsp) == (4, 0x7FF8)
        assert vm.memory.read(0x17FF8, 8) == struct.pack("<II", 0x3042, 0x3042)
        assert vm.vcpu.rflags & VM


@pytest.mark.parametrize("segment", ["ds", "es"])
@pytest.mark.parametrize("start", ["64-bit", "compatibility"])
def test_sysret_keeps_the_bases_of_data_segments(segment: str, start: str) -> None:
    """They are not used in 64-bit mode, and are in compatibility mode, which SYSRET goes to."""
    with bare("", 64, rcx=CODE + 0x100, r11=2) as vm:
        vm.memory.write(CODE, b"\x0f\x07")
        code = assemble(f"mov eax, {segment}:[{DATA - 0x1000:#x}]; int3", origin=CODE + 0x100, mode=32).code
        vm.memory.write(CODE + 0x100, code)
        vm.memory.write(DATA, struct.pack("<I", 0x1234))
        registers = vm.vcpu.registers
        registers.set_segment(segment, Segment(0x10, 0x1000, 0xFFFFFFFF, segments.DATA32))
        if start == "compatibility":
            registers.set_segment("cs", Segment(8, 0, 0xFFFFFFFF, segments.CODE32))
        registers.set("star", 0x18 << 48)
        vm.traps.exception(3, lambda vcpu, exit: hv.stop("done"))
        assert vm.run(timeout=5).message == "done"
        assert vm.vcpu.rax == 0x1234
