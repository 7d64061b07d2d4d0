"""Unicorn's TLB: how its entries are made, and how large it grows.

A fill of ours grants a write only to a frame without translated code, or together with the right to execute, and nearly
always it is for memory, which is one region. So there is nothing to look up and nothing to look for: the entry is put
where generated code finds it (`enter`), as Unicorn's ``tlb_set_page`` would, but for NOTDIRTY. (It marks each writable
entry so, and the first store through it takes a slow path that looks for translated code in the page.)

Each flush doubles the TLB while more than 70% of it is used, up to 4 million entries: 320 MiB for each of its three
indexes, for a guest whose tables map one frame often enough, and every later flush has to clear them. It stays at
`MOST_ENTRIES`.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call2, inlined, kernel, ld8, ld16, ld64, seldom, st16, st64

_FAST, _DESCRIPTOR, _ENTRY_SHIFT = l_.TLB_FAST, l_.TLB_FAST_SIZE, l_.TLB_ENTRY_SHIFT
_WRITE, _CODE, _PADDR, _ADDEND = l_.TLB_ADDR_WRITE, l_.TLB_ADDR_CODE, l_.TLB_PADDR, l_.TLB_ADDEND
_ENTRY_SIZE = 1 << l_.TLB_ENTRY_SHIFT
_SLOW, _SLOW_SIZE, _USED, _MOST, _INDEXES = (
    l_.TLB_SLOW, l_.TLB_SLOW_SIZE, l_.TLB_USED, l_.TLB_WINDOW_MOST, l_.TLB_INDEXES,
)  # fmt: skip
_DIRTY, _VICTIM_NEXT, _VICTIMS, _VICTIM_COUNT = l_.TLB_DIRTY, l_.TLB_VICTIM_NEXT, l_.TLB_VICTIMS, l_.VICTIMS
_DEVICES, _VICTIM_DEVICES, _DEVICE_SIZE = l_.TLB_DEVICES, l_.TLB_VICTIM_DEVICES, l_.TLB_DEVICE_SIZE
_ENV, _RAM = b_.ENV, b_.RAM
_CPU_UC, _OURS, _TO_ENV = l_.CPU_UC, l_.UC_NO_EXIT_REQUEST, l_.CPU_TO_ENV

MOST_ENTRIES = 1 << 14
"""Entries of the TLB for each MMU index: 1.25 MiB, for 64 MiB of guest memory."""

_LARGEST = (MOST_ENTRIES - 1) << _ENTRY_SHIFT
_PAGE, _EMPTY = ~0xFFF | l_.TLB_INVALID, -1


@inlined
def _is_for(entry, va):  # type: ignore[no-untyped-def]
    """Whether an entry is for the page at ``va``, for whatever access."""
    return ld64(entry) & _PAGE == va or ld64(entry + _WRITE) & _PAGE == va or (ld64(entry + _CODE) & _PAGE == va)


@kernel
def _is_empty(entry):  # type: ignore[no-untyped-def]
    return ld64(entry) & ld64(entry + _WRITE) & ld64(entry + _CODE) == _EMPTY


@kernel
def _forget_victim(slow, va):  # type: ignore[no-untyped-def]
    """No victim is for the page at ``va`` any more."""
    seldom()
    victim = slow + _VICTIMS
    for _ in range(_VICTIM_COUNT):
        if _is_for(victim, va):
            for word in range(0, _ENTRY_SIZE, 8):
                st64(victim + word, _EMPTY)
            st64(slow + _USED, ld64(slow + _USED) - 1)
        victim += _ENTRY_SIZE
    return 0


@kernel
def _displace(slow, entry, place):  # type: ignore[no-untyped-def]
    """The entry at ``place`` of the fast part becomes a victim."""
    seldom()
    count = ld64(slow + _VICTIM_NEXT)
    number = count & (_VICTIM_COUNT - 1)
    st64(slow + _VICTIM_NEXT, count + 1)
    victim = slow + _VICTIMS + _ENTRY_SIZE * number
    if _is_empty(victim):
        st64(slow + _USED, ld64(slow + _USED) + 1)  # victims count: Unicorn counts them down when it drops them
    for word in range(0, _ENTRY_SIZE, 8):
        st64(victim + word, ld64(entry + word))
    beside, victim = ld64(slow + _DEVICES) + _DEVICE_SIZE * place, slow + _VICTIM_DEVICES + _DEVICE_SIZE * number
    st64(victim, ld64(beside))
    st64(victim + 8, ld64(beside + 8))
    return 0


@inlined
def enter(b, index, va, frame, perm):  # type: ignore[no-untyped-def]
    """Have the page at linear ``va`` be a frame of memory, for these accesses (1 read, 2 write, 4 execute)."""
    env = ld64(b + _ENV)
    fast = env + _FAST + _DESCRIPTOR * index
    slow = env + _SLOW + _SLOW_SIZE * index
    at = (va >> (12 - _ENTRY_SHIFT)) & ld64(fast)
    entry = ld64(fast + 8) + at
    if ld64(slow + _VICTIM_NEXT):
        _forget_victim(slow, va)
    if _is_empty(entry):
        st64(slow + _USED, ld64(slow + _USED) + 1)
    elif not _is_for(entry, va):
        _displace(slow, entry, at >> _ENTRY_SHIFT)
    st16(env + _DIRTY, ld16(env + _DIRTY) | 1 << index)
    st64(entry, va if perm & 1 else _EMPTY)
    st64(entry + _WRITE, va if perm & 2 else _EMPTY)
    st64(entry + _CODE, va if perm & 4 else _EMPTY)
    st64(entry + _PADDR, frame)
    st64(entry + _ADDEND, ld64(b + _RAM) + frame - va)
    return 1


@kernel
def flush(cpu, indexes, original):  # type: ignore[no-untyped-def]
    """Unicorn's ``tlb_flush_by_mmuidx``, which lies at ``original``, without growing beyond `MOST_ENTRIES`."""
    ours, env = ld8(ld64(cpu + _CPU_UC) + _OURS), cpu + _TO_ENV
    for n in range(_INDEXES):
        if ours and ld64(env + _FAST + _DESCRIPTOR * n) >= _LARGEST:
            st64(env + _SLOW + _SLOW_SIZE * n + _USED, 0)
            st64(env + _SLOW + _SLOW_SIZE * n + _MOST, 0)
    return call2(original, cpu, indexes)


__all__ = ["enter", "flush"]
