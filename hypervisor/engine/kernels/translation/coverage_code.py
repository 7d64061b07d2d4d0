"""What generated code does at the start of each block while the VM has coverage on (`kernels.coverage.entered`).

Translations with it are for such VMs alone: Unicorn keeps blocks apart by a word of the CPU (``trace_dstate``, there
for QEMU's events), which a pCPU sets when it is given a VM. Without coverage nothing is emitted.

Behind the look at the deadline these operations are emitted, which mean::

    at = edges + (number ^ previous); [at] += 1; previous = number >> 1
    if table[row] != address: entered(b, address)

each only if it is asked for. What is executed by a single instruction, or is the rest of a block, says nothing: its
block has begun before, or `run_loop.on_block` says it.

Operations and temporaries are given back to the translator's accounts, so that blocks end where they do without.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call1, call2, call4, call5, kernel, ld32, ld64, st32
from hypervisor.engine.kernels.coverage.entered import number_of, row_of
from hypervisor.engine.kernels.translation.block_start import end, temporary

_EDGES, _PREVIOUS, _TABLE = b_.EDGES, b_.PREVIOUS, b_.BLOCK_TABLE
_F_OP2, _F_OP3, _F_BRANCH, _F_LABEL, _F_FREE = (
    b_.F_TCG_OP2, b_.F_TCG_OP3, b_.F_TCG_BRANCH, b_.F_TCG_LABEL, b_.F_TCG_FREE,
)  # fmt: skip
_MOVE, _MOVE_32, _LOAD, _STORE, _LOAD_8, _STORE_8, _ADD, _XOR = (
    l_.OP_MOVI_I64, l_.OP_MOVI_I32, l_.OP_LD_I64, l_.OP_ST_I64, l_.OP_LD8U_I64, l_.OP_ST8_I64, l_.OP_ADD_I64,
    l_.OP_XOR_I64,
)  # fmt: skip
_OPS, _CFLAGS, _COUNT, _EQUAL = l_.TCG_NB_OPS, l_.TCG_CFLAGS, l_.CF_COUNT, l_.COND_EQ
_TRACED = l_.CPU_TRACED
_WITH_EDGES, _WITH_BLOCKS = b_.TRACE_EDGES, b_.TRACE_BLOCKS


@kernel
def wanted(cpu, tcg):  # type: ignore[no-untyped-def]
    """What the block that is being translated is to do: bits of `b_.TRACE_EDGES` and `b_.TRACE_BLOCKS`."""
    return 0 if ld32(tcg + _CFLAGS) & _COUNT else ld64(cpu + _TRACED)


@kernel
def emit_edge(b, tcg, address):  # type: ignore[no-untyped-def]
    """The map of edges."""
    two, three, operations = ld64(b + _F_OP2), ld64(b + _F_OP3), ld32(tcg + _OPS)
    words, at, value, one = temporary(b, tcg), temporary(b, tcg), temporary(b, tcg), temporary(b, tcg)
    number = number_of(address)
    call4(two, tcg, _MOVE, words, b)
    call5(three, tcg, _LOAD, at, words, _PREVIOUS)
    call4(two, tcg, _MOVE, value, number)
    call5(three, tcg, _XOR, at, at, value)
    call5(three, tcg, _LOAD, value, words, _EDGES)
    call5(three, tcg, _ADD, at, at, value)
    call5(three, tcg, _LOAD_8, value, at, 0)
    call4(two, tcg, _MOVE, one, 1)
    call5(three, tcg, _ADD, value, value, one)
    call5(three, tcg, _STORE_8, value, at, 0)
    call4(two, tcg, _MOVE, value, number >> 1)
    call5(three, tcg, _STORE, value, words, _PREVIOUS)
    for each in (words, at, value, one):
        call2(ld64(b + _F_FREE), tcg, each)
    st32(tcg + _OPS, operations)
    return 0


@kernel
def before_note(b, tcg, address, arguments):  # type: ignore[no-untyped-def]
    """The look into the table of blocks. A call with ``arguments`` (the engine, the address, the size, `b`) is to
    follow, and `after_note` with the label that this returns.
    """
    two, three = ld64(b + _F_OP2), ld64(b + _F_OP3)
    at, value = temporary(b, tcg), temporary(b, tcg)
    call4(two, tcg, _MOVE, at, b)
    call5(three, tcg, _LOAD, at, at, _TABLE)
    call5(three, tcg, _LOAD, at, at, row_of(address))
    call4(two, tcg, _MOVE, value, address)
    label = call1(ld64(b + _F_LABEL), tcg)
    call5(ld64(b + _F_BRANCH), tcg, _EQUAL, at - tcg, value - tcg, label)
    for each in (at, value):
        call2(ld64(b + _F_FREE), tcg, each)
    call4(two, tcg, _MOVE, ld64(arguments), b)  # temporaries do not outlast a branch
    call4(two, tcg, _MOVE, ld64(arguments + 8), address)
    call4(two, tcg, _MOVE_32, ld64(arguments + 16), 0)
    call4(two, tcg, _MOVE, ld64(arguments + 24), b)
    return label


@kernel
def after_note(b, tcg, label, operations):  # type: ignore[no-untyped-def]
    """Behind that call; ``operations`` is how many there were before."""
    end(b, tcg, label)
    st32(tcg + _OPS, operations)
    return 0


__all__ = ["after_note", "before_note", "emit_edge", "wanted"]
