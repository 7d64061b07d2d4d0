"""What the pieces of `sse_code` are put together from: the fast way, and the one under the guest's MXCSR."""

from __future__ import annotations

from hypervisor.engine import layout as l_

_CONTROL, DEFAULT = 0xFFC0, 0x1F80
_UNDERFLOW_MASK, _FLUSH = 0x800, 0x8000

_MXCSR = l_.MXCSR


def piece(compute: str, store: str, tiny: str = "", before: str = "") -> str:
    """One helper. ``tiny``: an instruction that meets a denormal in the result, which is underflow if not masked."""
    underflow = f"""
    test r9d, {_UNDERFLOW_MASK}
    jnz NAME_told
    mov dword ptr [rsp - 8], {DEFAULT}
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
    cmp eax, {DEFAULT}
    jne NAME_control{compute}
    stmxcsr [rsp - 8]
    mov eax, [rsp - 8]
    xor eax, {DEFAULT}
    not r9d
    test eax, r9d
    jnz NAME_flags
NAME_store:{store}
    ret
NAME_flags:
    not r9d
    mov eax, {DEFAULT}
NAME_control:
    or eax, {DEFAULT}
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
FORMS = ("ps", "pd", "ss", "sd")


def load_of(form: str, register: int, pointer: str) -> str:
    """Load a register, as wide as the form is."""
    return f"\n    {_LOAD[form]} xmm{register}, [{pointer}]"


def store_of(form: str) -> str:
    """Store the result."""
    return f"\n    {_LOAD[form]} [rsi], xmm0"


def tiny_of(form: str) -> str:
    """A comparison that meets a denormal in the result."""
    return f"cmpeq{form} xmm1, xmm0"
