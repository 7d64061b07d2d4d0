"""Disassembly in the vCPU's mode, forwards and around RIP."""

from __future__ import annotations

from typing import Any

import pytest

from hypervisor.debug import around, at, code_bits, disassemble
from hypervisor.errors import GuestFault
from tests.debug.fakes import FakeVcpu, code

PROLOGUE = bytes.fromhex("55 4889e5 4883ec10 b801000000 0fa2 f4")  # push; mov; sub; mov; cpuid; hlt


def vcpu_with(data: bytes, at_: int = 0x1000, **fields: Any) -> FakeVcpu:
    vcpu = FakeVcpu(**fields)
    vcpu.write(at_, data)
    return vcpu


def test_the_mode_comes_from_the_code_segment_and_efer() -> None:
    assert [code_bits(FakeVcpu(bits=bits)) for bits in (16, 32, 64)] == [16, 32, 64]
    legacy = FakeVcpu(bits=64, efer=0)
    legacy.cs = code(32)
    legacy.cs.attributes |= 0x200  # L means nothing outside long mode
    assert code_bits(legacy) == 32


@pytest.mark.parametrize(
    ("bits", "text"), [(16, "mov ax, 0x1234"), (32, "mov eax, 0x56781234"), (64, "mov eax, 0x56781234")]
)
def test_the_same_bytes_differ_by_mode(bits: int, text: str) -> None:
    assert disassemble(bytes.fromhex("b834127856"), 0, bits, 1)[0].text == text


def test_at_reads_from_rip_or_any_address_and_counts() -> None:
    vcpu = vcpu_with(PROLOGUE)
    assert [line.text for line in at(vcpu, count=2)] == ["push rbp", "mov rbp, rsp"]
    assert str(at(vcpu, 0x100D, 1)[0]) == "0x100d: 0f a2                    cpuid"
    with pytest.raises(GuestFault, match="0x5000 is not mapped"):
        at(vcpu, 0x5000)


def test_at_stops_where_memory_ends() -> None:
    vcpu = vcpu_with(b"\x90\x90\xb8", 0x1FFD, rip=0x1FFD)
    assert [line.text for line in at(vcpu)] == ["nop", "nop"]
    assert [line.text for line in at(vcpu, 0x1FFF)] == ["(bad)"]


def test_real_mode_code_has_a_base() -> None:
    vcpu = vcpu_with(b"\xf4", 0x7C10, bits=16, rip=0x10, code_base=0x7C00, efer=0, cr0=0x10)
    assert at(vcpu, count=1)[0].text == "hlt"


def test_bytes_that_are_no_instruction_are_shown_as_such() -> None:
    assert [line.text for line in disassemble(b"\x06\x90", 0, 64)] == ["(bad)", "nop"]


def test_around_meets_rip_exactly() -> None:
    vcpu = vcpu_with(b"\x90" * 64 + PROLOGUE + b"\x90" * 64, 0x1000 - 64, rip=0x100D)
    texts = [line.text for line in around(vcpu, before=4, after=1)]
    assert texts == ["push rbp", "mov rbp, rsp", "sub rsp, 0x10", "mov eax, 1", "cpuid", "hlt"]
    assert [line.text for line in around(vcpu, before=0, after=0)] == ["cpuid"]


def test_around_at_the_first_byte_of_memory() -> None:
    assert [line.text for line in around(vcpu_with(PROLOGUE, 0, rip=0), after=0)] == ["push rbp"]
    assert [line.text for line in around(vcpu_with(PROLOGUE), after=0)] == ["push rbp"]  # nothing mapped below


def test_what_is_before_is_read_from_where_the_function_begins() -> None:
    vcpu = FakeVcpu(rip=0x1006)
    vcpu.write(0x1000, b"\xb8" + b"\x90" * 20)  # read from its first byte, this is a MOV that swallows four NOPs
    assert [line.text for line in around(vcpu, start=0x1001)[:5]] == ["nop"] * 5
    assert around(vcpu)[0].text != "nop"


def test_what_is_before_ends_at_a_page_that_is_not_there() -> None:
    vcpu = FakeVcpu(rip=0x2003)
    vcpu.write(0x2000, b"\x90" * 20)
    assert [line.address for line in around(vcpu)] == [0x2000 + n for n in range(9)]
