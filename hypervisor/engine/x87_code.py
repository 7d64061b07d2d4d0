"""x87 instructions on the host's x87, in place of Unicorn's helpers: each helper of a table, as assembly text.

Unicorn's helpers know neither exceptions but division by zero, nor what the manual says about special operands. The
host's unit does. A helper goes the fast way with its operands alone on the host's stack, exceptions masked. It
goes the other way, with the guest's whole x87 state and the one instruction (`kernels.x87`), where a register is empty
or full, and where an exception shows that the guest's status word does not have yet. The host's status word is never
cleared on the fast way: what it keeps from earlier is in the guest's word already, or leads the other way once.

Between the helpers of one instruction `layout.X87_RAW` keeps the memory operand, `X87_SOURCE` where the other operand
came from and `X87_UNUSUAL` that it is one that the fast way cannot take. Registers: rdi the CPU state, rsi
the helper's argument, edx the top of the stack, r10 and r11 the addresses of ST(0) and ST(i), r8d the control word,
r9d whether the host's was changed. AMD64 APM volume 1, chapter 6, and volume 5.
"""

from __future__ import annotations

from hypervisor.engine import layout as l_

FROM_SOURCE, STORE, PUSH, MOVE, CHECK, TRIAL = (kind << 16 for kind in range(1, 7))
"""What `kernels.x87.unusual` gets beside opcode and ModRM byte: the opcode follows from `X87_SOURCE`; the instruction
stores; it pushes, and the stack is full; it copies a register, and one is empty; nothing is to be done but to look for
a pending exception; a store whose result is asked for before it is stored."""

NE = 1 << 5
"""CR0.NE: without it a pending exception asks for IRQ 13, which nobody listens to, and nothing is raised."""

SINGLE, DOUBLE, INTEGER, ZERO = 8, 9, 10, 11
"""Values of `X87_SOURCE` beside register numbers."""

ORIGINALS = tuple(
    f"helper_{name}_x86_64"
    for name in "fstt_ST0 ffree_STN fincstp fdecstp fldcw fldenv frstor fstenv fsave fxsave xsave xsaveopt emms "
    "enter_mmx".split()
)
"""Helpers of Unicorn's that the code goes on to."""

ACCESS = tuple(f"cpu_{name}_data_ra_x86_64" for name in ("ldq", "lduw", "stq", "stw"))
"""Functions of Unicorn's that it calls."""

_FPUS, _FPSTT, _TAGS, _REGS, _FT0 = l_.FPUS, l_.FPSTT, l_.FPTAGS, l_.FPREGS, l_.FT0
_RAW, _SOURCE, _UNUSUAL = l_.X87_RAW, l_.X87_SOURCE, l_.X87_UNUSUAL
_C1, _C2, _ALL = 0x200, 0x400, 0x4700

_PENDING = f"""
    mov eax, [rdi + {_FPUS}]
    mov r8d, eax
    shr r8d, 16
    mov ecx, r8d
    not ecx
    and ecx, eax
    test cl, 0x3f
    jz NAME_ready
    test dword ptr [rdi + {l_.CR}], {NE}
    jnz NAME_slow
NAME_ready:
    mov edx, [rdi + {_FPSTT}]"""
_CONTROL = f"""
    movzx r8d, word ptr [rdi + {l_.FPUC}]
    mov edx, [rdi + {_FPSTT}]"""
_ST0 = f"""
    cmp byte ptr [rdi + rdx + {_TAGS}], 0
    jne NAME_slow
    mov r10d, edx
    shl r10d, 4
    add r10, rdi"""
_OTHER = f"""
    and r11d, 7
    cmp byte ptr [rdi + r11 + {_TAGS}], 0
    jne NAME_slow
    shl r11d, 4
    add r11, rdi"""
_STI, _ST1 = f"\n    lea r11d, [rdx + rsi]{_OTHER}", f"\n    lea r11d, [rdx + 1]{_OTHER}"
_FREE = f"""
    lea r11d, [rdx - 1]
    and r11d, 7
    cmp byte ptr [rdi + r11 + {_TAGS}], 1
    jne NAME_slow
    mov r10d, r11d
    shl r10d, 4
    add r10, rdi"""
_PUSHED = f"""
    mov [rdi + {_FPSTT}], r11d
    mov byte ptr [rdi + r11 + {_TAGS}], 0"""
_USUAL = f"""
    cmp byte ptr [rdi + {_UNUSUAL}], 0
    jne NAME_slow"""
_LOAD_ST0, _LOAD_STI = f"\n    fld tbyte ptr [r10 + {_REGS}]", f"\n    fld tbyte ptr [r11 + {_REGS}]"
_LOAD_FT0 = f"\n    fld tbyte ptr [rdi + {_FT0}]"
_STORE_ST0, _STORE_STI = f"\n    fstp tbyte ptr [r10 + {_REGS}]", f"\n    fstp tbyte ptr [r11 + {_REGS}]"
_NO_C1 = f"\n    and dword ptr [rdi + {_FPUS}], {~_C1}"


def _slow(what: int) -> str:
    return f"""
NAME_slow:
    {"and esi, 7" if what & _REGISTER else "xor esi, esi"}
    or esi, {what & 0xFFFFFF}
    mov rdx, [rsp]
    jmp [rip + slot_x87_unusual]"""


_REGISTER = 1 << 30


def _fast(what: int, before: str, compute: str, after: str, conditions: int = _C1, result: str = "") -> str:
    """A computation: what to look at before, the instructions on the host's stack, and where the result goes."""
    return f"""
NAME:{before}
    xor r9d, r9d
    cmp r8d, 0x37f
    jne NAME_control
NAME_run:{compute}
    fnstsw ax
    mov ecx, [rdi + {_FPUS}]
    mov r8d, ecx
    not r8d
    and r8d, eax
    test r8b, 0x3f
    jnz NAME_new{after}
    and eax, {conditions}
    and ecx, {~conditions}
    or ecx, eax
    mov [rdi + {_FPUS}], ecx{result}
    test r9d, r9d
    jnz NAME_restore
    ret
NAME_restore:
    fldcw [rip + plain_control]
    ret
NAME_control:
    test r8b, 0x10
    jz NAME_slow
    or r8d, 0x3f
    mov [rsp - 8], r8d
    fldcw [rsp - 8]
    mov r9d, 1
    jmp NAME_run
NAME_new:
    fninit{_slow(what)}"""


def _arithmetic() -> dict[str, str]:
    pieces = {}
    # with st(1) the first and st(0) the second operand: popping forms, which leave the result
    operations = {"fadd": (0, "faddp"), "fmul": (1, "fmulp"), "fsub": (4, "de e9"), "fsubr": (5, "de e1"),
                  "fdiv": (6, "de f9"), "fdivr": (7, "de f1")}  # fmt: skip
    for name, (number, operation) in operations.items():
        if " " in operation:
            operation = ".byte " + ", ".join(f"0x{byte}" for byte in operation.split())
        pieces[f"{name}_ST0_FT0"] = _fast(
            FROM_SOURCE | number << 3, _CONTROL + _ST0 + _USUAL, f"{_LOAD_ST0}{_LOAD_FT0}\n    {operation}", _STORE_ST0
        )
        reverse = {0: 0, 1: 1, 4: 5, 5: 4, 6: 7, 7: 6}[number]  # in DC the reversed forms have each other's numbers
        pieces[f"{name}_STN_ST0"] = _fast(
            _REGISTER | 0xDCC0 | reverse << 3,
            _PENDING + _ST0 + _STI,
            f"{_LOAD_STI}{_LOAD_ST0}\n    {operation}",
            _STORE_STI,
        )
    for name, operation, what in (("fcom", "fcompp", FROM_SOURCE | 2 << 3), ("fucom", "fucompp", FROM_SOURCE | 0xDDE0)):
        before = _CONTROL + _ST0 + _USUAL
        pieces[f"{name}_ST0_FT0"] = _fast(what, before, f"{_LOAD_FT0}{_LOAD_ST0}\n    {operation}", "", _ALL)
    for name, what in (("fcomi", FROM_SOURCE | 0xDBF0), ("fucomi", FROM_SOURCE | 0xDBE8)):
        compute = f"{_LOAD_FT0}{_LOAD_ST0}\n    {name}p st, st(1)\n    lahf\n    movzx ecx, ah\n    mov r11d, ecx"
        after = f"\n    fstp st(0)\n    and r11d, 0x45\n    mov [rdi + {l_.CC_SRC}], r11"
        pieces[f"{name}_ST0_FT0"] = _fast(what, _CONTROL + _ST0 + _USUAL, compute, after)
    return pieces


def _functions() -> dict[str, str]:
    pieces = {}
    for name, code, conditions in (
        ("fsqrt", 0xFA, _C1), ("frndint", 0xFC, _C1), ("f2xm1", 0xF0, _C1), ("fsin", 0xFE, _C1 | _C2),
        ("fcos", 0xFF, _C1 | _C2),
    ):  # fmt: skip
        before = _PENDING + _ST0
        pieces[name] = _fast(0xD900 | code, before, f"{_LOAD_ST0}\n    {name}", _STORE_ST0, conditions)
    for name, code, conditions in (("fprem", 0xF8, _ALL), ("fprem1", 0xF5, _ALL), ("fscale", 0xFD, _C1)):
        compute, after = f"{_LOAD_STI}{_LOAD_ST0}\n    {name}", f"{_STORE_ST0}\n    fstp st(0)"
        pieces[name] = _fast(0xD900 | code, _PENDING + _ST0 + _ST1, compute, after, conditions)
    for name, code in (("fyl2x", 0xF1), ("fptan", 0xF2), ("fpatan", 0xF3), ("fxtract", 0xF4), ("fyl2xp1", 0xF9),
                       ("fsincos", 0xFB)):  # fmt: skip
        pieces[name] = f"\nNAME:{_slow(0xD900 | code)}"
    for name in ("fld1", "fldl2t", "fldl2e", "fldpi", "fldlg2", "fldln2", "fldz"):  # the stack has been pushed
        pieces[f"{name}_ST0"] = f"""
NAME:
    mov r10d, [rdi + {_FPSTT}]
    shl r10d, 4
    add r10, rdi
    movzx eax, word ptr [rdi + {l_.FPUC}]
    or eax, 0x3f
    mov [rsp - 8], eax
    fldcw [rsp - 8]
    {name}{_STORE_ST0}
    fldcw [rip + plain_control]
    ret"""
    compute = f"{_LOAD_ST0}\n    fxam"
    pieces["fxam_ST0"] = _fast(0xD9E5, _PENDING + _ST0, compute, "\n    fstp st(0)", _ALL)
    for name, code, operation in (("fchs", 0xE0, "xor"), ("fabs", 0xE1, "and")):
        value = 0x80 if operation == "xor" else 0x7F
        change = f"\n    {operation} byte ptr [r10 + {_REGS + 9}], {value}"
        pieces[f"{name}_ST0"] = f"\nNAME:{_PENDING}{_ST0}{change}{_NO_C1}\n    ret{_slow(0xD900 | code)}"
    return pieces


def _special(width: str, then: str) -> str:
    """Looks whether the operand in rsi is denormal or a NaN, which loading or using it tells: what is neither zero nor
    infinite nor has an exponent between.
    """
    value, a, c, shift, most = ("esi", "eax", "ecx", 23, 255) if width == "dword" else ("rsi", "rax", "rcx", 52, 2047)
    return f"""
    mov {a}, {value}
    add {a}, {a}
    jz NAME_usual
    shr {a}, 1
    mov {c}, {a}
    shr {c}, {shift}
    dec ecx
    cmp ecx, {most - 1}
    jb NAME_usual
    mov ecx, {most}
    shl {c}, {shift}
    cmp {a}, {c}
    {then}
NAME_usual:"""


def _loads() -> dict[str, str]:
    pieces = {}
    for name, load, what, special in (
        ("flds_ST0", "fld dword ptr", 0xD906, _special("dword", "jne NAME_slow")),
        ("fldl_ST0", "fld qword ptr", 0xDD06, _special("qword", "jne NAME_slow")),
        ("fildl_ST0", "fild dword ptr", 0xDB06, ""),
        ("fildll_ST0", "fild qword ptr", 0xDF2E, ""),
    ):
        pieces[name] = f"""
NAME:
    mov [rdi + {_RAW}], rsi{_PENDING}{_FREE}{special}
    {load} [rdi + {_RAW}]{_STORE_ST0}{_PUSHED}{_NO_C1}
    ret{_slow(what)}"""
    copy = f"""
    mov rax, [rdi + {_RAW}]
    movzx ecx, word ptr [rdi + {_RAW + 8}]
    mov [r10 + {_REGS}], rax
    mov [r10 + {_REGS + 8}], cx"""
    read = "\n    call x87_read"
    pieces["fldt_ST0"] = f"\nNAME:{read}{_PENDING}{_FREE}{copy}{_PUSHED}{_NO_C1}\n    ret{_slow(0xDB2E)}"
    pieces["fbld_ST0"] = f"\nNAME:{read}{_slow(0xDF26)}"
    for name, width, source in (("flds_FT0", "dword", SINGLE), ("fldl_FT0", "qword", DOUBLE)):
        pieces[name] = f"""
NAME:{_PENDING}
    mov [rdi + {_RAW}], rsi
    fld {width} ptr [rdi + {_RAW}]
    fstp tbyte ptr [rdi + {_FT0}]
    xor r8d, r8d{_special(width, "setne r8b")}
    or r8d, {source << 8}
    mov [rdi + {_UNUSUAL}], r8w
    ret{_slow(CHECK)}"""
    pieces["fildl_FT0"] = f"""
NAME:{_PENDING}
    mov [rdi + {_RAW}], rsi
    fild dword ptr [rdi + {_RAW}]
    fstp tbyte ptr [rdi + {_FT0}]
    mov word ptr [rdi + {_UNUSUAL}], {INTEGER << 8}
    ret{_slow(CHECK)}"""
    pieces["fldz_FT0"] = f"""
NAME:{_PENDING}
    xor eax, eax
    mov [rdi + {_FT0}], rax
    mov [rdi + {_FT0 + 8}], ax
    mov word ptr [rdi + {_UNUSUAL}], {ZERO << 8}
    ret{_slow(CHECK)}"""
    return pieces


def _stores() -> dict[str, str]:
    pieces = {}
    for name, store, what, load in (
        ("fsts", "fstp dword ptr", 0xD916, "mov eax, "), ("fstl", "fstp qword ptr", 0xDD16, "mov rax, "),
        ("fist", "fistp word ptr", 0xDF16, "movsx eax, word ptr "), ("fistl", "fistp dword ptr", 0xDB16, "mov eax, "),
        ("fistll", "fistp qword ptr", 0xDF3E, "mov rax, "), ("fisttl", "fisttp dword ptr", 0xDB0E, "mov eax, "),
        ("fistt", "fisttp word ptr", 0xDF0E, "movsx eax, word ptr "),
        ("fisttll", "fisttp qword ptr", 0xDD0E, "mov rax, "),
    ):  # fmt: skip
        compute = f"{_LOAD_ST0}\n    {store} [rdi + {_RAW}]"
        result = f"\n    {load}[rdi + {_RAW}]"
        pieces[f"{name}_ST0"] = _fast(STORE | what, _PENDING + _ST0, compute, "", result=result)
    # an empty register is stored as the indefinite value, if at all
    pieces["fstt_ST0"] = f"""
NAME:{_PENDING}{_ST0}{_NO_C1}
    jmp [rip + slot_helper_fstt_ST0_x86_64]
NAME_slow:
    push rdi
    push rsi
    sub rsp, 8
    mov esi, {STORE | 0xDB3E}
    mov rdx, [rsp + 24]
    call [rip + slot_x87_unusual]
    add rsp, 8
    pop rsi
    pop rdi
    mov r10d, [rdi + {_FPSTT}]
    shl r10d, 4
    add r10, rdi
    mov rax, [rdi + {_RAW}]
    movzx ecx, word ptr [rdi + {_RAW + 8}]
    mov [r10 + {_REGS}], rax
    mov [r10 + {_REGS + 8}], cx
    jmp [rip + slot_helper_fstt_ST0_x86_64]"""
    pieces["fbst_ST0"] = f"""
NAME:
    push rdi
    push rsi
    sub rsp, 8
    mov esi, {TRIAL | 0xDF36}
    mov rdx, [rsp + 24]
    call [rip + slot_x87_unusual]
    mov rdi, [rsp + 16]
    mov rsi, [rsp + 8]
    mov rdx, [rdi + {_RAW}]
    mov rcx, [rsp + 24]
    call [rip + slot_cpu_stq_data_ra_x86_64]
    mov rdi, [rsp + 16]
    mov rsi, [rsp + 8]
    add rsi, 8
    movzx edx, word ptr [rdi + {_RAW + 8}]
    mov rcx, [rsp + 24]
    call [rip + slot_cpu_stw_data_ra_x86_64]
    add rsp, 8
    pop rsi
    pop rdi{_slow(STORE | 0xDF36)}"""
    return pieces


def _stack() -> dict[str, str]:
    load = f"\n    mov rax, [r11 + {_REGS}]\n    movzx ecx, word ptr [r11 + {_REGS + 8}]"
    copy = f"{load}\n    mov [r10 + {_REGS}], rax\n    mov [r10 + {_REGS + 8}], cx"
    pieces = {
        "fpush": f"\nNAME:{_PENDING}{_FREE}{_PUSHED}{_NO_C1}\n    ret{_slow(PUSH | 0xD9E8)}",
        "fmov_ST0_STN": f"\nNAME:{_PENDING}{_ST0}{_STI}{copy}{_NO_C1}\n    ret{_slow(MOVE | _REGISTER | 0xD8C0)}",
    }
    pieces["fmov_FT0_STN"] = f"""
NAME:{_PENDING}
    lea r11d, [rdx + rsi]
    and r11d, 7
    movzx r9d, byte ptr [rdi + r11 + {_TAGS}]
    shl r11d, 4
    add r11, rdi{load}
    mov [rdi + {_FT0}], rax
    mov [rdi + {_FT0 + 8}], cx
    and esi, 7
    shl esi, 8
    or esi, r9d
    mov [rdi + {_UNUSUAL}], si
    ret{_slow(CHECK)}"""
    pieces["fmov_STN_ST0"] = f"""
NAME:{_PENDING}{_ST0}
    mov rax, [r10 + {_REGS}]
    movzx ecx, word ptr [r10 + {_REGS + 8}]
    lea r11d, [rdx + rsi]
    and r11d, 7
    mov byte ptr [rdi + r11 + {_TAGS}], 0
    shl r11d, 4
    add r11, rdi
    mov [r11 + {_REGS}], rax
    mov [r11 + {_REGS + 8}], cx{_NO_C1}
    ret{_slow(_REGISTER | 0xDDD0)}"""
    pieces["fxchg_ST0_STN"] = f"""
NAME:{_PENDING}{_ST0}{_STI}{load}
    mov r8, [r10 + {_REGS}]
    movzx r9d, word ptr [r10 + {_REGS + 8}]
    mov [r10 + {_REGS}], rax
    mov [r10 + {_REGS + 8}], cx
    mov [r11 + {_REGS}], r8
    mov [r11 + {_REGS + 8}], r9w{_NO_C1}
    ret{_slow(_REGISTER | 0xD9C8)}"""
    pieces["fwait"] = f"\nNAME:{_PENDING}\n    ret{_slow(CHECK)}"
    for name in ("ffree_STN", "fincstp", "fdecstp", "fldcw", "fldenv", "frstor", "emms", "enter_mmx"):
        look = _PENDING.replace("edx", "r9d")  # edx may be an argument
        pieces[name] = f"\nNAME:{look}\n    jmp [rip + slot_helper_{name}_x86_64]{_slow(CHECK)}"
    for name in ("fstenv", "fsave", "fxsave", "xsave", "xsaveopt"):
        pieces[name] = f"\nNAME:\n    call x87_status\n    jmp [rip + slot_helper_{name}_x86_64]"
    pieces["fnstsw"] = f"""
NAME:
    call x87_status
    mov ecx, [rdi + {_FPSTT}]
    and ecx, 7
    shl ecx, 11
    and eax, 0xc7ff
    or eax, ecx
    ret"""
    return pieces


_SHARED = f"""
x87_status:
    mov eax, [rdi + {_FPUS}]
    mov ecx, eax
    shr ecx, 16
    not ecx
    and ecx, eax
    and eax, 0xffff7f7f
    test cl, 0x3f
    jz x87_quiet
    or eax, 0x8080
x87_quiet:
    mov [rdi + {_FPUS}], eax
    ret
x87_read:
    push rdi
    push rsi
    mov rdx, [rsp + 24]
    mov esi, {CHECK}
    call [rip + slot_x87_unusual]
    mov rdi, [rsp + 8]
    mov rsi, [rsp]
    mov rdx, [rsp + 24]
    call [rip + slot_cpu_ldq_data_ra_x86_64]
    mov rdi, [rsp + 8]
    mov rsi, [rsp]
    mov [rdi + {_RAW}], rax
    add rsi, 8
    mov rdx, [rsp + 24]
    call [rip + slot_cpu_lduw_data_ra_x86_64]
    pop rsi
    pop rdi
    mov [rdi + {_RAW + 8}], ax
    ret
x87_execute:
    frstor [rdi]
    lea r11, [rip + x87_instructions]
    lea r11, [r11 + rdx * 4]
    call r11
    lahf
    fnsave [rdi]
    movzx eax, ah
    ret
plain_control:
    .long 0x37f
"""


def instruction(opcode: int, modrm: int) -> int:
    """The number of an instruction in the table of those that `x87_execute` knows."""
    return (opcode & 7) * 72 + (8 + (modrm & 63) if modrm >= 0xC0 else modrm >> 3 & 7)


def _instructions() -> str:
    rows = ["x87_instructions:"]
    for opcode in range(0xD8, 0xE0):
        modrms = [number << 3 | 6 for number in range(8)] + list(range(0xC0, 0x100))
        rows += [f"    .byte {opcode}, {modrm}, 0xc3, 0x90" for modrm in modrms]
    return "\n".join(rows)


PIECES = _arithmetic() | _functions() | _loads() | _stores() | _stack()
"""Helpers by Unicorn's name, without ``helper_`` before it, and what is called instead."""


def source() -> str:
    """All of it, but for the slots."""
    pieces = [piece.replace("NAME", f"x87_{name}") for name, piece in PIECES.items()]
    return "\n".join((*pieces, _SHARED, _instructions()))
