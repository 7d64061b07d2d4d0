"""Outside 64-bit mode RIP has 32 bits, wherever code runs or jumps over either end of them (APM volume 2, 4.5)."""

from __future__ import annotations

import struct

import pytest

import hypervisor as hv
from hypervisor.arch import segments
from hypervisor.arch.segments import Segment
from hypervisor.assembler import assemble
from tests.core.bare import CODE, bare

TOP, DIRECTORY = 0xFFFFF000, 0x6000


def _with_pages(vm: hv.VM, compatibility: bool) -> None:
    """The last page below 4 GiB is a page of memory; at 4 GiB lies other code."""
    if compatibility:
        vm.vcpu.registers.set_segment("cs", Segment(8, 0, 0xFFFFFFFF, segments.CODE32))
    vm.memory.write(0x3000 + 8 * 3, struct.pack("<Q", DIRECTORY | 7))
    vm.memory.write(DIRECTORY + 8 * 511, struct.pack("<Q", 0x7007))
    vm.memory.write(0x7000 + 8 * 511, struct.pack("<Q", 0x90007))
    vm.memory.write(0x3000 + 8 * 4, struct.pack("<Q", 0x87))


CASES = {
    "runs over the end": (0xFFFFFFFE, "inc ebx; nop", 0, "jmp near 0x500"),
    "an instruction over the end": (0xFFFFFFFD, "mov ebx, 1", 2, "jmp near 0x500"),
    "jumps forward": (0xFFFFFFF0, "inc ebx; short jmp", 0x10, "jmp near 0x500"),
    "branches forward": (0xFFFFFFF0, "test eax, eax; inc ebx; short jnz", 0x10, "jmp near 0x500"),
}
"""Where it begins, what is there, and what is found behind the end."""


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("tf", [0, 1 << 8])
def test_code_over_the_end(name: str, tf: int) -> None:
    start, text, behind, goes_on = CASES[name]
    with bare("", 64, rax=1) as vm:
        _with_pages(vm, True)
        head, _, jump = text.partition("; short ")
        code = assemble(head, origin=start, mode=32).code
        if jump:
            code += bytes((0x75 if jump == "jnz" else 0xEB, (0x10 - start - len(code) - 2) & 0xFF))
        place = 0x90000 + (start & 0xFFF)
        inside = min(len(code), 0x100000000 - start)
        vm.memory.write(place, code[:inside])
        vm.memory.write(0, code[inside:])
        vm.memory.write(behind, assemble(goes_on, origin=behind, mode=32).code)
        vm.memory.write(0x500, b"\x0f\x0b")
        vm.vcpu.rip = start
        vm.vcpu.rflags = 2 | tf
        seen = []
        vm.traps.exception(6, lambda vcpu, exit: hv.stop("#UD"))
        vm.traps.exception(1, lambda vcpu, exit: (seen.append(vcpu.rip), hv.HANDLED)[1], name="steps")
        assert vm.run(timeout=5).message == "#UD"
        assert (vm.vcpu.rip, vm.vcpu.ebx) == (0x500, 1)
        assert all(rip < 1 << 32 for rip in seen)
        assert not tf or seen[-2:] == [behind, 0x500], [hex(rip) for rip in seen]


@pytest.mark.parametrize("mode", ["protected", "compatibility"])
@pytest.mark.parametrize("code", [b"\xeb\x80", b"\x74\x80"])
def test_short_jump_to_below_zero(mode: str, code: bytes) -> None:
    with bare("", 64 if mode == "compatibility" else 32) as vm:
        if mode == "compatibility":
            _with_pages(vm, True)
            vm.memory.write(0x90F92, b"\x0f\x0b")
        vm.memory.write(0x10, code)
        vm.vcpu.rip = 0x10
        vm.vcpu.rflags = 0x42
        vm.traps.exception(6, lambda vcpu, exit: hv.stop("#UD"))
        vm.run(timeout=5)
        assert vm.vcpu.rip == 0xFFFFFF92


def test_page_fault_of_a_fetch_beyond() -> None:
    """CR2 is the linear address of 32 bits, and so is the RIP that is pushed."""
    with bare("", 64) as vm:
        _with_pages(vm, True)
        vm.memory.write(0x7000 + 8 * 511, bytes(8))
        vm.memory.write(0x10, b"\xeb\x80")
        vm.vcpu.rip = 0x10
        vm.traps.exception(14, lambda vcpu, exit: hv.stop(f"#PF at {exit.address:x}"))
        assert vm.run(timeout=5).message == "#PF at ffffff92"
        assert vm.vcpu.rip == 0xFFFFFF92


def test_stepping_over_the_end() -> None:
    with bare("", 64) as vm:
        _with_pages(vm, True)
        vm.memory.write(0x90FFF, b"\x90")
        vm.memory.write(0, b"\x90\x90")
        vm.vcpu.rip = 0xFFFFFFFF
        rips = []
        for _ in range(3):
            vm.vcpu.step()
            rips.append(vm.vcpu.rip)
        assert rips == [0, 1, 2]


def test_64_bit_code_goes_on_beyond_4_gib() -> None:
    with bare("", 64) as vm:
        _with_pages(vm, False)
        vm.memory.write(0x90FFF, b"\x90")
        vm.memory.write(0, b"\x0f\x0b")
        vm.vcpu.rip = 0xFFFFFFFF
        vm.traps.exception(6, lambda vcpu, exit: hv.stop("#UD"))
        vm.run(timeout=5)
        assert vm.vcpu.rip == 1 << 32


def test_a_base_that_leads_over_the_end() -> None:
    """The sum of base and RIP has 32 bits, too; RIP stays what it is."""
    with bare("", 32) as vm:
        vm.vcpu.registers.set_segment("cs", Segment(8, 0xFFFFF000, 0xFFFFFFFF, segments.CODE32))
        vm.memory.write(0x200, assemble("inc ebx; call 0x1300", origin=0x1200, mode=32).code)
        vm.memory.write(0x300, b"\x0f\x0b")
        vm.vcpu.rip = 0x1200
        vm.traps.exception(6, lambda vcpu, exit: hv.stop("#UD"))
        vm.run(timeout=5)
        assert (vm.vcpu.rip, vm.vcpu.ebx) == (0x1300, 1)
        assert vm.memory.read(vm.vcpu.rsp, 4) == struct.pack("<I", 0x1206)


@pytest.mark.parametrize("released", [0, 8, 0x7FF8, 0x8000, 0xFFF0, 0xFFFF])
@pytest.mark.parametrize("mode", [32, 64])
def test_near_ret_releases_what_it_says(mode: int, released: int) -> None:
    """APM volume 3, RET (near): the count has no sign."""
    with bare(f"push CODE + 0x100; ret {released}".replace("CODE + 0x100", str(CODE + 0x100)), mode, rsp=0x60000) as vm:
        vm.memory.write(CODE + 0x100, b"\x0f\x0b")
        vm.traps.exception(6, lambda vcpu, exit: hv.stop("#UD"))
        assert vm.run(timeout=5).message == "#UD"
        assert (vm.vcpu.rip, vm.vcpu.rsp) == (CODE + 0x100, 0x60000 + released)


@pytest.mark.parametrize("released", [8, 0x8000, 0xFFF0])
def test_refused_near_ret_releases_nothing(released: int) -> None:
    with bare(f"mov rax, 0x800000000000; push rax; ret {released}", rsp=0x60000) as vm:
        vm.traps.exception(13, lambda vcpu, exit: hv.stop("#GP"))
        assert vm.run(timeout=5).message == "#GP"
        assert (vm.vcpu.rip, vm.vcpu.rsp) == (CODE + 11, 0x60000 - 8)
