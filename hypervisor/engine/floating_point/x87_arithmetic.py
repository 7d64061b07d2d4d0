"""x87 instructions that compute: arithmetic, comparisons, functions and constants (see `x87_code`)."""

from __future__ import annotations

from hypervisor.engine import layout as l_
from hypervisor.engine.floating_point.x87_parts import (
    ALL,
    C1,
    C2,
    CONTROL,
    FPSTT,
    FROM_SOURCE,
    LOAD_FT0,
    LOAD_ST0,
    LOAD_STI,
    NO_C1,
    PENDING,
    REGISTER,
    REGS,
    ST0,
    ST1,
    STI,
    STORE_ST0,
    STORE_STI,
    USUAL,
    fast,
    slow,
)


def arithmetic() -> dict[str, str]:
    """With two operands, by Unicorn's names."""
    pieces = {}
    # with st(1) the first and st(0) the second operand: popping forms, which leave the result
    operations = {"fadd": (0, "faddp"), "fmul": (1, "fmulp"), "fsub": (4, "de e9"), "fsubr": (5, "de e1"),
                  "fdiv": (6, "de f9"), "fdivr": (7, "de f1")}  # fmt: skip
    for name, (number, operation) in operations.items():
        if " " in operation:
            operation = ".byte " + ", ".join(f"0x{byte}" for byte in operation.split())
        pieces[f"{name}_ST0_FT0"] = fast(
            FROM_SOURCE | number << 3, CONTROL + ST0 + USUAL, f"{LOAD_ST0}{LOAD_FT0}\n    {operation}", STORE_ST0
        )
        reverse = {0: 0, 1: 1, 4: 5, 5: 4, 6: 7, 7: 6}[number]  # in DC the reversed forms have each other's numbers
        pieces[f"{name}_STN_ST0"] = fast(
            REGISTER | 0xDCC0 | reverse << 3,
            PENDING + ST0 + STI,
            f"{LOAD_STI}{LOAD_ST0}\n    {operation}",
            STORE_STI,
        )
    for name, operation, what in (("fcom", "fcompp", FROM_SOURCE | 2 << 3), ("fucom", "fucompp", FROM_SOURCE | 0xDDE0)):
        before = CONTROL + ST0 + USUAL
        pieces[f"{name}_ST0_FT0"] = fast(what, before, f"{LOAD_FT0}{LOAD_ST0}\n    {operation}", "", ALL)
    for name, what in (("fcomi", FROM_SOURCE | 0xDBF0), ("fucomi", FROM_SOURCE | 0xDBE8)):
        compute = f"{LOAD_FT0}{LOAD_ST0}\n    {name}p st, st(1)\n    lahf\n    movzx ecx, ah\n    mov r11d, ecx"
        after = f"\n    fstp st(0)\n    and r11d, 0x45\n    mov [rdi + {l_.CC_SRC}], r11"
        pieces[f"{name}_ST0_FT0"] = fast(what, CONTROL + ST0 + USUAL, compute, after)
    return pieces


def functions() -> dict[str, str]:
    """Of one operand, and constants, by Unicorn's names."""
    pieces = {}
    for name, code, conditions in (
        ("fsqrt", 0xFA, C1), ("frndint", 0xFC, C1), ("f2xm1", 0xF0, C1), ("fsin", 0xFE, C1 | C2),
        ("fcos", 0xFF, C1 | C2),
    ):  # fmt: skip
        before = PENDING + ST0
        pieces[name] = fast(0xD900 | code, before, f"{LOAD_ST0}\n    {name}", STORE_ST0, conditions)
    for name, code, conditions in (("fprem", 0xF8, ALL), ("fprem1", 0xF5, ALL), ("fscale", 0xFD, C1)):
        compute, after = f"{LOAD_STI}{LOAD_ST0}\n    {name}", f"{STORE_ST0}\n    fstp st(0)"
        pieces[name] = fast(0xD900 | code, PENDING + ST0 + ST1, compute, after, conditions)
    for name, code in (("fyl2x", 0xF1), ("fptan", 0xF2), ("fpatan", 0xF3), ("fxtract", 0xF4), ("fyl2xp1", 0xF9),
                       ("fsincos", 0xFB)):  # fmt: skip
        pieces[name] = f"\nNAME:{slow(0xD900 | code)}"
    for name in ("fld1", "fldl2t", "fldl2e", "fldpi", "fldlg2", "fldln2", "fldz"):  # the stack has been pushed
        pieces[f"{name}_ST0"] = f"""
NAME:
    mov r10d, [rdi + {FPSTT}]
    shl r10d, 4
    add r10, rdi
    movzx eax, word ptr [rdi + {l_.FPUC}]
    or eax, 0x3f
    mov [rsp - 8], eax
    fldcw [rsp - 8]
    {name}{STORE_ST0}
    fldcw [rip + plain_control]
    ret"""
    compute = f"{LOAD_ST0}\n    fxam"
    pieces["fxam_ST0"] = fast(0xD9E5, PENDING + ST0, compute, "\n    fstp st(0)", ALL)
    for name, code, operation in (("fchs", 0xE0, "xor"), ("fabs", 0xE1, "and")):
        value = 0x80 if operation == "xor" else 0x7F
        change = f"\n    {operation} byte ptr [r10 + {REGS + 9}], {value}"
        pieces[f"{name}_ST0"] = f"\nNAME:{PENDING}{ST0}{change}{NO_C1}\n    ret{slow(0xD900 | code)}"
    return pieces
