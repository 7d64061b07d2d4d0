"""x87 instructions that load and store values (see `x87_code`)."""

from __future__ import annotations

from hypervisor.engine.floating_point.x87_parts import (
    CHECK,
    DOUBLE,
    FPSTT,
    FREE,
    FT0,
    INTEGER,
    LOAD_ST0,
    NO_C1,
    PENDING,
    PUSHED,
    RAW,
    REGS,
    SINGLE,
    ST0,
    STORE,
    STORE_ST0,
    TRIAL,
    UNUSUAL,
    ZERO,
    fast,
    slow,
)


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


def loads() -> dict[str, str]:
    """By Unicorn's names."""
    pieces = {}
    for name, load, what, special in (
        ("flds_ST0", "fld dword ptr", 0xD906, _special("dword", "jne NAME_slow")),
        ("fldl_ST0", "fld qword ptr", 0xDD06, _special("qword", "jne NAME_slow")),
        ("fildl_ST0", "fild dword ptr", 0xDB06, ""),
        ("fildll_ST0", "fild qword ptr", 0xDF2E, ""),
    ):
        pieces[name] = f"""
NAME:
    mov [rdi + {RAW}], rsi{PENDING}{FREE}{special}
    {load} [rdi + {RAW}]{STORE_ST0}{PUSHED}{NO_C1}
    ret{slow(what)}"""
    copy = f"""
    mov rax, [rdi + {RAW}]
    movzx ecx, word ptr [rdi + {RAW + 8}]
    mov [r10 + {REGS}], rax
    mov [r10 + {REGS + 8}], cx"""
    read = "\n    call x87_read"
    pieces["fldt_ST0"] = f"\nNAME:{read}{PENDING}{FREE}{copy}{PUSHED}{NO_C1}\n    ret{slow(0xDB2E)}"
    pieces["fbld_ST0"] = f"\nNAME:{read}{slow(0xDF26)}"
    for name, width, source in (("flds_FT0", "dword", SINGLE), ("fldl_FT0", "qword", DOUBLE)):
        pieces[name] = f"""
NAME:{PENDING}
    mov [rdi + {RAW}], rsi
    fld {width} ptr [rdi + {RAW}]
    fstp tbyte ptr [rdi + {FT0}]
    xor r8d, r8d{_special(width, "setne r8b")}
    or r8d, {source << 8}
    mov [rdi + {UNUSUAL}], r8w
    ret{slow(CHECK)}"""
    pieces["fildl_FT0"] = f"""
NAME:{PENDING}
    mov [rdi + {RAW}], rsi
    fild dword ptr [rdi + {RAW}]
    fstp tbyte ptr [rdi + {FT0}]
    mov word ptr [rdi + {UNUSUAL}], {INTEGER << 8}
    ret{slow(CHECK)}"""
    pieces["fldz_FT0"] = f"""
NAME:{PENDING}
    xor eax, eax
    mov [rdi + {FT0}], rax
    mov [rdi + {FT0 + 8}], ax
    mov word ptr [rdi + {UNUSUAL}], {ZERO << 8}
    ret{slow(CHECK)}"""
    return pieces


def stores() -> dict[str, str]:
    """By Unicorn's names."""
    pieces = {}
    for name, store, what, load in (
        ("fsts", "fstp dword ptr", 0xD916, "mov eax, "), ("fstl", "fstp qword ptr", 0xDD16, "mov rax, "),
        ("fist", "fistp word ptr", 0xDF16, "movsx eax, word ptr "), ("fistl", "fistp dword ptr", 0xDB16, "mov eax, "),
        ("fistll", "fistp qword ptr", 0xDF3E, "mov rax, "), ("fisttl", "fisttp dword ptr", 0xDB0E, "mov eax, "),
        ("fistt", "fisttp word ptr", 0xDF0E, "movsx eax, word ptr "),
        ("fisttll", "fisttp qword ptr", 0xDD0E, "mov rax, "),
    ):  # fmt: skip
        compute = f"{LOAD_ST0}\n    {store} [rdi + {RAW}]"
        result = f"\n    {load}[rdi + {RAW}]"
        pieces[f"{name}_ST0"] = fast(STORE | what, PENDING + ST0, compute, "", result=result)
    # an empty register is stored as the indefinite value, if at all
    pieces["fstt_ST0"] = f"""
NAME:{PENDING}{ST0}{NO_C1}
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
    mov r10d, [rdi + {FPSTT}]
    shl r10d, 4
    add r10, rdi
    mov rax, [rdi + {RAW}]
    movzx ecx, word ptr [rdi + {RAW + 8}]
    mov [r10 + {REGS}], rax
    mov [r10 + {REGS + 8}], cx
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
    mov rdx, [rdi + {RAW}]
    mov rcx, [rsp + 24]
    call [rip + slot_cpu_stq_data_ra_x86_64]
    mov rdi, [rsp + 16]
    mov rsi, [rsp + 8]
    add rsi, 8
    movzx edx, word ptr [rdi + {RAW + 8}]
    mov rcx, [rsp + 24]
    call [rip + slot_cpu_stw_data_ra_x86_64]
    add rsp, 8
    pop rsi
    pop rdi{slow(STORE | 0xDF36)}"""
    return pieces
