"""Instructions that Unicorn's translator takes for others: the right values are the manual's (AMD64 APM volume 3)."""

from __future__ import annotations

import struct

import pytest

import hypervisor as hv
from hypervisor.arch import segments
from hypervisor.arch.segments import Segment
from hypervisor.assembler import assemble
from tests.core.bare import CODE, DATA, bare

ONES, PDPT, TSS = (1 << 64) - 1, 0x3000, 0x5000
MP_EM, TS = 6, 8


def outcome(vm: hv.VM) -> str:
    """How the guest ends: its message or its exception, at the distance from CODE."""
    for vector in (6, 7, 13, 14):
        vm.traps.exception(
            vector, lambda vcpu, exit, v=vector: hv.stop(f"{v} at {vcpu.rip - CODE}"), name=f"vector {vector}"
        )
    result = vm.run(timeout=5)
    return result.message or result.reason.name


def result(code: bytes, mode: int = 64, **registers: int) -> dict[str, int]:
    """What the bytes leave in the registers, with HLT behind them."""
    with bare("", mode, **registers) as vm:
        vm.memory.write(CODE, code + b"\xf4")
        assert vm.run(timeout=5).reason.name == "HALTED"
        return {name: vm.vcpu.get(name) for name in ("rax", "rbx", "rcx", "rsp", "rflags")}


@pytest.mark.parametrize("prefix", [b"", b"\x40", b"\x41", b"\x48", b"\x4f", b"\x66\x48", b"\x48\x66", b"\xf2\x44"])
def test_sahf_and_lahf_use_ah_whatever_rex_says(prefix: bytes) -> None:
    after = result(prefix + b"\x9f", rax=0x1122, rflags=0x2 | 0x11, rsp=0x90000)
    assert (after["rax"], after["rsp"]) == (0x1322, 0x90000)
    after = result(prefix + b"\x9e", rax=0x1522, rflags=0x2 | 0x800, rsp=0x900C0)
    assert after["rflags"] & 0x8D5 == 0x815
    behind = assemble("mov spl, 0x33", origin=CODE, mode=64).code  # what comes next is read as it is
    assert result(prefix + b"\x9f" + behind, rsp=0x90000)["rsp"] == 0x90033


@pytest.mark.parametrize("rex", [b"\x44", b"\x4c", b"\x45"])
def test_mov_of_an_immediate_with_rex_r(rex: bytes) -> None:
    """ModRM.reg is a part of the opcode, so its extension means nothing."""
    with bare("", rdi=DATA, r15=DATA) as vm:
        vm.memory.write(CODE, rex + b"\xc7\x07\x11\x22\x33\x44" + rex + b"\xc6\x47\x08\x55\xf4")
        assert outcome(vm).startswith("HLT")
        assert vm.memory.read(DATA, 9) == b"\x11\x22\x33\x44\0\0\0\0\x55"


@pytest.mark.parametrize("operand", ["ebx", "dword ptr [rdi]"])
def test_pdep_of_32_bits_has_a_mask_of_32_bits(operand: str) -> None:
    mask = 0xFFFFFFFF_00F0F0F0
    with bare(f"pdep eax, ecx, {operand}; hlt", rdi=DATA, rbx=mask, rcx=0xFFFFFFFF_FFFFFFFF) as vm:
        vm.memory.write(DATA, struct.pack("<Q", mask))
        vm.run(timeout=5)
        assert vm.vcpu.rax == 0x00F0F0F0
    with bare("pdep rax, rcx, rbx; hlt", rbx=mask, rcx=0xFFFFFFFF_FFFFFFFF) as vm:
        vm.run(timeout=5)
        assert vm.vcpu.rax == mask


SIZES = [
    (16, b"", 2),
    (16, b"\x66", 4),
    (32, b"", 4),
    (32, b"\x66", 2),
    (64, b"", 4),
    (64, b"\x66", 2),
]


def _variants(mode: int, prefix: bytes, size: int) -> list[tuple[bytes, bytes, int]]:
    """Prefixes before the mandatory one and behind it, with the operand size that they make."""
    found = [(prefix, b"", size), (b"", prefix, size)]
    return [*found, (prefix, b"\x48", 8)] if mode == 64 else found


@pytest.mark.parametrize(("mode", "prefix", "size"), SIZES)
def test_operand_sizes(mode: int, prefix: bytes, size: int) -> None:
    source, before = 0xF1F2F3F4_F5F6F7F8, 0x11223344_55667788
    for first, last, wide in _variants(mode, prefix, size):
        bits, shown = 8 * wide, ONES if mode == 64 else 0xFFFFFFFF
        part = source & ((1 << bits) - 1)
        for opcode, expected in ((b"\xb8", part.bit_count()), (b"\xbd", 0), (b"\xbc", 3)):  # POPCNT, LZCNT, TZCNT
            after = result(first + b"\xf3" + last + b"\x0f" + opcode + b"\xc3", mode, rax=before, rbx=source)
            assert after["rax"] & shown == _merged(before, expected, bits) & shown, (opcode, first, last)
        with bare("", mode, rax=before, rbx=DATA & 0xFFFF | 0x500) as vm:  # MOVBE
            code = first + last + (b"\x0f\x38\xf0\x07" if mode == 16 else b"\x0f\x38\xf0\x03")
            vm.memory.write(0x500, struct.pack("<Q", source))
            vm.memory.write(CODE, code + b"\xf4")
            vm.run(timeout=5)
            expected = int.from_bytes(part.to_bytes(wide, "little"), "big")
            assert vm.vcpu.rax & shown == _merged(before, expected, bits) & shown, (first, last)


def _merged(before: int, value: int, bits: int) -> int:
    """A register that gets a value of so many bits."""
    return before >> 16 << 16 | value if bits == 16 else value


def crc32c(crc: int, data: bytes) -> int:
    """The polynomial of CRC32, bit by bit."""
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


@pytest.mark.parametrize(("mode", "prefix", "size"), SIZES)
def test_crc32_of_each_size(mode: int, prefix: bytes, size: int) -> None:
    source = 0xF1F2F3F4_F5F6F7F8
    for first, last, wide in _variants(mode, prefix, size):
        after = result(first + b"\xf2" + last + b"\x0f\x38\xf1\xc3", mode, rax=0x12345678, rbx=source)
        assert after["rax"] & 0xFFFFFFFF == crc32c(0x12345678, source.to_bytes(8, "little")[:wide]), (
            first.hex(),
            last.hex(),
        )
        after = result(first + b"\xf2" + last + b"\x0f\x38\xf0\xc3", mode, rax=0x12345678, rbx=source)
        assert after["rax"] & 0xFFFFFFFF == crc32c(0x12345678, b"\xf8")


@pytest.mark.parametrize(
    ("prefixes", "carries", "expected"),
    [("66", 1, 1), ("66", 0x800, 0), ("f3", 1, 0), ("f3", 0x800, 1), ("66f3", 1, 0), ("f366", 0x800, 1)],
)
def test_adcx_and_adox_have_a_carry_each(prefixes: str, carries: int, expected: int) -> None:
    code = bytes.fromhex(prefixes) + b"\x0f\x38\xf6\xc3"
    after = result(code, rax=0x7FFFFFFF, rbx=0x80000000, rflags=0x2 | carries)
    assert after["rax"] == 0xFFFFFFFF + expected & 0xFFFFFFFF
    own = 1 if prefixes == "66" else 0x800
    assert after["rflags"] & 0x801 == carries & ~own | (own if expected else 0)


INTEGER = [
    "crc32 eax, ebx", "movbe eax, [rdi]", "movbe [rdi], eax", "adcx eax, ebx", "adox eax, ebx", "andn eax, ebx, ecx",
    "bextr eax, ebx, ecx", "blsr eax, ebx", "blsi eax, ebx", "blsmsk eax, ebx", "bzhi eax, ebx, ecx",
    "pdep eax, ebx, ecx", "pext eax, ebx, ecx", "mulx eax, ebx, ecx", "rorx eax, ebx, 3", "shlx eax, ebx, ecx",
    "sarx eax, ebx, ecx", "shrx eax, ebx, ecx",
]  # fmt: skip


@pytest.mark.parametrize("text", INTEGER)
@pytest.mark.parametrize(("cr0", "cr4"), [(MP_EM, -1), (TS, -1), (0, ~(1 << 9)), (MP_EM | TS, ~(1 << 9))])
def test_integer_instructions_do_not_heed_the_state_of_sse(text: str, cr0: int, cr4: int) -> None:
    with bare(f"{text}; pxor xmm0, xmm1; hlt", rdi=DATA, rcx=3) as vm:
        vm.vcpu.cr0 |= cr0
        vm.vcpu.cr4 &= cr4
        at = len(assemble(text, origin=CODE, mode=64).code)
        assert outcome(vm) == f"{7 if cr0 == TS else 6} at {at}"  # and the next one does, #UD first


@pytest.mark.parametrize(
    "code",
    [
        "c5f857c0",  # VXORPS
        "c4e17857c0",
        "c5f96fc1",  # VMOVDQA
        "c4e27918c1",  # VBROADCASTSS
        "c4e279f5c3",  # no BZHI, PEXT, PDEP
        "c4e27bf2c3",  # no ANDN
        "c4e273f0c303",  # RORX with a second source
        "c4e379f0c303",
        "c4e178f2c3",
    ],
)
def test_vex(code: str) -> None:
    with bare("", rcx=3) as vm:
        vm.memory.write(CODE, bytes.fromhex(code) + b"\xf4")
        assert outcome(vm) == "6 at 0"


def test_vex_names_eight_registers_outside_64_bit_mode() -> None:
    code = assemble("shlx eax, ebx, ecx; hlt", origin=CODE, mode=32).code
    for second, third in ((0, 0), (0x20, 0), (0, 0x40), (0x20, 0x40)):
        with bare("", 32, rbx=5, rcx=3, r11=0, r9=1) as vm:
            vm.memory.write(CODE, bytes((code[0], code[1] & ~second, code[2] & ~third)) + code[3:])
            vm.run(timeout=5)
            assert vm.vcpu.eax == 40


@pytest.mark.parametrize("text", ["insb", "insw", "insd", "rep insb", "rep insd"])
@pytest.mark.parametrize("mode", [32, 64])
@pytest.mark.parametrize(("allowed", "iopl"), [(False, 0), (True, 0), (False, 2), (False, 3)])
def test_ins_asks_for_the_port_first(text: str, mode: int, allowed: bool, iopl: int) -> None:
    """Neither memory nor accessed and dirty bits change, and no page fault comes before #GP."""
    may = allowed or iopl == 3
    for target in (DATA, 0x7FFF0000):
        with bare(f"{text}; hlt", mode, rdi=target, rdx=0x300, rcx=2) as vm:
            _in_ring_3(vm, mode, iopl)
            vm.memory.write(TSS + 0x68, b"\xff" * 0x60 + (b"\x00" if allowed else b"\xff") + b"\xff" * 0x20)
            vm.memory.write(DATA, b"old data")
            vm.memory.write(PDPT + 8, bytes(8))
            before = vm.memory.read(PDPT, 8)
            message = outcome(vm)
            if not may:
                assert message == "13 at 0"
                assert vm.memory.read(DATA, 8) == b"old data"
                assert vm.memory.read(PDPT, 1)[0] & 0x40 == before[0] & 0x40
            elif mode == 64 and target != DATA:
                assert message == "14 at 0"
            else:
                assert message == f"13 at {len(assemble(text, origin=CODE, mode=mode).code)}"  # HLT


def _in_ring_3(vm: hv.VM, mode: int, iopl: int) -> None:
    registers = vm.vcpu.registers
    code = segments.CODE64 if mode == 64 else segments.CODE32
    registers.set_segment("cs", Segment(0x1B, 0, 0xFFFFFFFF, code | 0x60))
    for name in ("ss", "ds", "es"):
        registers.set_segment(name, Segment(0x23, 0, 0xFFFFFFFF, segments.DATA32 | 0x60))
    registers.set_segment("tr", Segment(0x28, TSS, 0x68 + 0x80, 0x8B))
    vm.memory.write(TSS + 0x66, struct.pack("<H", 0x68))
    vm.vcpu.rflags = 0x2 | iopl << 12


@pytest.mark.parametrize(("mode", "rcx"), [(64, 0), (32, 0), (32, 5 << 32)])
def test_ins_that_reads_nothing_needs_no_port(mode: int, rcx: int) -> None:
    with bare("rep insb; hlt", mode, rdi=DATA, rdx=0x300, rcx=rcx) as vm:
        _in_ring_3(vm, mode, 0)
        vm.memory.write(TSS + 0x68, b"\xff" * 0x80)
        assert outcome(vm) == "13 at 2"  # HLT


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("value", [0, 1, 0x80, 1 << 63, ONES])
def test_lock_neg_has_the_flags_of_neg(size: int, value: int) -> None:
    """The flags are those of the subtraction from zero (APM volume 3, NEG)."""
    name, old = {1: "byte", 2: "word", 4: "dword", 8: "qword"}[size], value & (1 << 8 * size) - 1
    flags = []
    for lock in ("", "lock "):
        with bare(f"{lock}neg {name} ptr [rbp + 8]; hlt", rbp=DATA, rflags=2) as vm:
            vm.memory.write(DATA, (1 << 128).to_bytes(24, "little"))
            vm.memory.write(DATA + 8, old.to_bytes(size, "little"))
            assert outcome(vm).startswith("HLT")
            assert vm.memory.read(DATA + 8, size) == (-old & (1 << 8 * size) - 1).to_bytes(size, "little")
            flags.append(vm.vcpu.rflags)
    assert flags[0] == flags[1] and flags[1] & 1 == (old != 0)


@pytest.mark.parametrize("prefix", [b"", b"\x66"])
@pytest.mark.parametrize("mode,level", [(32, 0), (32, 2), (16, 0), (16, 2)])
def test_enter_writes_as_much_of_bp_as_its_operand_has(mode: int, level: int, prefix: bytes) -> None:
    """Operand size 16: BP gets FrameTemp, 32: EBP (Intel SDM volume 2, ENTER)."""
    wide = (mode == 32) != bool(prefix)
    with bare("", mode, rsp=0x28000, rbp=0xABCD8000) as vm:
        vm.memory.write(CODE, prefix + bytes([0xC8, 0x10, 0, level]) + b"\xf4")
        if mode == 16:
            vm.vcpu.rsp = 0x1_8000
        top = vm.vcpu.rsp
        assert vm.run(timeout=5).reason.name == "HALTED"
        size = 4 if wide else 2
        frame = top - size
        assert vm.vcpu.rbp == (frame if wide else 0xABCD0000 | frame & 0xFFFF)
        assert vm.vcpu.rsp & 0xFFFF == frame - 0x10 - size * level & 0xFFFF
