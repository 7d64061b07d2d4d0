"""Where a block goes on that ends with an indirect branch, a return or a jump out of its page, in LLVM's language.

Unicorn's ``lookup_tb_ptr`` looks in the CPU's cache of blocks by address, then in the table of all. What is in the
cache is answered here, in half the instructions; the rest tail-calls a piece of machine code that looks at RIP first
(`interpose`). RIP needs no look for what is in the cache: no block was ever translated at an address that is not
canonical. It means::

    tb = cache[hash(pc)]
    return tb.code if tb is for this pc, CS base and flags else look_further(env)
"""

from __future__ import annotations

from typing import Any

from hypervisor.arch.flags import RFLAGS_AC, RFLAGS_IOPL, RFLAGS_RF, RFLAGS_TF, RFLAGS_VM
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_

SYMBOL = "hypervisor_next_block"
SIGNATURE = "l(l)"
_FLAGS = RFLAGS_TF | RFLAGS_IOPL | RFLAGS_RF | RFLAGS_VM | RFLAGS_AC
"""What of RFLAGS a block is translated for."""


def compile_next() -> tuple[str, bytes]:
    """Native code of the lookup: (symbol, object file)."""
    from llvmlite import ir

    from hypervisor.engine.compiling.object_file import object_file

    word, narrow = ir.IntType(64), ir.IntType(32)
    kind = ir.FunctionType(word, [word])
    module = ir.Module("next_block")
    function = ir.Function(module, kind, SYMBOL)
    (env,) = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    missed = function.append_basic_block("missed")

    def load(base: Any, offset: int, size: Any = word) -> Any:
        return builder.load(builder.inttoptr(builder.add(base, word(offset)), size.as_pointer()))

    def go_on_if(condition: Any) -> None:
        following = builder.append_basic_block("next")
        builder.cbranch(condition, following, missed)
        builder.position_at_end(following)

    base = load(env, l_.SEGS + l_.SEG_SIZE * l_.CS + l_.SEG_BASE)
    pc = builder.add(base, load(env, l_.EIP))
    flags = builder.or_(builder.and_(load(env, l_.EFLAGS, narrow), narrow(_FLAGS)), load(env, l_.HFLAGS, narrow))
    half = word(l_.JUMP_CACHE_BITS // 2)
    mixed = builder.xor(pc, builder.lshr(pc, half))
    low = word((1 << l_.JUMP_CACHE_BITS // 2) - 1)
    high = word((1 << l_.JUMP_CACHE_BITS) - (1 << l_.JUMP_CACHE_BITS // 2))
    number = builder.or_(builder.and_(builder.lshr(mixed, half), high), builder.and_(mixed, low))
    tb = load(builder.add(env, builder.shl(number, word(3))), l_.CPU_JUMP_CACHE - l_.CPU_TO_ENV)
    go_on_if(builder.icmp_signed("!=", tb, word(0)))
    go_on_if(builder.icmp_signed("==", load(tb, l_.TB_PC), pc))
    go_on_if(builder.icmp_signed("==", load(tb, l_.TB_CS_BASE), base))
    go_on_if(builder.icmp_signed("==", load(tb, l_.TB_FLAGS, narrow), flags))
    kept = builder.and_(load(tb, l_.TB_CFLAGS, narrow), narrow(l_.TB_SPECIAL))
    go_on_if(builder.icmp_signed("==", kept, narrow(0)))
    builder.ret(load(tb, l_.TB_CODE))
    builder.position_at_end(missed)
    b = load(env, l_.CPU_OPAQUE - l_.CPU_TO_ENV)
    target = builder.inttoptr(load(b, b_.F_MISSED_BLOCK), kind.as_pointer())
    builder.ret(builder.call(target, [env], tail=True))
    return SYMBOL, object_file(module)
