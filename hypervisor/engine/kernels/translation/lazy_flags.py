"""How the arithmetic flags are derived, told to a helper that asks.

Unicorn derives them late: CC_OP says how. While a block is translated this is known, so it is stored only where it is
read (``gen_update_cc_op`` of translate.c). CMPXCHG8B and CMPXCHG16B change ZF alone (AMD64 APM volume 3); their helpers
compute the others by CC_OP, but nothing is stored before their call. So they could take an operand of an earlier
instruction for the flags themselves, and RFLAGS got any of its bits, IOPL and reserved ones among them.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call4, kernel, ld8, ld32, ld64, st8

_UC, _TCG, _F_OP2 = l_.DISAS_UC, l_.UC_TCG_CONTEXT, b_.F_TCG_OP2
_DERIVED, _LAGS, _CC_OP, _MOVE = l_.DISAS_CC_OP, l_.DISAS_CC_OP_DIRTY, l_.TCG_CC_OP, l_.OP_MOVI_I32


@kernel
def tell(b, context):  # type: ignore[no-untyped-def]
    """Emit a store of how the flags are derived, before the instruction that is to be translated."""
    if ld8(context + _LAGS):
        tcg = ld64(ld64(context + _UC) + _TCG)
        call4(ld64(b + _F_OP2), tcg, _MOVE, tcg + ld64(tcg + _CC_OP), ld32(context + _DERIVED))
        st8(context + _LAGS, 0)
    return 0


__all__ = ["tell"]
