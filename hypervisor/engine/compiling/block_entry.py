"""The block hook's fast path, written in LLVM's language.

It runs at every block, so it is worth what a compiler for Python functions cannot do: no frame, no status, a tail call
into the slow path (`hooks.block`). It means::

    if now < deadline and not kick: now += size; block_end = address + size
    else: hooks.block(uc, address, size, b)

`b_.KICK` has a word of its own because other threads write it: what only this pCPU's thread writes cannot lose a kick
that comes at the same moment, in whatever order the processor makes its stores visible.
"""

from __future__ import annotations

from typing import Any

from hypervisor.engine import block as b_

SYMBOL = "hypervisor_block_entry"
SIGNATURE = "v(llul)"


def compile_entry() -> tuple[str, bytes]:
    """Native code of the fast path: (symbol, object file)."""
    from llvmlite import ir

    from hypervisor.engine.compiling.object_file import object_file

    word, narrow = ir.IntType(64), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [word, word, narrow, word])
    module = ir.Module("block_entry")
    function = ir.Function(module, kind, SYMBOL)
    uc, address, size, b = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    fast, slow = function.append_basic_block("fast"), function.append_basic_block("slow")

    def at(offset: int) -> Any:
        return builder.inttoptr(builder.add(b, word(offset)), word.as_pointer())

    now = builder.load(at(b_.NOW))
    quiet = builder.append_basic_block("quiet")
    builder.cbranch(builder.icmp_signed("<", now, builder.load(at(b_.DEADLINE))), quiet, slow)
    builder.position_at_end(quiet)
    builder.cbranch(builder.icmp_signed("==", builder.load(at(b_.KICK)), word(0)), fast, slow)
    builder.position_at_end(fast)
    wide = builder.zext(size, word)
    builder.store(builder.add(now, wide), at(b_.NOW))
    builder.store(builder.add(address, wide), at(b_.BLOCK_END))
    builder.ret_void()
    builder.position_at_end(slow)
    target = builder.inttoptr(builder.load(at(b_.F_BLOCK)), kind.as_pointer())
    builder.call(target, [uc, address, size, b], tail=True)
    builder.ret_void()
    return SYMBOL, object_file(module)
