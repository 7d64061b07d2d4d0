"""MMX mode, and the operations of SSSE3 on pairs of neighbours, in place of Unicorn's helpers.

An MMX instruction is Unicorn's translation between two helpers: `ready` looks for a pending x87 exception, before
anything is done, and `done` changes the x87's state, when nothing can fault any more. `sse_and_mmx` has them called
around SSSE3, too. Unicorn entered MMX mode before the memory operand was read, left bits 79:64 of what is written as
they were, and let EMMS keep TOP. Its PHADD and PHSUB read a source that they have begun to overwrite where it is the
destination. Intel SDM volume 3, 12.2; AMD64 APM volume 5, and volume 4 for PHADDx and PHSUBx.
"""

from __future__ import annotations

from hypervisor.engine import layout as l_
from hypervisor.engine.floating_point.x87_parts import CHECK, PENDING, slow

DONE_SIZE = 16
"""Bytes of each piece of `mmx_done`: one for each register that is written, and one for none."""

_READY = PENDING.replace("edx", "r9d") + "\n"
_HORIZONTAL = "phaddw phaddd phaddsw phsubw phsubd phsubsw".split()


def _pieces() -> dict[str, str]:
    pieces = {"enter_mmx": f"\nNAME:{_READY}    ret{slow(CHECK)}"}
    pieces["emms"] = f"""
NAME:{_READY}
    mov dword ptr [rdi + {l_.FPSTT}], 0
    mov eax, 0x01010101
    mov [rdi + {l_.FPTAGS}], eax
    mov [rdi + {l_.FPTAGS + 4}], eax
    ret{slow(CHECK)}"""
    for name in _HORIZONTAL:
        pieces[f"{name}_xmm"] = f"""
NAME:
    movups xmm0, [rsi]
    movups xmm1, [rdx]
    {name} xmm0, xmm1
    movups [rsi], xmm0
    ret"""
        # REX.R is no fourth bit of an MMX register's number, for which Unicorn takes it
        pieces[f"{name}_mmx"] = f"""
NAME:
    lea rax, [rsi - {l_.FPREGS + 8 * l_.FPREG_SIZE}]
    sub rax, rdi
    cmp rax, {8 * l_.FPREG_SIZE}
    jae NAME_register
    sub rsi, {8 * l_.FPREG_SIZE}
NAME_register:
    movq xmm0, qword ptr [rsi]
    movhps xmm0, [rdx]
    {name} xmm0, xmm0
    movq qword ptr [rsi], xmm0
    ret"""
    return pieces


PIECES = _pieces()
"""Helpers by Unicorn's name, without ``helper_`` before it, and what is called instead."""


def source() -> str:
    """All of it, but for the slots."""
    pieces = [piece.replace("NAME", f"mmx_{name}") for name, piece in PIECES.items()]
    done = ["    .p2align 4\nmmx_done:"]
    for n in range(8):
        at = l_.FPREGS + l_.FPREG_SIZE * n + 8
        done.append(f"    mov word ptr [rdi + {at}], 0xffff\n    jmp mmx_entered\n    .p2align 4")
    done.append(
        f"mmx_entered:\n    mov dword ptr [rdi + {l_.FPSTT}], 0\n    mov qword ptr [rdi + {l_.FPTAGS}], 0\n    ret"
    )
    return "\n".join((*pieces, *done))
