"""Instructions that must refuse an address that is not canonical, which generated code does not look at: near branches
in 64-bit mode, LGDT and LIDT (AMD64 APM volume 3; volume 2, 5.3.1).
"""

from __future__ import annotations

from hypervisor.arch.flags import RFLAGS_AC
from hypervisor.arch.vectors import GP
from hypervisor.arch.vmexit_codes import INTR
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld8, ld32, ld64, s64, st64
from hypervisor.engine.kernels.by_pointer import decode, translate
from hypervisor.engine.kernels.memory.access import host_address
from hypervisor.engine.kernels.memory.code_bytes import opcode_bytes
from hypervisor.engine.kernels.memory.page_walk import AC, PEEK, READ
from hypervisor.engine.kernels.segments.descriptors import canonical
from hypervisor.engine.kernels.stopping.in_place import refuse, restore

_ENV, _HFLAGS, _EIP, _EFLAGS, _RSP = b_.ENV, l_.HFLAGS, l_.EIP, l_.EFLAGS, l_.RSP
_CS64, _PLACE, _INTERCEPT = l_.HF_CS64, b_.PLACE, l_.INTERCEPT
_D_OPCODE, _D_MODRM, _D_EA, _D_LENGTH, _W_VECTOR = b_.D_OPCODE, b_.D_MODRM, b_.D_EA, b_.D_LENGTH, b_.W_VECTOR
_FIRST_INTERCEPT = INTR


@kernel
def refused_branch(b):  # type: ignore[no-untyped-def]
    """Whether the instruction called at PLACE, which has loaded RIP with an address that is not canonical, is a near
    branch: then it is undone and has been refused. Otherwise RIP has just gone on to there, and the next fetch faults.
    """
    env = ld64(b + _ENV)
    target = ld64(env + _EIP)
    restore(b, ld64(b + _PLACE))
    decode(b)
    opcode, form = ld64(b + _D_OPCODE), (ld64(b + _D_MODRM) >> 3) & 7
    pushed = 0
    if opcode == 0xC3:
        pushed = -8
    elif opcode == 0xC2:
        word = opcode_bytes(b) >> 8 * ld64(b + _D_LENGTH)
        pushed = -8 - (word & 0xFFFF)
    elif opcode == 0xE8 or (opcode == 0xFF and form == 2):
        pushed = 8
    elif not (
        (opcode == 0xFF and form == 4)
        or opcode == 0xE9
        or opcode == 0xEB
        or opcode & 0xFFF0 == 0x70
        or opcode & 0xFFF0 == 0x0F80
    ):
        st64(env + _EIP, target)
        return False
    st64(env + _RSP, ld64(env + _RSP) + pushed)
    refuse(b, GP, 0)
    return True


@kernel
def check_table(b, exit_code):  # type: ignore[no-untyped-def]
    """Refuse LGDT or LIDT with a base that is not canonical. One that is intercepted leaves the guest first, and one
    whose operand cannot be read faults by itself.
    """
    env = ld64(b + _ENV)
    if ld32(env + _HFLAGS) & _CS64 == 0 or (ld64(env + _INTERCEPT) >> (exit_code - _FIRST_INTERCEPT)) & 1:
        return 0
    if decode(b) == 0:
        return 0
    at = ld64(b + _D_EA) + 2
    value = 0
    for n in range(8):
        gpa = translate(b, at + n, READ, PEEK | (AC if ld64(env + _EFLAGS) & RFLAGS_AC else 0))
        if ld64(b + _W_VECTOR) >= 0:
            return 0
        where = host_address(b, gpa)
        value |= (ld8(where) if where else 0xFF) << (8 * n)
    return 0 if canonical(s64(value)) else refuse(b, GP, 0)
