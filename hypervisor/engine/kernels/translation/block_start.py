"""What generated code does at the start of each block: count it, and look whether there is anything to do.

Unicorn would call the block hook there. A call at each block costs short loops a fifth to a third of their time, so
operations of TCG are emitted instead, which mean::

    before = now; now += size; block_end = address + size
    if before + kick >= deadline: block(uc, address, 0, b)

The hook (`hooks.block`) takes the count back first. RIP is stored on the way to it only: within a block it is behind
anyway, and whoever needs it restores it.

`b_.KICK` has a word of its own because other threads write it: what only this pCPU's thread writes cannot lose a kick
that comes at the same moment, in whatever order the processor makes its stores visible.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call1, call2, call3, call4, call5, kernel, ld8, ld64, st8

_NOW, _DEADLINE, _KICK, _BLOCK_END = b_.NOW, b_.DEADLINE, b_.KICK, b_.BLOCK_END
_F_OP1, _F_OP2, _F_OP3, _F_BRANCH, _F_LABEL, _F_TEMP, _F_FREE = (
    b_.F_TCG_OP1, b_.F_TCG_OP2, b_.F_TCG_OP3, b_.F_TCG_BRANCH, b_.F_TCG_LABEL, b_.F_TCG_TEMP, b_.F_TCG_FREE,
)  # fmt: skip
_LAST, _BEFORE, _ARGS, _ENV, _EIP = l_.TCG_LAST_OP, l_.OP_BEFORE, l_.OP_ARGS, l_.TCG_ENV, l_.EIP
_MOVE, _MOVE_32, _LOAD, _STORE, _ADD, _WIDEN, _LABEL = (
    l_.OP_MOVI_I64, l_.OP_MOVI_I32, l_.OP_LD_I64, l_.OP_ST_I64, l_.OP_ADD_I64, l_.OP_EXTU_I32_I64, l_.OP_SET_LABEL,
)  # fmt: skip
_CODE, _DISCARD = l_.OP_CODE, l_.OP_DISCARD
_LESS, _I64, _PRESENT = l_.COND_LT, l_.TYPE_I64, l_.LABEL_PRESENT


@kernel
def temporary(b, tcg):  # type: ignore[no-untyped-def]
    """Another temporary of 64 bits."""
    return call3(ld64(b + _F_TEMP), tcg, _I64, 0)


@kernel
def count(b, tcg, arguments):  # type: ignore[no-untyped-def]
    """Emit all that comes before the call, whose ``arguments`` (the engine, the address, the size, `b`) are temporaries
    that constants have just been moved to, in the order of size, engine, address, `b`; the label behind the call.
    """
    engine, address, size, words = ld64(arguments), ld64(arguments + 8), ld64(arguments + 16), ld64(arguments + 24)
    last = ld64(tcg + _LAST)
    moved = ld64(last + _BEFORE)
    linear, moved = ld64(moved + _ARGS + 8), ld64(moved + _BEFORE)
    uc = ld64(moved + _ARGS + 8)
    stored = ld64(ld64(moved + _BEFORE) + _BEFORE)  # RIP, by the last operation before those moves
    rip = ld64(ld64(stored + _BEFORE) + _ARGS + 8)
    st8(stored + _CODE, _DISCARD)
    two, three = ld64(b + _F_OP2), ld64(b + _F_OP3)
    length, now, kick, limit = temporary(b, tcg), temporary(b, tcg), temporary(b, tcg), temporary(b, tcg)
    call4(two, tcg, _WIDEN, length, size)
    call5(three, tcg, _LOAD, now, words, _NOW)
    call5(three, tcg, _LOAD, kick, words, _KICK)
    call5(three, tcg, _LOAD, limit, words, _DEADLINE)
    call5(three, tcg, _ADD, kick, kick, now)
    call5(three, tcg, _ADD, now, now, length)
    call5(three, tcg, _STORE, now, words, _NOW)
    call5(three, tcg, _ADD, length, length, address)
    call5(three, tcg, _STORE, length, words, _BLOCK_END)
    label = call1(ld64(b + _F_LABEL), tcg)
    call5(ld64(b + _F_BRANCH), tcg, _LESS, kick - tcg, limit - tcg, label)
    call4(two, tcg, _MOVE, now, rip)
    call5(three, tcg, _STORE, now, tcg + ld64(tcg + _ENV), _EIP)
    call4(two, tcg, _MOVE, engine, uc)  # temporaries do not outlast a branch
    call4(two, tcg, _MOVE, address, linear)
    call4(two, tcg, _MOVE_32, size, 0)
    call4(two, tcg, _MOVE, words, b)
    for each in (length, now, kick, limit):
        call2(ld64(b + _F_FREE), tcg, each)
    return label


@kernel
def end(b, tcg, label):  # type: ignore[no-untyped-def]
    """Set the label behind the call."""
    st8(label, ld8(label) | _PRESENT)
    call3(ld64(b + _F_OP1), tcg, _LABEL, label)
    return 0


__all__ = ["count", "end", "temporary"]
