"""Code that changes itself, lies across pages, never ends, or is no code."""

from __future__ import annotations

from functools import partial

from tests.hostile.asm import asm
from tests.hostile.cases import add, case
from tests.hostile.machines import HANDLER, entries, machine
from tests.hostile.scenes import CODE, PAGES, Scene

_ENDS = ("crashed", "halted", "virtual-timeout", "idle")
_MODES = ("real", "v86", "protected", "pae", "long")


def _bytes(code: bytes, mode: str, at: int = CODE, user: bool = False) -> Scene:
    return machine(mode, code, at=at, user=user)


for _mode in _MODES:
    for _prefix in (0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x2E, 0x65, 0x48):
        for _count in (13, 14, 15, 16, 200):
            add(
                f"prefixes_{_prefix:x}_{_count}_{_mode}",
                partial(_bytes, bytes([_prefix]) * _count + b"\x90\xf4", _mode),
                *_ENDS,
            )
    add(
        f"jump_to_itself_{_mode}",
        partial(_bytes, b"\xfa\xeb\xfe" if _mode != "v86" else b"\xeb\xfe", _mode),
        "halted",
        "virtual-timeout",
    )
    add(f"halt_{_mode}", partial(_bytes, b"\xf4", _mode), "halted", "crashed", "idle")
    add(f"loop_with_interrupts_off_{_mode}", partial(_bytes, b"\x90\x40\x90\xeb\xfb", _mode), "virtual-timeout")
    for _opcode in ("0fa3", "0fab", "0fb3", "0fbb"):
        add(
            f"lock_{_opcode}_{_mode}",
            partial(_bytes, b"\xf0" + bytes.fromhex(_opcode) + b"\xc1\xf4", _mode, user=_mode == "long"),
            *_ENDS,
        )
    for _reg in range(8):
        add(
            f"lock_0fba_{_reg}_{_mode}",
            partial(_bytes, bytes((0xF0, 0x0F, 0xBA, 0xC0 | _reg << 3, 5, 0xF4)), _mode),
            *_ENDS,
        )


def _leak(instruction: str) -> Scene:
    """A block of instructions that each leak temporaries of the translator."""
    return machine("protected", bytes.fromhex(instruction) * 1024 + b"\xf4", rsp=0x80000, rsi=0x30000, rdi=0x30000)


for _instruction in (
    "d40a", "d50a", "27", "9f", "9e", "d9c0", "d9c9", "dac0", "dbc0", "9bdbe3", "0fc8", "0fa2", "d9fe", "9c", "9d",
    "f0830001", "0fb101",
    "f00fb107", "f00fc107", "f00fc70f", "ac", "a4", "62042500000300", "c8000000", "c9", "8ed8", "8cd8", "0f01e0",
    "0fae18", "660f3a0fc108",
    "660f38f0c1", "f20f38f1c1", "0fc2c107", "660f3a60c100", "660f3a63c100", "660f3adfc100", "0f0fc19e", "d9f3",
    "0f7ec1", "c4e279f7c1",
):  # fmt: skip
    add(f"leak_{_instruction}", partial(_leak, _instruction), *_ENDS)


@case(*_ENDS)
def every_opcode_locked() -> Scene:
    """LOCK before every one- and two-byte opcode with a register operand; a handler steps over what is refused."""
    code = b"".join(b"\xf0" + bytes([n]) + b"\xc1\x90\x90\x90" for n in range(256)) + b"".join(
        b"\xf0\x0f" + bytes([n]) + b"\xc1\x90\x90\x90" for n in range(256)
    )
    return machine("protected", code, writes=((HANDLER, b"\xff\x04\x24\xcf"),))


def _at_the_end(code: bytes, mode: str, page: int) -> Scene:
    """An instruction that begins at a page's end; what follows is not there."""
    at = CODE + 0x1000 - 1
    scene = machine(mode, code[:1], at=at)
    if mode in ("pae", "long"):
        scene.writes.append((PAGES + 0x3000 + 8 * (at + 1 >> 12), entries(page)))
    else:
        scene.writes.append((at + 1, code[1:]))
    return scene


for _code in ("b8", "0f", "66", "f0", "e8", "ff", "48", "cd", "e4", "e6", "9a"):
    for _page in (0, 0x200007, 0xFEE00007, 0xB8007, PAGES | 7, CODE | 7, 0x8000000000000000 | CODE | 7):
        for _mode in ("pae", "long"):
            add(f"across_{_code}_{_page:x}_{_mode}", partial(_at_the_end, bytes.fromhex(_code), _mode, _page), *_ENDS)


def _jump(where: int, mode: str) -> Scene:
    return machine(
        mode,
        b"\xff\xe0" if mode != "real" else b"\xea\x00\x00" + (where >> 4 & 0xFFFF).to_bytes(2, "little"),
        rax=where,
    )


for _where in (
    0xA0000,
    0xB8000,
    0xC0000,
    0xF0000,
    0xFFFF0,
    0xFFFFF,
    0x100000,
    0x1FFFFF,
    0x200000,
    0xFEE00000,
    0xFFFFFFFF,
    1 << 47,
    1 << 63,
):
    for _mode in ("real", "protected", "pae", "long"):
        add(f"jump_{_where:x}_{_mode}", partial(_jump, _where, _mode), *_ENDS)


@case("virtual-timeout", "halted")
def rewrites_the_next_instruction() -> Scene:
    return machine("protected", asm("again: inc byte ptr [target + 1]; target: mov al, 0; jmp again", "protected"))


@case(*_ENDS)
def runs_over_its_own_code() -> Scene:
    return machine(
        "protected", asm(f"mov edi, {CODE - 16}; mov ecx, 0x1000; mov al, 0x90; rep stosb; hlt", "protected")
    )


@case("virtual-timeout", "crashed", "halted")
def copies_itself_ahead() -> Scene:
    code = asm(
        "start: mov esi, start; call here; here: pop edi; lea esi, [edi - 10]; lea edi, [esi + 0x40]; "
        "mov ecx, 0x40; push edi; rep movsb; ret",
        "protected",
    )
    return machine("protected", code)


@case("virtual-timeout")
def changes_code_through_an_alias() -> Scene:
    code = asm("again: inc byte ptr [0x30000 + target + 1 - 0x10000]; target: mov al, 0; jmp again", "long")
    return machine("long", code, writes=((PAGES + 0x3000 + 8 * 0x30, entries(CODE | 7)),))


@case(*_ENDS)
def v86_with_garbage() -> Scene:
    return machine("v86", bytes((n * 37 + 11) & 0xFF for n in range(4096)))


def _smallest_integers(mode: str) -> Scene:
    """String compares of the smallest lengths and IDIVs of the smallest dividend by -1; a handler steps over #DE."""
    loads = b"\xb8\0\0\0\x80\xba\0\0\0\x80"  # mov eax, 80000000h; mov edx, 80000000h
    rex = (b"", b"\x48") if mode == "long" else (b"",)
    compares = b"".join(
        loads + b"\x66" + wide + bytes((0x0F, 0x3A, opcode, 0xC1, immediate))
        for wide in rex
        for opcode in (0x60, 0x61)
        for immediate in range(256)
    )
    divisions = b"".join(
        b"\xb9\xff\xff\xff\xff" + loads + b"\x31\xc0" * zero + form + bytes((0xF8 | divisor,)) + b"\x90\x90"
        for form in (b"\xf6", b"\x66\xf7", b"\xf7", *(wide + b"\xf7" for wide in rex))
        for divisor in range(3)
        for zero in (False, True)
    )
    step = b"\x48\xff\x04\x24\x48\xcf" if mode == "long" else b"\xff\x04\x24\xcf"
    return machine(
        mode,
        compares + divisions + b"\xf4",
        user=mode != "long",
        writes=((HANDLER, step),),
        cr4=0x620 if mode == "long" else 0x600,
    )


for _mode in ("protected", "long"):
    add(f"smallest_integers_{_mode}", partial(_smallest_integers, _mode), *_ENDS)
