"""What generated code calls: Unicorn's helpers, less one, with others replaced, and the block hook.

The translator emits each call of a helper through ``tcg_gen_callN``, with the helper's address, under which it also
looks up what the helper takes and returns. So Unicorn's own function emits the call, and then the address in the
emitted operation is changed. A table says for which helpers; engines that are not ours, in the same process, keep
Unicorn's.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call5, kernel, ld8, ld32, ld64, st64
from hypervisor.engine.kernels.stopping.idle import jumps_to_itself
from hypervisor.engine.kernels.translation import block_start, coverage_code

_TCG_UC, _TCG_LAST, _OP_COUNTS, _OP_ARGS = l_.TCG_UC, l_.TCG_LAST_OP, l_.OP_COUNTS, l_.OP_ARGS
_TCG_PUSHF, _OPS, _OP_BEFORE = l_.TCG_PUSHF, l_.TCG_NB_OPS, l_.OP_BEFORE
_WITH_EDGES, _WITH_BLOCKS = b_.TRACE_EDGES, b_.TRACE_BLOCKS
_OURS, _UC_CPU, _TO_ENV, _OPAQUE = l_.UC_NO_EXIT_REQUEST, l_.UC_CPU, l_.CPU_TO_ENV, l_.CPU_OPAQUE
_HFLAGS, _SHADOW = l_.HFLAGS, l_.HF_INHIBIT_IRQ


@kernel
def redirect(tcg, function):  # type: ignore[no-untyped-def]
    """Have the call that was emitted last call another function."""
    op = ld64(tcg + _TCG_LAST)
    counts = ld8(op + _OP_COUNTS)  # results and arguments stand before the function
    st64(op + _OP_ARGS + 8 * ((counts & 15) + (counts >> 4)), function)
    return 0


@kernel
def _emit_block_start(tcg, function, result, count, arguments, table):  # type: ignore[no-untyped-def]
    """The call of the block hook, and what belongs to it."""
    original, cpu = ld64(table), ld64(ld64(tcg + _TCG_UC) + _UC_CPU)
    b = ld64(cpu + _OPAQUE)
    before = ld64(ld64(tcg + _TCG_LAST) + _OP_BEFORE)
    address = ld64(before + _OP_ARGS + 8)  # a constant, moved to its temporary by the last operation but one
    if jumps_to_itself(cpu + _TO_ENV):
        call5(original, tcg, function, result, count, arguments)
        redirect(tcg, ld64(table + 16))
    elif ld64(table + 24):
        label = block_start.count(b, tcg, arguments)
        call5(original, tcg, function, result, count, arguments)
        block_start.end(b, tcg, label)
    else:
        call5(original, tcg, function, result, count, arguments)
    noted = coverage_code.wanted(cpu, tcg)
    if noted & _WITH_EDGES:
        coverage_code.emit_edge(b, tcg, address)
    if noted & _WITH_BLOCKS:
        operations = ld32(tcg + _OPS)
        label = coverage_code.before_note(b, tcg, address, arguments)
        call5(original, tcg, function, result, count, arguments)
        redirect(tcg, ld64(table + 32))
        coverage_code.after_note(b, tcg, label, operations)
    return 0


@kernel
def emit_call(tcg, function, result, count, arguments, table):  # type: ignore[no-untyped-def]
    """``tcg_gen_callN``, which lies at the table's first word. Behind it: the block hook, and what is called instead in
    a block that is a jump to itself; whether generated code counts blocks by itself (`block_start`); what notes a block
    for a VM that has coverage on; ``read_eflags``, and what is called instead for PUSHF in virtual-8086 mode;
    ``lookup_tb_ptr``, and what is called instead in the shadow of STI or MOV SS, of which Unicorn makes a block of one
    instruction; then how many pairs of a helper and what is called instead (0: nothing) follow, by the helpers'
    addresses.
    """
    original = ld64(table)
    count_at = table + 72
    rows = table + 80
    instead = function
    uc = ld64(tcg + _TCG_UC)
    if ld8(uc + _OURS):
        if function == ld64(table + 8):
            return _emit_block_start(tcg, function, result, count, arguments, table)
        first, end = 0, ld64(count_at)
        while first < end:
            middle = (first + end) >> 1
            if ld64(rows + 16 * middle) < function:
                first = middle + 1
            else:
                end = middle
        if first < ld64(count_at) and ld64(rows + 16 * first) == function:
            instead = ld64(rows + 16 * first + 8)
        if function == ld64(table + 40) and ld64(tcg + _TCG_PUSHF):
            instead = ld64(table + 48)
        if function == ld64(table + 56) and ld32(ld64(uc + _UC_CPU) + _TO_ENV + _HFLAGS) & _SHADOW:
            instead = ld64(table + 64)
    if instead == 0:
        return 0
    call5(original, tcg, function, result, count, arguments)
    if instead != function:
        redirect(tcg, instead)
    return 0


__all__ = ["emit_call", "redirect"]
