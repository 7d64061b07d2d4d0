"""A VM's state from the host: memory, registers, MSRs, translation, symbols, disassembly."""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.arch.msr import MSRS
from hypervisor.debug import disasm
from tests.core.bare import DATA, bare

WHOLE = [
    *(f"r{n}" for n in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip", *range(8, 16))),
    "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "dr0", "dr1", "dr2", "dr3", "dr6", "dr7",
]  # fmt: skip
SEGMENTS = ["cs", "ds", "es", "fs", "gs", "ss", "ldtr"]


@pytest.mark.parametrize("name", WHOLE)
def test_whole_registers(name: str) -> None:
    value = 0xFFFF_F000_1234_5602 | (0x400 if name == "dr7" else 0)
    with bare("hlt") as vm:
        setattr(vm.vcpu, name, value)
        assert getattr(vm.vcpu, name) == vm.vcpu.get(name) == value
        vm.vcpu.set(name, 2)
        assert vm.vcpu.get(name) == 2 | (0x400 if name == "dr7" else 0)


@pytest.mark.parametrize(
    "part,whole,expected",
    [
        ("eax", "rax", 0x00000000_00000001),
        ("ax", "rax", 0x11111111_11110001),
        ("al", "rax", 0x11111111_11111101),
        ("ah", "rax", 0x11111111_11110111),
        ("r9d", "r9", 1),
        ("r9w", "r9", 0x11111111_11110001),
        ("r9b", "r9", 0x11111111_11111101),
        ("sil", "rsi", 0x11111111_11111101),
        ("bp", "rbp", 0x11111111_11110001),
    ],
)
def test_parts_of_registers(part: str, whole: str, expected: int) -> None:
    with bare("hlt") as vm:
        vm.vcpu.set(whole, 0x1111111111111111)
        setattr(vm.vcpu, part, 1)
        assert vm.vcpu.get(whole) == expected and getattr(vm.vcpu, part) == 1


@pytest.mark.parametrize("name", SEGMENTS)
def test_segments_with_their_hidden_parts(name: str) -> None:
    segment = hv.Segment(0x28, 0x12345000, 0xFFFFF, 0xC93)
    with bare("hlt") as vm:
        setattr(vm.vcpu, name, segment)
        assert getattr(vm.vcpu, name) == segment


def test_reserved_flags_stay_what_they_are() -> None:
    with bare("pushfq; pop rax; hlt") as vm:
        vm.vcpu.rflags = 0xFFFF_FFFF_FFC0_802A | 0xCD5
        assert vm.vcpu.rflags == vm.vcpu.get("rflags") == 0xCD7
        vm.run(timeout=5)
        assert vm.vcpu.rax == 0xCD7 == vm.vcpu.rflags


def test_tables_and_wide_registers() -> None:
    with bare("movdqa xmm1, xmm0; hlt") as vm:
        vm.vcpu.gdtr = hv.Table(0x5000, 0x7F)
        vm.vcpu.idtr = hv.Table(0x6000, 0xFF)
        vm.vcpu.xmm0 = 1 << 127 | 5
        assert vm.vcpu.gdtr == (0x5000, 0x7F) and vm.vcpu.idtr == (0x6000, 0xFF)
        vm.run(timeout=5)
        assert vm.vcpu.xmm1 == 1 << 127 | 5
        with pytest.raises(AttributeError, match=r"^a vCPU has no register 'eaz'. Did you mean eax\?$"):
            vm.vcpu.set("eaz", 1)
        with pytest.raises(AttributeError, match=r"^a vCPU has no register 'raxx'. Did you mean rax\?$"):
            vm.vcpu.get("raxx")


@pytest.mark.parametrize("number", [n for n in MSRS if n != 0x10])
def test_msrs(number: int) -> None:
    with bare("hlt") as vm:
        old = vm.vcpu.msr[number]
        vm.vcpu.msr[number] = old
        assert vm.vcpu.msr[number] == old
        assert number in vm.vcpu.msr


def test_msrs_are_what_the_guest_sees() -> None:
    with bare("mov ecx, 0xc0000102; rdmsr; mov ecx, 0xc0000103; mov eax, 9; wrmsr; hlt") as vm:
        vm.vcpu.msr[0xC0000102] = 0x1234
        vm.run(timeout=5)
        assert vm.vcpu.msr[0xC0000103] & 0xFFFFFFFF == 9
        with pytest.raises(KeyError):
            vm.vcpu.msr[0x5000]


def test_memory_by_physical_and_by_virtual_address() -> None:
    with bare("hlt") as vm:
        vm.memory.write(DATA, b"hello")
        assert vm.vcpu.read(DATA, 5) == b"hello" and vm.vcpu.translate(DATA) == DATA
        vm.vcpu.write(DATA + 0xFFE, b"across")
        assert vm.memory.read(DATA + 0xFFE, 6) == b"across"
        for call in (
            lambda: vm.vcpu.read(1 << 40, 1),
            lambda: vm.vcpu.write(1 << 40, b"x"),
            lambda: vm.vcpu.translate(1 << 40),
        ):
            with pytest.raises(hv.GuestFault, match="0x10000000000 is not mapped"):
                call()


def test_translation_leaves_accessed_bits_alone() -> None:
    with bare("hlt") as vm:
        before = vm.memory.read(0x2000, 0x2000)
        vm.vcpu.translate(0x8000_0000)
        assert vm.memory.read(0x2000, 0x2000) == before


def test_written_code_is_executed() -> None:
    """The host writes into code that has been translated."""
    with bare("l: mov eax, 1; vmmcall; jmp l") as vm:

        @vm.traps.hypercall()
        def call(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            vcpu.rip += exit.length
            return hv.stop("round")

        assert vm.run(timeout=5).eax == 1
        vm.memory.write(0x10001, b"\x07")
        assert vm.run(timeout=5).eax == 7
        vm.vcpu.write(0x10001, b"\x09")
        assert vm.run(timeout=5).eax == 9


def test_symbols() -> None:
    with bare("hlt") as vm:
        vm.symbols.add({"start": 0x10000, "later": 0x10010})
        assert vm.symbols.lookup(0x10004) == ("start", 4)
        assert vm.symbols.lookup(0x10010) == ("later", 0)
        assert vm.symbols.lookup(0x10) is None


def test_disassembly_at_any_address() -> None:
    with bare("mov eax, 5; hlt") as vm:
        assert [line.text for line in disasm.at(vm.vcpu, count=2)] == ["mov eax, 5", "hlt"]
        assert disasm.at(vm.vcpu, 0x10005, 1)[0].text == "hlt"
    with bare("mov ax, 5; hlt", mode=16) as vm:
        assert disasm.at(vm.vcpu, count=1)[0].text == "mov ax, 5"


@pytest.mark.parametrize("mode", [16, 32, 64])
def test_mode_and_privilege(mode: int) -> None:
    with bare("hlt", mode=mode) as vm:
        assert vm.vcpu.mode == mode and vm.vcpu.cpl == 0
        assert vm.vcpu.linear_rip == 0x10000


def test_long_mode_without_pae_is_walked_as_long_mode() -> None:
    """No guest gets there; the host can write any registers, and must get an answer."""
    with hv.Host("16M") as host, host.create_vm(memory="1M") as vm:
        vcpu = vm.vcpu
        vcpu.cr3, vcpu.efer, vcpu.cr4, vcpu.cr0 = 0x5000, 0xD01, 0, 0x80000011
        vm.memory.write(0x5000, bytes(4096))
        with pytest.raises(hv.GuestFault):
            vcpu.translate(0x1234)
