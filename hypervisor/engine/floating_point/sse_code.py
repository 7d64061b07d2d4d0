"""SSE floating-point instructions on the host's unit, in place of Unicorn's helpers, which never tell an exception.

A helper goes the fast way while the guest's MXCSR differs from the host's in exception flags alone: what the host's
shows behind the instruction, the guest's has already. Otherwise it computes again under the guest's MXCSR, exceptions
masked and flags clear, and raises what the guest has not masked before the destination is written. Registers: rdi the
CPU state, rsi the destination, rdx the source, xmm0 the result, r8 a result that is no XMM register, r10 an
immediate. AMD64 APM volume 1, 4.8 and 4.10, and volume 4.
"""

from __future__ import annotations

from hypervisor.engine import layout as l_
from hypervisor.engine.floating_point.sse_parts import DEFAULT, FORMS, load_of, piece, store_of, tiny_of
from hypervisor.engine.floating_point.sse_refusals import refusals

_CC_SRC = l_.CC_SRC


def _arithmetic() -> dict[str, str]:
    pieces = {}
    for form in FORMS:
        both = load_of(form, 0, "rsi") + load_of(form, 1, "rdx")
        for name in ("add", "sub", "mul", "div"):
            pieces[name + form] = piece(f"{both}\n    {name}{form} xmm0, xmm1", store_of(form), tiny_of(form))
        for name in ("min", "max"):
            pieces[name + form] = piece(f"{both}\n    {name}{form} xmm0, xmm1", store_of(form))
        compute = f"{load_of(form, 1, 'rdx')}\n    sqrt{form} xmm0, xmm1"
        pieces["sqrt" + form] = piece(compute, store_of(form))
        for number, name in enumerate("eq lt le unord neq nlt nle ord".split()):
            compute = f"{both}\n    cmp{form} xmm0, xmm1, {number}"
            pieces[f"cmp{name}{form}"] = piece(compute, store_of(form))
        if form in ("ps", "pd"):
            for name in ("hadd", "hsub", "addsub"):
                pieces[name + form] = piece(f"{both}\n    {name}{form} xmm0, xmm1", store_of(form), tiny_of(form))
        else:
            for name in ("comi", "ucomi"):
                compute = f"{both}\n    {name}{form} xmm0, xmm1\n    lahf\n    movzx ecx, ah\n    mov r8d, ecx"
                store = f"\n    and r8d, 0x45\n    mov [rdi + {_CC_SRC}], r8"
                pieces[name + form] = piece(compute, store)
        # the immediate chooses one of sixteen instructions; its bit 3 keeps inexact results quiet
        chosen = "\n    lea rax, [rip + NAME_kinds]\n    lea rax, [rax + r10 * 8]\n    call rax"
        compute = load_of(form, 1, "rdx") + chosen
        kinds = "\n".join(f"    round{form} xmm0, xmm1, {n}\n    ret\n    nop" for n in range(16))
        before = "\n    mov r10d, ecx\n    and r10d, 15"
        pieces[f"round{form}_xmm"] = piece(compute, store_of(form), before=before) + f"\nNAME_kinds:\n{kinds}"
    return pieces


def _conversions() -> dict[str, str]:
    pieces = {}
    half, whole = "\n    movlps [rsi], xmm0", "\n    movups [rsi], xmm0"
    for name, load, store, tiny in (
        ("cvtps2pd", "movsd", whole, ""), ("cvtpd2ps", "movups", whole, tiny_of("ps")),
        ("cvtss2sd", "movss", half, ""), ("cvtsd2ss", "movsd", store_of("ss"), tiny_of("ss")),
        ("cvtdq2ps", "movups", whole, ""), ("cvtps2dq", "movups", whole, ""), ("cvttps2dq", "movups", whole, ""),
        ("cvtpd2dq", "movups", whole, ""), ("cvttpd2dq", "movups", whole, ""),
    ):  # fmt: skip
        pieces[name] = piece(f"\n    {load} xmm1, [rdx]\n    {name} xmm0, xmm1", store, tiny)
    for name, load, instruction in (
        ("cvtpi2ps", "movq", "cvtdq2ps"), ("cvtps2pi", "movq", "cvtps2dq"), ("cvttps2pi", "movq", "cvttps2dq"),
        ("cvtpd2pi", "movups", "cvtpd2dq"), ("cvttpd2pi", "movups", "cvttpd2dq"),
    ):  # fmt: skip
        pieces[name] = piece(f"\n    {load} xmm1, [rdx]\n    {instruction} xmm0, xmm1", half)
    for name, source, store in (("si2ss", "edx", "ss"), ("sq2ss", "rdx", "ss"), ("sq2sd", "rdx", "sd")):
        pieces[f"cvt{name}"] = piece(f"\n    cvtsi2{store} xmm0, {source}", store_of(store))
    for form in ("ss", "sd"):
        for way in ("cvt", "cvtt"):
            for size, register in (("si", "r8d"), ("sq", "r8")):
                compute = f"{load_of(form, 1, 'rsi')}\n    {way}{form}2si {register}, xmm1"
                pieces[f"{way}{form}2{size}"] = piece(compute, "\n    mov rax, r8")
    return pieces


def _products() -> dict[str, str]:
    """DPPS, DPPD: what the immediate leaves out is neither multiplied nor looked at."""
    pieces = {}
    for form in ("ps", "pd"):
        lanes = 15 if form == "ps" else 3
        before = f"""
    mov r10d, ecx
    and r10d, {lanes}
    shr ecx, 4
    and ecx, {lanes}
    shl ecx, 4
    shl r10d, 4
    lea rax, [rip + lanes_{form}]
    movups xmm2, [rax + rcx]
    movups xmm3, [rax + r10]"""
        both = f"{load_of(form, 0, 'rsi')}{load_of(form, 1, 'rdx')}\n    andps xmm0, xmm2\n    andps xmm1, xmm2"
        compute = f"{both}\n    dp{form} xmm0, xmm1, 255\n    andps xmm0, xmm3"
        pieces[f"dp{form}_xmm"] = piece(compute, store_of(form), tiny_of(form), before)
    return pieces


def _estimates() -> dict[str, str]:
    """RCPPS, RSQRTPS: no exceptions, denormals are zeros; the same on every host, exact as far as a single is."""
    pieces = {}
    for form in ("ps", "ss"):
        for name, root in (("rcp", ""), ("rsqrt", f"\n    sqrt{form} xmm1, xmm1")):
            pieces[name + form] = f"""
NAME:
    ldmxcsr [rip + zeros_mxcsr]{load_of(form, 1, "rdx")}{root}
    movups xmm0, [rip + ones]
    div{form} xmm0, xmm1{store_of(form)}
    ldmxcsr [rip + plain_mxcsr]
    ret"""
    return pieces


PIECES = _arithmetic() | _conversions() | _products() | _estimates() | refusals()
"""Helpers by Unicorn's name, without ``helper_`` before it, and what is called instead."""


def source() -> str:
    """All of it, but for the slots."""
    pieces = [piece.replace("NAME", f"sse_{name}") for name, piece in PIECES.items()]
    ones = ", ".join(["0x3f800000"] * 4)
    data = [f"plain_mxcsr:\n    .long {DEFAULT}\nzeros_mxcsr:\n    .long 0x9fc0\nones:\n    .long {ones}"]
    for form, lanes in (("ps", 4), ("pd", 2)):
        data.append(f"lanes_{form}:")
        for chosen in range(1 << lanes):
            words = [-(chosen >> lane & 1) for lane in range(lanes) for _ in range(4 // lanes)]
            data.append("    .long " + ", ".join(map(str, words)))
    return "\n".join((*pieces, *data))
