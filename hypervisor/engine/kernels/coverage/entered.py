"""A block begins: what a VM's coverage notes of it.

The map of edges is AFL's: a block has a number of 16 bits, mixed from its linear address, and ::

    edges[number ^ previous] += 1; previous = number >> 1

Blocks say so in code of their own (`kernels.translation.coverage_code`). Here is the same for those that cannot: a
block that is executed in steps, and rounds of an idle loop that are skipped. Each block is counted once, however often
the host makes the guest leave it (`kernels.stopping.rest_of_block`), so the map is the guest's alone.

The table of blocks has rows of a linear address and of bytes, at the hash of the address or in the next free row.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine.jit import kernel, ld8, ld64, st8, st64

_EDGES, _PREVIOUS, _TABLE = b_.EDGES, b_.PREVIOUS, b_.BLOCK_TABLE
_ROWS, _MASK = b_.BLOCK_ROWS, b_.BLOCK_ROWS - 1
_MIX = b_.signed(0x9E3779B97F4A7C15)  # 2**64 by the golden ratio: neighbours come to lie far apart
_TRIES = 64


@kernel
def number_of(address):  # type: ignore[no-untyped-def]
    """A block's number, from its linear address: the highest bits of a product, of 64."""
    return (address * _MIX) >> 48 & 0xFFFF


@kernel
def row_of(address):  # type: ignore[no-untyped-def]
    """Where the block's row is, unless another has it: an offset into the table."""
    return 16 * ((address * _MIX) >> 40 & _MASK)


@kernel
def note(b, address, size):  # type: ignore[no-untyped-def]
    """Put a block into the table, if it is not there and there is room."""
    table, at = ld64(b + _TABLE), row_of(address)
    for _ in range(_TRIES):
        if ld64(table + at + 8) == 0:
            st64(table + at, address)
            st64(table + at + 8, size)
            return 0
        if ld64(table + at) == address:
            return 0
        at = (at + 16) & (16 * _ROWS - 16)
    st64(table + 16 * _ROWS, 1)
    return 0


@kernel
def _edge(b, number):  # type: ignore[no-untyped-def]
    at = ld64(b + _EDGES) + (number ^ ld64(b + _PREVIOUS))
    st8(at, (ld8(at) + 1) & 0xFF)
    st64(b + _PREVIOUS, number >> 1)
    return 0


@kernel
def entered(b, address, size):  # type: ignore[no-untyped-def]
    """The block of ``size`` bytes at linear ``address`` begins."""
    if ld64(b + _EDGES):
        _edge(b, number_of(address))
    if ld64(b + _TABLE):
        note(b, address, size)
    return 0


@kernel
def went_round(b, first, second, rounds):  # type: ignore[no-untyped-def]
    """So many rounds of a loop of two blocks, or of one that is both, which were skipped: as if they had been
    executed. Their blocks are in the table already.
    """
    if ld64(b + _EDGES) == 0 or rounds <= 0:
        return 0
    for _ in range(1 + ((rounds - 1) & 0xFF)):  # from the second on each round is the same, and counts have 8 bits
        _edge(b, number_of(first))
        if second != first:
            _edge(b, number_of(second))
    return 0


__all__ = ["entered", "note", "number_of", "row_of", "went_round"]
