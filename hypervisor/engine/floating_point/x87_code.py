"""x87 instructions on the host's x87, in place of Unicorn's helpers: each helper of a table, as assembly text.

Unicorn's helpers know neither exceptions but division by zero, nor what the manual says about special operands. The
host's unit does. A helper goes the fast way with its operands alone on the host's stack, exceptions masked. It
goes the other way, with the guest's whole x87 state and the one instruction (`x87`), where a register is empty
or full, and where an exception shows that the guest's status word does not have yet. The host's status word is never
cleared on the fast way: what it keeps from earlier is in the guest's word already, or leads the other way once.

Between the helpers of one instruction `layout.X87_RAW` keeps the memory operand, `X87_SOURCE` where the other operand
came from and `X87_UNUSUAL` that it is one that the fast way cannot take. Registers: rdi the CPU state, rsi
the helper's argument, edx the top of the stack, r10 and r11 the addresses of ST(0) and ST(i), r8d the control word,
r9d whether the host's was changed. AMD64 APM volume 1, chapter 6, and volume 5.
"""

from __future__ import annotations

from hypervisor.engine.floating_point.x87_arithmetic import arithmetic, functions
from hypervisor.engine.floating_point.x87_memory import loads, stores
from hypervisor.engine.floating_point.x87_parts import CHECK, FPUS, RAW
from hypervisor.engine.floating_point.x87_stack import stack

ORIGINALS = tuple(
    f"helper_{name}_x86_64"
    for name in "fstt_ST0 ffree_STN fincstp fdecstp fldcw fldenv frstor fstenv fsave fxsave xsave xsaveopt".split()
)
"""Helpers of Unicorn's that the code goes on to."""

ACCESS = tuple(f"cpu_{name}_data_ra_x86_64" for name in ("ldq", "lduw", "stq", "stw"))
"""Functions of Unicorn's that it calls."""
_SHARED = f"""
x87_status:
    mov eax, [rdi + {FPUS}]
    mov ecx, eax
    shr ecx, 16
    not ecx
    and ecx, eax
    and eax, 0xffff7f7f
    test cl, 0x3f
    jz x87_quiet
    or eax, 0x8080
x87_quiet:
    mov [rdi + {FPUS}], eax
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
    mov [rdi + {RAW}], rax
    add rsi, 8
    mov rdx, [rsp + 24]
    call [rip + slot_cpu_lduw_data_ra_x86_64]
    pop rsi
    pop rdi
    mov [rdi + {RAW + 8}], ax
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


PIECES = arithmetic() | functions() | loads() | stores() | stack()
"""Helpers by Unicorn's name, without ``helper_`` before it, and what is called instead."""


def source() -> str:
    """All of it, but for the slots."""
    pieces = [piece.replace("NAME", f"x87_{name}") for name, piece in PIECES.items()]
    return "\n".join((*pieces, _SHARED, _instructions()))
