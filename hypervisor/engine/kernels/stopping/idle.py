"""Loops that do nothing until the next event: a jump to itself, and PAUSE with a jump back to it.

They are not run round by round: the time goes at once to where the rounds would have brought it when the block hook
stops them. Nothing else in the guest changes from round to round, so nobody can tell the difference, and `b_.SKIPS` = 0
runs the rounds for tests to compare. Under the wall clock it is the host's time that brings the event: the guest is
left (`IDLING`), and Python sleeps.
"""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import RFLAGS_AC, RFLAGS_IF, RFLAGS_TF
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call1, kernel, ld8, ld16, ld32, ld64, st64
from hypervisor.engine.kernels.coverage.entered import entered, went_round

_ENV, _UC, _HFLAGS, _EFLAGS, _EIP = b_.ENV, b_.UC, l_.HFLAGS, l_.EFLAGS, l_.EIP
_NOW, _DEADLINE, _KICK, _STEP, _WALL, _INTR = b_.NOW, b_.DEADLINE, b_.KICK, b_.STEP, b_.WALL, b_.INTR
_SKIPS, _SPINS, _EXECUTES, _X_KIND, _FAULT = b_.SKIPS, b_.SPINS, b_.EXECUTES, b_.X_KIND, b_.FAULT
_COUNTS, _COSTS, _F_EMU_STOP, _SKIPPED = b_.COUNTS, b_.COSTS, b_.F_EMU_STOP, b_.SKIPPED
_CPL = l_.HF_CPL
_BASE, _PAGE = l_.SEGS + l_.SEG_SIZE * l_.CS + l_.SEG_BASE, ~0xFFF
_FAST, _DESCRIPTOR, _SHIFT, _CODE, _ADDEND = (
    l_.TLB_FAST, l_.TLB_FAST_SIZE, 12 - l_.TLB_ENTRY_SHIFT, l_.TLB_ADDR_CODE, l_.TLB_ADDEND,
)  # fmt: skip
_CS64, _CS32, _SMAP, _TF, _IF, _AC, _SHADOW = (
    l_.HF_CS64, l_.HF_CS32, l_.HF_SMAP, RFLAGS_TF, RFLAGS_IF, RFLAGS_AC, l_.HF_INHIBIT_IRQ,
)  # fmt: skip
_PAUSE, _IDLING = int(K.PAUSE), int(K.IDLING)
_JMP_SHORT, _JMP_TO_PAUSE, _PAUSE_CODE = 0xFEEB, 0xFCEB, 0x90F3  # as 16-bit words


@kernel
def code_at(env, pc):  # type: ignore[no-untyped-def]
    """Where in this process the code at linear ``pc`` is that is being translated, 0 if it is not plain memory."""
    hflags = ld32(env + _HFLAGS)
    index = 0  # the three MMU indices: the kernel's with SMAP, the user's, the kernel's without
    if hflags & _CPL == 3:
        index = 1
    elif hflags & _SMAP == 0 or ld64(env + _EFLAGS) & _AC:
        index = 2
    fast = env + _FAST + _DESCRIPTOR * index
    entry = ld64(fast + 8) + ((pc >> _SHIFT) & ld64(fast))
    return pc + ld64(entry + _ADDEND) if ld64(entry + _CODE) == pc & _PAGE else 0


@kernel
def jumps_to_itself(env):  # type: ignore[no-untyped-def]
    """Whether the block that begins at RIP, and is being translated, is a jump to itself and nothing else."""
    pc = ld64(env + _EIP)
    wide = ld32(env + _HFLAGS) & _CS64
    if wide == 0:
        pc = (pc + ld64(env + _BASE)) & 0xFFFFFFFF
    if pc & 0xFFF > 4091:
        return 0
    at = code_at(env, pc)
    if at == 0:
        return 0
    if ld16(at) == _JMP_SHORT:
        return 1
    if ld8(at) != 0xE9:
        return 0
    if ld32(env + _HFLAGS) & _CS32 or wide:
        return 1 if ld32(at + 1) == 0xFFFFFFFB else 0
    return 1 if ld16(at + 1) == 0xFFFD else 0


@kernel
def _idles(b):  # type: ignore[no-untyped-def]
    """Whether rounds may be skipped: nobody wants to see each of them, and nothing is due before the deadline."""
    if ld64(b + _SKIPS) == 0 or ld64(b + _KICK) or ld64(b + _STEP) or ld64(b + _EXECUTES):
        return 0
    if ld64(b + _X_KIND) or ld64(b + _FAULT) >= 0:
        return 0
    env = ld64(b + _ENV)
    return 0 if ld64(env + _EFLAGS) & _TF or ld32(env + _HFLAGS) & _SHADOW else 1


@kernel
def skip_jumps(b, address, size):  # type: ignore[no-untyped-def]
    """A jump to itself, of ``size`` bytes at linear ``address``, is about to be executed: take the time of all that can
    be before the deadline.

    1 if the guest is to be left instead.
    """
    left = ld64(b + _DEADLINE) - ld64(b + _NOW)
    if left <= 0 or _idles(b) == 0:
        return 0
    if ld64(b + _WALL):
        st64(b + _X_KIND, _IDLING)
        return 1
    rounds = (left + size - 1) // size
    st64(b + _NOW, ld64(b + _NOW) + rounds * size)
    entered(b, address, size)
    went_round(b, address, address, rounds - 1)
    st64(b + _SKIPPED, 1)
    return 0


@kernel
def skip_pauses(b):  # type: ignore[no-untyped-def]
    """A PAUSE has been executed: if a jump back to it follows, take the time of all rounds before the deadline.

    A round is the jump and the PAUSE, each a block of two bytes, before each of which the hook looks at the deadline.
    """
    env = ld64(b + _ENV)
    left = ld64(b + _DEADLINE) - ld64(b + _NOW)
    if left < 3 or ld64(b + _SPINS) or _idles(b) == 0 or (ld64(b + _INTR) and ld64(env + _EFLAGS) & _IF):
        return 0
    pc = ld64(env + _EIP)
    if ld32(env + _HFLAGS) & _CS64 == 0:
        pc = (pc + ld64(env + _BASE)) & 0xFFFFFFFF
    if pc & 0xFFF > 4094 or pc & 0xFFF < 2:
        return 0
    at = code_at(env, pc)
    if at == 0 or ld16(at) != _JMP_TO_PAUSE or ld16(at - 2) != _PAUSE_CODE:
        return 0
    if ld64(b + _WALL):
        st64(b + _X_KIND, _IDLING)
        call1(ld64(b + _F_EMU_STOP), ld64(b + _UC))
        return 0
    cost = ld64(b + _COSTS + 8 * _PAUSE)
    rounds = (left - 3) // (cost + 4) + 1
    st64(b + _NOW, ld64(b + _NOW) + rounds * (cost + 4))
    entered(b, pc, 2)
    entered(b, pc - 2, 2)
    went_round(b, pc, pc - 2, rounds - 1)
    st64(b + _COUNTS + 8 * _PAUSE, ld64(b + _COUNTS + 8 * _PAUSE) + rounds)
    return 0


__all__ = ["code_at", "jumps_to_itself", "skip_jumps", "skip_pauses"]
