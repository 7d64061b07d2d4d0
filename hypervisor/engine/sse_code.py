"""SSE floating-point instructions on the host's unit, in place of Unicorn's helpers, which never tell an exception.

A helper goes the fast way while the guest's MXCSR differs from the host's in exception flags alone: what the host's
shows behind the instruction, the guest's has already. Otherwise it computes again under the guest's MXCSR, exceptions
masked and flags clear, and raises what the guest has not masked before the destination is written. Registers: rdi the
CPU state, rsi the destination, rdx the source, xmm0 the result, r8 a result that is no XMM register, r10 an
immediate. AMD64 APM volume 1, 4.8 and 4.10, and volume 4.
"""

from __future__ import annotations

from hypervisor.engine import layout as l_

_CONTROL, _DEFAULT = 0xFFC0, 0x1F80
_UNDERFLOW_MASK, _FLUSH = 0x800, 0x8000

_MXCSR, _CC_SRC = l_.MXCSR, l_.CC_SRC


def _piece(compute: str, store: str, tiny: str = "", before: str = "") -> str:
    """One helper. ``tiny``: an instruction that meets a denormal in the result, which is underflow if not masked."""
    underflow = f"""
    test r9d, {_UNDERFLOW_MASK}
    jnz NAME_told
    mov dword ptr [rsp - 8], {_DEFAULT}
    ldmxcsr [rsp - 8]
    xorps xmm1, xmm1
    {tiny}
    stmxcsr [rsp - 8]
    mov eax, [rsp - 8]
    and eax, 2
    shl eax, 3
    or ecx, eax"""
    return f"""
NAME:{before}
    mov r9d, [rdi + {_MXCSR}]
    mov eax, r9d
    and eax, {_CONTROL}
    cmp eax, {_DEFAULT}
    jne NAME_control{compute}
    stmxcsr [rsp - 8]
    mov eax, [rsp - 8]
    xor eax, {_DEFAULT}
    not r9d
    test eax, r9d
    jnz NAME_flags
NAME_store:{store}
    ret
NAME_flags:
    not r9d
    mov eax, {_DEFAULT}
NAME_control:
    or eax, {_DEFAULT}
    test r9d, {_UNDERFLOW_MASK}
    jnz NAME_masked
    and eax, {~_FLUSH}
NAME_masked:
    mov [rsp - 8], eax
    ldmxcsr [rsp - 8]{compute}
    stmxcsr [rsp - 8]
    mov ecx, [rsp - 8]
    and ecx, 0x3f{underflow if tiny else ""}
NAME_told:
    ldmxcsr [rip + plain_mxcsr]
    mov eax, r9d
    shr eax, 7
    not eax
    test eax, ecx
    jnz NAME_raise
    or r9d, ecx
    mov [rdi + {_MXCSR}], r9d
    jmp NAME_store
NAME_raise:
    mov esi, ecx
    mov rdx, [rsp]
    jmp [rip + slot_sse_exception]"""


_LOAD = {"ps": "movups", "pd": "movups", "ss": "movss", "sd": "movsd"}
_FORMS = ("ps", "pd", "ss", "sd")


def _load(form: str, register: int, pointer: str) -> str:
    return f"\n    {_LOAD[form]} xmm{register}, [{pointer}]"


def _store(form: str) -> str:
    return f"\n    {_LOAD[form]} [rsi], xmm0"


def _tiny(form: str) -> str:
    return f"cmpeq{form} xmm1, xmm0"


def _arithmetic() -> dict[str, str]:
    pieces = {}
    for form in _FORMS:
        both = _load(form, 0, "rsi") + _load(form, 1, "rdx")
        for name in ("add", "sub", "mul", "div"):
            pieces[name + form] = _piece(f"{both}\n    {name}{form} xmm0, xmm1", _store(form), _tiny(form))
        for name in ("min", "max"):
            pieces[name + form] = _piece(f"{both}\n    {name}{form} xmm0, xmm1", _store(form))
        compute = f"{_load(form, 1, 'rdx')}\n    sqrt{form} xmm0, xmm1"
        pieces["sqrt" + form] = _piece(compute, _store(form))
        for number, name in enumerate("eq lt le unord neq nlt nle ord".split()):
            compute = f"{both}\n    cmp{form} xmm0, xmm1, {number}"
            pieces[f"cmp{name}{form}"] = _piece(compute, _store(form))
        if form in ("ps", "pd"):
            for name in ("hadd", "hsub", "addsub"):
                pieces[name + form] = _piece(f"{both}\n    {name}{form} xmm0, xmm1", _store(form), _tiny(form))
        else:
            for name in ("comi", "ucomi"):
                compute = f"{both}\n    {name}{form} xmm0, xmm1\n    lahf\n    movzx ecx, ah\n    mov r8d, ecx"
                store = f"\n    and r8d, 0x45\n    mov [rdi + {_CC_SRC}], r8"
                pieces[name + form] = _piece(compute, store)
        # the immediate chooses one of sixteen instructions; its bit 3 keeps inexact results quiet
        chosen = "\n    lea rax, [rip + NAME_kinds]\n    lea rax, [rax + r10 * 8]\n    call rax"
        compute = _load(form, 1, "rdx") + chosen
        kinds = "\n".join(f"    round{form} xmm0, xmm1, {n}\n    ret\n    nop" for n in range(16))
        before = "\n    mov r10d, ecx\n    and r10d, 15"
        pieces[f"round{form}_xmm"] = _piece(compute, _store(form), before=before) + f"\nNAME_kinds:\n{kinds}"
    return pieces


def _conversions() -> dict[str, str]:
    pieces = {}
    half, whole = "\n    movlps [rsi], xmm0", "\n    movups [rsi], xmm0"
    for name, load, store, tiny in (
        ("cvtps2pd", "movsd", whole, ""), ("cvtpd2ps", "movups", whole, _tiny("ps")),
        ("cvtss2sd", "movss", half, ""), ("cvtsd2ss", "movsd", _store("ss"), _tiny("ss")),
        ("cvtdq2ps", "movups", whole, ""), ("cvtps2dq", "movups", whole, ""), ("cvttps2dq", "movups", whole, ""),
        ("cvtpd2dq", "movups", whole, ""), ("cvttpd2dq", "movups", whole, ""),
    ):  # fmt: skip
        pieces[name] = _piece(f"\n    {load} xmm1, [rdx]\n    {name} xmm0, xmm1", store, tiny)
    for name, load, instruction in (
        ("cvtpi2ps", "movq", "cvtdq2ps"), ("cvtps2pi", "movq", "cvtps2dq"), ("cvttps2pi", "movq", "cvttps2dq"),
        ("cvtpd2pi", "movups", "cvtpd2dq"), ("cvttpd2pi", "movups", "cvttpd2dq"),
    ):  # fmt: skip
        pieces[name] = _piece(f"\n    {load} xmm1, [rdx]\n    {instruction} xmm0, xmm1", half)
    for name, source, store in (("si2ss", "edx", "ss"), ("sq2ss", "rdx", "ss"), ("sq2sd", "rdx", "sd")):
        pieces[f"cvt{name}"] = _piece(f"\n    cvtsi2{store} xmm0, {source}", _store(store))
    for form in ("ss", "sd"):
        for way in ("cvt", "cvtt"):
            for size, register in (("si", "r8d"), ("sq", "r8")):
                compute = f"{_load(form, 1, 'rsi')}\n    {way}{form}2si {register}, xmm1"
                pieces[f"{way}{form}2{size}"] = _piece(compute, "\n    mov rax, r8")
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
        both = f"{_load(form, 0, 'rsi')}{_load(form, 1, 'rdx')}\n    andps xmm0, xmm2\n    andps xmm1, xmm2"
        compute = f"{both}\n    dp{form} xmm0, xmm1, 255\n    andps xmm0, xmm3"
        pieces[f"dp{form}_xmm"] = _piece(compute, _store(form), _tiny(form), before)
    return pieces


def _estimates() -> dict[str, str]:
    """RCPPS, RSQRTPS: no exceptions, denormals are zeros; the same on every host, exact as far as a single is."""
    pieces = {}
    for form in ("ps", "ss"):
        for name, root in (("rcp", ""), ("rsqrt", f"\n    sqrt{form} xmm1, xmm1")):
            pieces[name + form] = f"""
NAME:
    ldmxcsr [rip + zeros_mxcsr]{_load(form, 1, "rdx")}{root}
    movups xmm0, [rip + ones]
    div{form} xmm0, xmm1{_store(form)}
    ldmxcsr [rip + plain_mxcsr]
    ret"""
    return pieces


def _refusals() -> dict[str, str]:
    """SSE4A is not offered: Unicorn gives its immediate forms a wrong register. MXCSR has no reserved bits to load."""
    undefined = "\nNAME:\n    mov esi, 6\n    mov rdx, [rsp]\n    jmp [rip + slot_refuse]"
    pieces = {name: undefined for name in ("extrq_r", "extrq_i", "insertq_r", "insertq_i")}
    protection = """
NAME_refuse:
    mov esi, 13
    mov rdx, [rsp]
    jmp [rip + slot_refuse]"""
    pieces["ldmxcsr"] = f"""
NAME:
    test esi, 0xffff0000
    jnz NAME_refuse
    jmp [rip + slot_helper_ldmxcsr_x86_64]{protection}"""
    for name, aligned, loads in (
        ("fxrstor", 15, f"test dword ptr [rdi + {l_.CR + 32}], 0x200"),
        ("xrstor", 63, f"mov eax, [rdi + {l_.XCR0}]\n    and eax, edx\n    test eax, 2"),
    ):
        pieces[name] = f"""
NAME:
    test esi, {aligned}
    jnz NAME_load
    {loads}
    jz NAME_load
    push rdi
    push rsi
    push rdx
    add rsi, 24
    mov rdx, [rsp + 24]
    call [rip + slot_cpu_ldl_data_ra_x86_64]
    pop rdx
    pop rsi
    pop rdi
    test eax, 0xffff0000
    jnz NAME_refuse
NAME_load:
    jmp [rip + slot_helper_{name}_x86_64]{protection}"""
    return pieces


PIECES = _arithmetic() | _conversions() | _products() | _estimates() | _refusals()
"""Helpers by Unicorn's name, without ``helper_`` before it, and what is called instead."""
ORIGINALS = ("helper_ldmxcsr_x86_64", "helper_fxrstor_x86_64", "helper_xrstor_x86_64")
"""Helpers of Unicorn's that the code goes on to."""
ACCESS = ("cpu_ldl_data_ra_x86_64",)


def source() -> str:
    """All of it, but for the slots."""
    pieces = [piece.replace("NAME", f"sse_{name}") for name, piece in PIECES.items()]
    ones = ", ".join(["0x3f800000"] * 4)
    data = [f"plain_mxcsr:\n    .long {_DEFAULT}\nzeros_mxcsr:\n    .long 0x9fc0\nones:\n    .long {ones}"]
    for form, lanes in (("ps", 4), ("pd", 2)):
        data.append(f"lanes_{form}:")
        for chosen in range(1 << lanes):
            words = [-(chosen >> lane & 1) for lane in range(lanes) for _ in range(4 // lanes)]
            data.append("    .long " + ", ".join(map(str, words)))
    return "\n".join((*pieces, *data))
