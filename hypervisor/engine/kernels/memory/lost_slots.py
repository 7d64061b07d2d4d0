"""A slot of the swap file that cannot be read from the disk: its VM is stopped, and the process lives.

The host's system sends SIGBUS to the thread that has touched such a slot, wherever it is: in generated code, in a page
walk, in Python's own code. The handler (`last_words.on_signal`) comes here. The slot becomes memory that reads as
zeros, for whoever was about to read it must get something, and is marked: a guest is left at the end of its block,
nothing that it asks for until then reaches a device, and whoever reads for the host finds the mark behind his reading
(`hypervisor.memory.page_map`). So nobody goes on with bytes that were not there.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine.jit import add64, call6, kernel, ld32, ld64, st8, st64
from hypervisor.memory import map_words as m_

_MEMORY, _END, _SLOTS_END, _LOST, _LOST_AT = m_.MEMORY, m_.END, m_.SLOTS_END, m_.LOST, m_.LOST_AT
_MAP, _SWAPS, _MOST = b_.SIGNAL_MAP, b_.SIGNAL_SWAPS, b_.SIGNAL_MOST_SWAPS
_NO_FRAME, _DEADLINE, _PAGE_LOST = b_.NO_FRAME, b_.DEADLINE, b_.PAGE_LOST
_SI_CODE, _SI_ADDRESS = 8, 16  # siginfo_t
_SIGBUS = 7
_READ, _PRIVATE_FIXED_ANONYMOUS = 1, 0x32  # mmap
_SIZE = 4096


@kernel
def _table_of(signals, address):  # type: ignore[no-untyped-def]
    """The frame table of the host that has a slot at a process address, or 0."""
    at = signals + _SWAPS
    for _ in range(_MOST):
        table = ld64(at)
        if table:
            slot = address - ld64(table + _MEMORY)
            if slot >= ld64(table + _END) and slot < ld64(table + _SLOTS_END):
                return table
        at += 8
    return 0


@kernel
def lost(signals, number, info, b):  # type: ignore[no-untyped-def]
    """Whether a signal says that a slot cannot be read, and it reads as zeros now. ``signals`` is the table of
    `fatal_signals`, ``b`` the block of the pCPU that runs a guest on this thread, or 0.
    """
    if number != _SIGBUS or ld32(info + _SI_CODE) == 0 or ld32(info + _SI_CODE) >> 31:
        return 0  # somebody has sent it
    page = ld64(info + _SI_ADDRESS) & ~(_SIZE - 1)
    table = _table_of(signals, page)
    if table == 0:
        return 0
    if call6(ld64(signals + _MAP), page, _SIZE, _READ, _PRIVATE_FIXED_ANONYMOUS, -1, 0) != page:
        return 0
    st8(ld64(table + _LOST_AT) + ((page - ld64(table + _MEMORY) - ld64(table + _END)) >> 12), 1)
    add64(table + _LOST, 1)
    if b:
        st64(b + _NO_FRAME, _PAGE_LOST)
        st64(b + _DEADLINE, 0)
    return 1


__all__ = ["lost"]
