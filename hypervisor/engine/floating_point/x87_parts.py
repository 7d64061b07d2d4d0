"""What the pieces of `x87_code` are put together from: where operands are looked for, and the fast way round them."""

from __future__ import annotations

from hypervisor.engine import layout as l_

FROM_SOURCE, STORE, PUSH, MOVE, CHECK, TRIAL = (kind << 16 for kind in range(1, 7))
"""What `x87.unusual` gets beside opcode and ModRM byte: the opcode follows from `X87_SOURCE`; the instruction
stores; it pushes, and the stack is full; it copies a register, and one is empty; nothing is to be done but to look for
a pending exception; a store whose result is asked for before it is stored."""

NE = 1 << 5
"""CR0.NE: without it a pending exception asks for IRQ 13, which nobody listens to, and nothing is raised."""

SINGLE, DOUBLE, INTEGER, ZERO = 8, 9, 10, 11
"""Values of `X87_SOURCE` beside register numbers."""

FPUS, FPSTT, TAGS, REGS, FT0 = l_.FPUS, l_.FPSTT, l_.FPTAGS, l_.FPREGS, l_.FT0
RAW, UNUSUAL = l_.X87_RAW, l_.X87_UNUSUAL
REGISTER = 1 << 30
"""The instruction names a register, which the helper's argument is."""
C1, C2, ALL = 0x200, 0x400, 0x4700

PENDING = f"""
    mov eax, [rdi + {FPUS}]
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
    mov edx, [rdi + {FPSTT}]"""
CONTROL = f"""
    movzx r8d, word ptr [rdi + {l_.FPUC}]
    mov edx, [rdi + {FPSTT}]"""
ST0 = f"""
    cmp byte ptr [rdi + rdx + {TAGS}], 0
    jne NAME_slow
    mov r10d, edx
    shl r10d, 4
    add r10, rdi"""
_OTHER = f"""
    and r11d, 7
    cmp byte ptr [rdi + r11 + {TAGS}], 0
    jne NAME_slow
    shl r11d, 4
    add r11, rdi"""
STI, ST1 = f"\n    lea r11d, [rdx + rsi]{_OTHER}", f"\n    lea r11d, [rdx + 1]{_OTHER}"
FREE = f"""
    lea r11d, [rdx - 1]
    and r11d, 7
    cmp byte ptr [rdi + r11 + {TAGS}], 1
    jne NAME_slow
    mov r10d, r11d
    shl r10d, 4
    add r10, rdi"""
PUSHED = f"""
    mov [rdi + {FPSTT}], r11d
    mov byte ptr [rdi + r11 + {TAGS}], 0"""
USUAL = f"""
    cmp byte ptr [rdi + {UNUSUAL}], 0
    jne NAME_slow"""
LOAD_ST0, LOAD_STI = f"\n    fld tbyte ptr [r10 + {REGS}]", f"\n    fld tbyte ptr [r11 + {REGS}]"
LOAD_FT0 = f"\n    fld tbyte ptr [rdi + {FT0}]"
STORE_ST0, STORE_STI = f"\n    fstp tbyte ptr [r10 + {REGS}]", f"\n    fstp tbyte ptr [r11 + {REGS}]"
NO_C1 = f"\n    and dword ptr [rdi + {FPUS}], {~C1}"


def slow(what: int) -> str:
    """The other way: the piece goes on in `kernels.instructions.x87.unusual`."""
    return f"""
NAME_slow:
    {"and esi, 7" if what & REGISTER else "xor esi, esi"}
    or esi, {what & 0xFFFFFF}
    mov rdx, [rsp]
    jmp [rip + slot_x87_unusual]"""


def fast(what: int, before: str, compute: str, after: str, conditions: int = C1, result: str = "") -> str:
    """A computation: what to look at before, the instructions on the host's stack, and where the result goes."""
    return f"""
NAME:{before}
    xor r9d, r9d
    cmp r8d, 0x37f
    jne NAME_control
NAME_run:{compute}
    fnstsw ax
    mov ecx, [rdi + {FPUS}]
    mov r8d, ecx
    not r8d
    and r8d, eax
    test r8b, 0x3f
    jnz NAME_new{after}
    and eax, {conditions}
    and ecx, {~conditions}
    or ecx, eax
    mov [rdi + {FPUS}], ecx{result}
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
    fninit{slow(what)}"""
