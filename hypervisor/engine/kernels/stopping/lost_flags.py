"""The arithmetic flags of an instruction that is left in the middle, after it has computed them.

Unicorn derives the flags late: CC_OP says how, from CC_SRC and CC_DST. SETcc, RCL and RCR first compute them all into
CC_SRC and then store; when the store faults, CC_OP is put back to what it was at the start of the instruction, and
CC_SRC is not. What computes flags in generated code therefore leaves a note (the pieces of machine code in
`hypervisor.engine.interposition.interpose`): the flags, the time, and where in the generated code it was.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call3, kernel, ld32, ld64, st32, st64

_ENV, _CPU, _NOW, _F_RESTORE = b_.ENV, b_.CPU, b_.NOW, b_.F_RESTORE_STATE
_FLAGS, _FLAGS_AT, _FLAGS_BY, _FLAGS_LOST = b_.FLAGS, b_.FLAGS_AT, b_.FLAGS_BY, b_.FLAGS_LOST
_EIP, _EFLAGS, _CC_OP, _CC_MASK = l_.EIP, l_.EFLAGS, l_.CC_OP, l_.CC_MASK


@kernel
def look(b):  # type: ignore[no-untyped-def]
    """The guest is about to be left in the middle of the instruction at RIP: find out whether it has computed flags."""
    if ld64(b + _FLAGS_AT) != ld64(b + _NOW):  # not in this block
        return 0
    env, cpu = ld64(b + _ENV), ld64(b + _CPU)
    rip, derived = ld64(env + _EIP), ld32(env + _CC_OP)
    call3(ld64(b + _F_RESTORE), cpu, ld64(b + _FLAGS_BY), 0)
    st64(b + _FLAGS_LOST, 1 if ld64(env + _EIP) == rip else 0)
    st64(env + _EIP, rip)
    st32(env + _CC_OP, derived)
    return 0


@kernel
def mend(b):  # type: ignore[no-untyped-def]
    """The guest has been left, with its flags put together: they are those from before the instruction."""
    if ld64(b + _FLAGS_LOST):
        env = ld64(b + _ENV)
        st64(b + _FLAGS_LOST, 0)
        st64(env + _EFLAGS, (ld64(env + _EFLAGS) & ~_CC_MASK) | (ld64(b + _FLAGS) & _CC_MASK))
    return 0


__all__ = ["look", "mend"]
