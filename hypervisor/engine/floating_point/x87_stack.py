"""x87 instructions about its stack and state: moves, exchanges, tags, environments (see `x87_code`)."""

from __future__ import annotations

from hypervisor.engine.floating_point.x87_parts import (
    CHECK,
    FPSTT,
    FREE,
    FT0,
    MOVE,
    NO_C1,
    PENDING,
    PUSH,
    PUSHED,
    REGISTER,
    REGS,
    ST0,
    STI,
    TAGS,
    UNUSUAL,
    slow,
)


def stack() -> dict[str, str]:
    """By Unicorn's names."""
    load = f"\n    mov rax, [r11 + {REGS}]\n    movzx ecx, word ptr [r11 + {REGS + 8}]"
    copy = f"{load}\n    mov [r10 + {REGS}], rax\n    mov [r10 + {REGS + 8}], cx"
    pieces = {
        "fpush": f"\nNAME:{PENDING}{FREE}{PUSHED}{NO_C1}\n    ret{slow(PUSH | 0xD9E8)}",
        "fmov_ST0_STN": f"\nNAME:{PENDING}{ST0}{STI}{copy}{NO_C1}\n    ret{slow(MOVE | REGISTER | 0xD8C0)}",
    }
    pieces["fmov_FT0_STN"] = f"""
NAME:{PENDING}
    lea r11d, [rdx + rsi]
    and r11d, 7
    movzx r9d, byte ptr [rdi + r11 + {TAGS}]
    shl r11d, 4
    add r11, rdi{load}
    mov [rdi + {FT0}], rax
    mov [rdi + {FT0 + 8}], cx
    and esi, 7
    shl esi, 8
    or esi, r9d
    mov [rdi + {UNUSUAL}], si
    ret{slow(CHECK)}"""
    pieces["fmov_STN_ST0"] = f"""
NAME:{PENDING}{ST0}
    mov rax, [r10 + {REGS}]
    movzx ecx, word ptr [r10 + {REGS + 8}]
    lea r11d, [rdx + rsi]
    and r11d, 7
    mov byte ptr [rdi + r11 + {TAGS}], 0
    shl r11d, 4
    add r11, rdi
    mov [r11 + {REGS}], rax
    mov [r11 + {REGS + 8}], cx{NO_C1}
    ret{slow(REGISTER | 0xDDD0)}"""
    pieces["fxchg_ST0_STN"] = f"""
NAME:{PENDING}{ST0}{STI}{load}
    mov r8, [r10 + {REGS}]
    movzx r9d, word ptr [r10 + {REGS + 8}]
    mov [r10 + {REGS}], rax
    mov [r10 + {REGS + 8}], cx
    mov [r11 + {REGS}], r8
    mov [r11 + {REGS + 8}], r9w{NO_C1}
    ret{slow(REGISTER | 0xD9C8)}"""
    pieces["fwait"] = f"\nNAME:{PENDING}\n    ret{slow(CHECK)}"
    for name in ("ffree_STN", "fincstp", "fdecstp", "fldcw", "fldenv", "frstor"):
        look = PENDING.replace("edx", "r9d")  # edx may be an argument
        pieces[name] = f"\nNAME:{look}\n    jmp [rip + slot_helper_{name}_x86_64]{slow(CHECK)}"
    for name in ("fstenv", "fsave", "fxsave", "xsave", "xsaveopt"):
        pieces[name] = f"\nNAME:\n    call x87_status\n    jmp [rip + slot_helper_{name}_x86_64]"
    pieces["fnstsw"] = f"""
NAME:
    call x87_status
    mov ecx, [rdi + {FPSTT}]
    and ecx, 7
    shl ecx, 11
    and eax, 0xc7ff
    or eax, ecx
    ret"""
    return pieces
