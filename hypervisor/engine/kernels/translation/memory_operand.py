"""What a memory operand must be like, while its instruction is translated: aligned, and no longer than it is.

Operands of 128 bits are aligned unless the instruction says otherwise, or #GP(0) (AMD64 APM volume 1, 4.5.5). At CPL 3
with RFLAGS.AC every operand is aligned, or #AC(0), while CR0.AM is set (APM volume 2, 8.2.18). Unicorn can check
alignment where it looks into its TLB, at no cost, but x86 code does not ask for it; what asks is added here to the
accesses that are emitted, and what is not aligned comes to `misaligned`. RFLAGS.AC and the CPL are what a block
is known by, so other blocks do not change.

Unicorn also reads 16 bytes, or 8, for operands of fewer. Which instruction is which stands in
`hypervisor.engine.floating_point.media_opcodes`.
"""

from __future__ import annotations

from hypervisor.arch.flags import RFLAGS_AC
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call5, kernel, ld8, ld32, ld64, st32

_TCG_UC, _OURS, _TCG_CONTEXT, _ALL, _FIRST = (
    l_.TCG_UC, l_.UC_NO_EXIT_REQUEST, l_.UC_TCG_CONTEXT, l_.TCG_OPERAND, l_.TCG_OPERAND + 4,
)  # fmt: skip
_CPU_UC, _TO_ENV, _HFLAGS, _EFLAGS, _AC = l_.CPU_UC, l_.CPU_TO_ENV, l_.HFLAGS, l_.EFLAGS, RFLAGS_AC

BY_SIZE, BY_16, _ALIGNMENT = 0x70, 0x40, 0x70
"""Unicorn's bits of an access for alignment (MemOp)."""

_SIZE, _32_BITS = 3, 2
ONE, NARROW, _GONE = 0x100, 0x200, 0x400
"""Ours, beside them: only one access is made, it has 32 bits, it has been made."""


@kernel
def begin(cpu):  # type: ignore[no-untyped-def]
    """An instruction is about to be translated."""
    env = cpu + _TO_ENV
    checked = ld32(env + _HFLAGS) & l_.HF_CPL == 3 and ld64(env + _EFLAGS) & _AC
    tcg = ld64(ld64(cpu + _CPU_UC) + _TCG_CONTEXT)
    st32(tcg + _ALL, BY_SIZE if checked else 0)
    st32(tcg + _FIRST, 0)
    return 0


@kernel
def expect(cpu, what):  # type: ignore[no-untyped-def]
    """What holds for its first access to memory: `BY_16`, `ONE`, or that and `NARROW`."""
    st32(ld64(ld64(cpu + _CPU_UC) + _TCG_CONTEXT) + _FIRST, what)
    return 0


@kernel
def emit_access(tcg, value, address, index, operation, original):  # type: ignore[no-untyped-def]
    """``tcg_gen_qemu_ld_i64`` and its like, which lie at ``original``."""
    if ld8(ld64(tcg + _TCG_UC) + _OURS):
        first = ld32(tcg + _FIRST)
        if first & _GONE:
            return 0
        st32(tcg + _FIRST, _GONE if first & ONE else 0)
        if first & NARROW:
            operation = (operation & ~_SIZE) | _32_BITS
        operation |= (first & _ALIGNMENT) if first & _ALIGNMENT else ld32(tcg + _ALL)
    return call5(original, tcg, value, address, index, operation)


__all__ = ["BY_16", "NARROW", "ONE", "begin", "emit_access", "expect"]
