"""LOOPE, LOOPNE and relatives leave the flags as they were, whichever way they go (AMD64 APM volume 3, LOOPcc)."""

from __future__ import annotations

import pytest

import hypervisor as hv

FLAGS = 0x8D5
PENDING = {
    "cmp al, bl": 0,
    "add al, bl": 0x805,
    "inc al": 0x80,
    "shl al, 3": 0x4,
    "andn eax, eax, ebx": 0x40,
    "xor ecx, ecx; mov ecx, esi": 0x44,
}
"""Instructions and the defined flags that they leave, of AL = 85h and BL = 81h and all flags clear."""


@pytest.mark.parametrize("code", PENDING)
@pytest.mark.parametrize("branch", ["loope", "loopne", "loop", "jecxz"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_loop_leaves_the_flags(code: str, branch: str, count: int) -> None:
    """The branch leads to the next instruction, so all ways come to the same place."""
    start = "pushfq; and qword ptr [rsp], ~0x8d5; popfq"
    regs = {"rax": 0x85, "rbx": 0x81, "rcx": count, "rsi": count, "rsp": 0x90000}
    code_ = f"{start}; {code}; {branch} next; next: pushfq; pop rdx; hlt"
    undefined = 0x814 if code.startswith("shl") else 0x14 if code.startswith(("andn", "xor")) else 0
    got = hv.run_asm(code_, mode=64, regs=regs).rdx & FLAGS & ~undefined
    assert got == PENDING[code] & ~undefined
