"""Control registers, MSRs, debug registers, SVM, x87 and SSE state: every combination, and garbage."""

from __future__ import annotations

from functools import partial

from tests.hostile.asm import asm
from tests.hostile.cases import add, case
from tests.hostile.machines import HANDLER, machine
from tests.hostile.scenes import CODE, Scene

_SKIP = b"\x83\xc4\x04\x83\x04\x24\x03\xcf"  # drop the error code, go on three bytes further
_SKIP64 = b"\x48\x83\xc4\x08\x48\x83\x04\x24\x03\x48\xcf"
_ENDS = ("crashed", "halted", "virtual-timeout", "idle")


def _storm(register: str, bits: int, mode: str) -> Scene:
    """Walk through values of a control register; a refused one is skipped."""
    wide = mode == "long"
    code = asm(
        f"mov ebx, 1; again: imul ebx, ebx, 1664525; add ebx, 1013904223; mov eax, ebx; and eax, {bits:#x}; "
        f"mov {register}, {'rax' if wide else 'eax'}; jmp again",
        mode,
    )
    return machine(mode, code, writes=((HANDLER, _SKIP64 if wide else _SKIP),))


for _mode in ("protected", "paging32", "pae", "long"):
    for _register, _bits in (
        ("cr0", 0xFFFFFFFF),
        ("cr0", 0xE005003F),
        ("cr4", 0xFFFFFFFF),
        ("cr4", 0x3FFFFF),
        ("cr3", 0xFFFFFFFF),
    ):
        add(f"{_register}_{_bits:x}_{_mode}", partial(_storm, _register, _bits, _mode), *_ENDS)
for _number in (0, 1, 2, 3, 4, 5, 6, 7):
    for _mode in ("protected", "long"):
        add(f"dr{_number}_{_mode}", partial(_storm, f"dr{_number}", 0xFFFFFFFF, _mode), *_ENDS)


def _msrs(first: int, value: int, mode: str) -> Scene:
    """Write and read every MSR from ``first`` on; what is refused is skipped."""
    two = (b"\x48\x83\xc4\x08\x48\x83\x04\x24\x02\x48\xcf") if mode == "long" else b"\x83\xc4\x04\x83\x04\x24\x02\xcf"
    code = asm(
        f"mov ecx, {first:#x}; again: mov eax, {value & 0xFFFFFFFF:#x}; mov edx, {value >> 32:#x}; wrmsr; "
        "rdmsr; inc ecx; jmp again",
        mode,
    )
    scene = machine(mode, code, writes=((HANDLER, two),))
    scene.virtual_s = 5e-5
    return scene


for _first in (
    0,
    0x170,
    0x1B,
    0x200,
    0x268,
    0x3F0,
    0x800,
    0xC0000080,
    0xC0000100,
    0xC0010000,
    0xC0010110,
    0x40000000,
    0xFFFFFF00,
):
    for _value in (0, (1 << 64) - 1, 1 << 63, 0x1D01):
        for _mode in ("protected", "long"):
            add(f"msrs_{_first:x}_{_value:x}_{_mode}", partial(_msrs, _first, _value, _mode), *_ENDS)

_SVM = {
    "vmrun": "0f01d8", "vmmcall": "0f01d9", "vmload": "0f01da", "vmsave": "0f01db", "stgi": "0f01dc", "clgi": "0f01dd",
    "skinit": "0f01de", "invlpga": "0f01df", "vmcall": "0f01c1", "monitor": "0f01c8", "mwait": "0f01c9", "rsm": "0faa",
}  # fmt: skip


def _one(code: bytes, mode: str, user: bool, **registers: int) -> Scene:
    return machine(mode, code + b"\xf4", user=user, **registers)


for _name, _code in _SVM.items():
    for _mode in ("real", "v86", "protected", "pae", "long"):
        for _user in (False, True):
            if _mode not in ("real", "v86") or not _user:
                add(
                    f"{_name}_{_mode}_{'user' if _user else 'kernel'}",
                    partial(_one, bytes.fromhex(_code), _mode, _user, rax=CODE, rcx=0), *_ENDS,
                )  # fmt: skip


@case(*_ENDS)
def svme_then_vmrun() -> Scene:
    return machine(
        "long", asm("mov ecx, 0xc0000080; rdmsr; or eax, 0x1000; wrmsr; mov eax, 0x30000; vmload; vmrun; hlt", "long")
    )


def _restore(instruction: str, image: bytes, cr4: int, offset: int = 0) -> Scene:
    """Load x87 and SSE state from garbage, then use it."""
    code = (
        f"mov eax, 7; xor edx, edx; {instruction} [{0x30000 + offset}]; fld1; faddp; fsqrt; movaps xmm0, xmm1; "
        "sqrtps xmm0, xmm0; fwait; hlt"
    )
    return machine("long", asm(code, "long"), writes=((0x30000, image),), cr4=cr4)


for _instruction in (
    "fxrstor",
    "frstor",
    "xrstor",
    "xrstor64",
    "fldenv",
    "ldmxcsr",
    "fldcw",
    "xsave",
    "fxsave",
    "fnsave",
):
    for _number, _image in enumerate((bytes(1024), b"\xff" * 1024, bytes(range(256)) * 4, b"\x80\x1f" * 512)):
        for _offset in (0, 1, 32, 64):
            add(
                f"{_instruction}_{_number}_{_offset}", partial(_restore, _instruction, _image, 0x40620, _offset), *_ENDS
            )
for _xcomp in (0, 1 << 63, (1 << 64) - 1):
    for _bv in (0, 1, 2, 3, 4, 0x18, 1 << 9, 1 << 62, 1 << 63):
        _image = bytes(512) + _bv.to_bytes(8, "little") + _xcomp.to_bytes(8, "little") + bytes(500)
        add(f"xrstor_header_{_bv:x}_{_xcomp:x}", partial(_restore, "xrstor", _image, 0x40620), *_ENDS)


@case(*_ENDS)
def xsetbv_storm() -> Scene:
    code = (
        "xor ebx, ebx; again: mov eax, ebx; xor ecx, ecx; xor edx, edx; xsetbv; xor ecx, ecx; xgetbv; inc ebx; "
        "mov eax, -1; mov edx, -1; xsave [0x30000]; xrstor [0x30000]; jmp again"
    )
    return machine("long", asm(code, "long"), writes=((HANDLER, _SKIP64),), cr4=0x40620)


@case("crashed", "halted")
def lmsw_from_nowhere() -> Scene:
    return machine("paging32", asm("lmsw [0x80000000]; hlt", "paging32"))


@case("crashed", "halted")
def leaves_long_mode_halfway() -> Scene:
    return machine("long", asm("mov rax, cr0; btr eax, 31; mov cr0, rax; hlt", "long"))


@case(*_ENDS)
def every_efer_in_every_mode() -> Scene:
    code = (
        "mov ebx, 0; again: mov ecx, 0xc0000080; mov eax, ebx; xor edx, edx; wrmsr; nop; rdmsr; nop; inc ebx; jmp again"
    )
    return machine("protected", asm(code, "protected"), writes=((HANDLER, b"\x83\xc4\x04\x83\x04\x24\x02\xcf"),))
