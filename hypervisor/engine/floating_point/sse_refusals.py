"""What Unicorn's helpers of SSE do not refuse: SSE4A, and reserved bits of MXCSR."""

from __future__ import annotations

from hypervisor.engine import layout as l_


def refusals() -> dict[str, str]:
    """SSE4A is not offered: Unicorn gives its immediate forms a wrong register. MXCSR has no reserved bits to load.

    It stands in the middle of FXRSTOR's operand, of which a page fault tells the first byte that is not there.
    """
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
    first = """
    push rdi
    push rsi
    push rdx
    mov rdx, [rsp + 24]
    call [rip + slot_cpu_ldl_data_ra_x86_64]
    mov rdi, [rsp + 16]
    mov rdx, [rsp]
    mov rsi, [rsp + 8]
    lea rax, [rsi + 511]
    and rax, -4096
    cmp rax, rsi
    jbe NAME_there
    mov rsi, rax
    mov rdx, [rsp + 24]
    call [rip + slot_cpu_ldl_data_ra_x86_64]
NAME_there:
    pop rdx
    pop rsi
    pop rdi"""
    for name, aligned, loads, before in (
        ("fxrstor", 15, f"test dword ptr [rdi + {l_.CR + 32}], 0x200", first),
        ("xrstor", 63, f"mov eax, [rdi + {l_.XCR0}]\n    and eax, edx\n    test eax, 2", ""),
    ):
        pieces[name] = f"""
NAME:
    test esi, {aligned}
    jnz NAME_load
    {loads}
    jz NAME_load{before}
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


ORIGINALS = ("helper_ldmxcsr_x86_64", "helper_fxrstor_x86_64", "helper_xrstor_x86_64")
"""Helpers of Unicorn's that the code goes on to."""
ACCESS = ("cpu_ldl_data_ra_x86_64",)
"""Functions of Unicorn's that it calls."""
