"""The guest's own TLB: the translations that its vCPU knows, whatever the host does to Unicorn's TLB.

A guest can see what a TLB holds: an accessed bit that it cleared without a flush is set again by the next walk only,
and a table that it changed is used from then on. Unicorn's TLB is flushed where a VM comes to a pCPU or leaves it,
where a frame gets or loses code, and it grows with what others have used. So it decides nothing: what is in it is here,
too, and what is here is not walked again. Entries leave when the guest flushes, or when another takes their place,
which follows from what the guest has accessed; and Unicorn's TLB never keeps one that has left (`_drop`).

There is a part for data and one for code, each with one place for a page and way of access. An entry has two words: the
linear page | way + 1, and age << 32 | guest-physical page number << 4 | what a TLB entry may grant. It is valid while
its age is the vCPU's, so that a flush is one addition.
"""

from __future__ import annotations

from hypervisor.arch.flags import CR0_PG, CR4_SMAP
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call2, inlined, kernel, ld64, seldom, st64
from hypervisor.engine.kernels.by_pointer import walk_and_keep as far_walk_and_keep
from hypervisor.engine.kernels.memory.access import flush_tlb
from hypervisor.engine.kernels.memory.lookaside import forget
from hypervisor.engine.kernels.memory.page_walk import AC, FETCH, IMPLICIT, PEEK, USER, WRITE, walk

_ENV, _CPU, _CR0, _CR4, _F_TLB_FLUSH_PAGE = b_.ENV, b_.CPU, l_.CR0, l_.CR4, b_.F_TLB_FLUSH_PAGE
_TLB, _AGE = b_.GUEST_TLB, b_.GUEST_TLB_AGE
_W_VECTOR, _W_PERM, _W_SHIFT, _PERM_WRITE = b_.W_VECTOR, b_.W_PERM, b_.W_SHIFT, 2
_DATA_MASK, _DATA_BITS = b_.GUEST_TLB_DATA - 1, b_.GUEST_TLB_DATA.bit_length() - 3
_CODE_MASK, _CODE_BITS = b_.GUEST_TLB_CODE - 1, b_.GUEST_TLB_CODE.bit_length() - 3
_CODE_AT, _BLOOM_AT, _END = b_.GUEST_TLB_CODE_AT, b_.GUEST_TLB_BLOOM_AT, b_.GUEST_TLB_SIZE
_PAGE, _MAPPED, _OLDEST = ~0xFFF, 0xFFFFFFF0, (1 << 31) - 1
_LARGE, _HUGE = 21, 30  # sizes of pages as shifts

CHECKED, PROGRAM, FREE = 0, 1, 2
"""Ways of access, as Unicorn's MMU indexes: the kernel's with SMAP, the user's, the kernel's without."""
WAYS = 3


@kernel
def way_of(b, access, how):  # type: ignore[no-untyped-def]
    """The way of an access that is made as ``how`` says (see `page_walk`)."""
    if how & USER and how & IMPLICIT == 0:
        return PROGRAM
    if access == FETCH:  # to which SMAP is nothing
        return CHECKED
    if ld64(ld64(b + _ENV) + _CR4) & CR4_SMAP and (how & IMPLICIT or how & AC == 0):
        return CHECKED
    return FREE


@inlined
def _data(b, va, way):  # type: ignore[no-untyped-def]
    return ld64(b + _TLB) + 16 * (((va >> 12) ^ (way << _DATA_BITS)) & _DATA_MASK)


@inlined
def _code(b, va, way):  # type: ignore[no-untyped-def]
    return ld64(b + _TLB) + _CODE_AT + 16 * (((va >> 12) ^ (way << _CODE_BITS)) & _CODE_MASK)


@inlined
def _rights(b, slot, va, way):  # type: ignore[no-untyped-def]
    """The second word of the entry of a page, 0 if there is none."""
    if ld64(slot) != (va & _PAGE | way + 1):
        return 0
    word = ld64(slot + 8)
    return word if word >> 32 == ld64(b + _AGE) else 0


@kernel
def readable(b, va, way, gpa):  # type: ignore[no-untyped-def]
    """Whether the page at ``va`` may be read without a walk, and leads to ``gpa``."""
    if ld64(b + _TLB) == 0:
        return False
    word = _rights(b, _data(b, va, way), va, way)
    return word != 0 and (word & _MAPPED) << 8 == gpa & _PAGE


@inlined
def find(b, va, access, way):  # type: ignore[no-untyped-def]
    """The guest-physical address if this access needs no walk, with the results of one, else -1."""
    if access == FETCH:
        word = _rights(b, _code(b, va, way), va, way)
    else:
        word = _rights(b, _data(b, va, way), va, way)
        if access == WRITE and word & _PERM_WRITE == 0:
            return -1
    if word == 0:
        return -1
    st64(b + _W_VECTOR, -1)
    st64(b + _W_PERM, word & 7)
    return (word & _MAPPED) << 8 | va & 0xFFF


@kernel
def _drop(b, va):  # type: ignore[no-untyped-def]
    """An entry has left: Unicorn's TLB, and what the CPU's own accesses remember, must not have it either."""
    seldom()
    call2(ld64(b + _F_TLB_FLUSH_PAGE), ld64(b + _CPU), va)
    return forget(b)


@inlined
def _put(b, slot, va, way, word):  # type: ignore[no-untyped-def]
    age = ld64(b + _AGE)
    tag, before = va & _PAGE | way + 1, ld64(slot + 8)
    if before >> 32 == age and (ld64(slot) != tag or (before ^ word) & _MAPPED):
        _drop(b, ld64(slot) & _PAGE)
    st64(slot, tag)
    st64(slot + 8, age << 32 | word)
    return 0


@kernel
def _note_size(b, va, shift):  # type: ignore[no-untyped-def]
    """A page of this size (as a shift) comes in: note where it lies, if it is a large one."""
    if shift < _LARGE:
        return 0
    index = (va >> _LARGE) & (b_.BLOOM_BITS - 1)
    at = ld64(b + _TLB) + _BLOOM_AT + 8 * (index >> 6)
    if shift < _HUGE:
        bits = 1 if shift == _LARGE else 3  # 2 MiB or 4
        st64(at, ld64(at) | bits << (index & 63 & ~(bits >> 1)))
        return 0
    at &= ~63
    for word in range(0, 64, 8):
        st64(at + word, -1)
    return 0


@inlined
def _entry(gpa, perm):  # type: ignore[no-untyped-def]
    return gpa >> 12 << 4 | perm & 7


@kernel
def keep(b, va, access, way, gpa):  # type: ignore[no-untyped-def]
    """Remember a walk that has led to ``gpa``."""
    _note_size(b, va, ld64(b + _W_SHIFT))
    word = _entry(gpa, ld64(b + _W_PERM))
    if access == FETCH:
        return _put(b, _code(b, va, way), va, way, word)
    return _put(b, _data(b, va, way), va, way, word)


@kernel
def keep_code(b, va, how, gpa, perm):  # type: ignore[no-untyped-def]
    """The page at ``va`` is in the part for data, and with these rights may be executed from now on without a walk.

    How large it is was noted when it came in. (W_SHIFT may be of another VM's walk by now.)
    """
    way = way_of(b, FETCH, how)
    if ld64(b + _TLB) and ld64(ld64(b + _ENV) + _CR0) & CR0_PG and find(b, va, FETCH, way) < 0:
        _put(b, _code(b, va, way), va, way, _entry(gpa, perm))
    return 0


@inlined
def _is_used(b):  # type: ignore[no-untyped-def]
    """Whether paging is on, and the vCPU has a TLB."""
    return ld64(ld64(b + _ENV) + _CR0) & CR0_PG != 0 and ld64(b + _TLB) != 0


@inlined
def known(b, va, access, way):  # type: ignore[no-untyped-def]
    """`find`, whether or not paging is on."""
    return find(b, va, access, way) if _is_used(b) else -1


@kernel
def walk_and_keep(b, va, access, how, way):  # type: ignore[no-untyped-def]
    """`page_walk.walk`, where the guest's TLB does not know the address. With `PEEK` it does not learn it either."""
    gpa = walk(b, va, access, how)
    if ld64(b + _W_VECTOR) < 0 and how & PEEK == 0 and _is_used(b):
        keep(b, va, access, way, gpa)
    return gpa


@kernel
def translate(b, va, access, how):  # type: ignore[no-untyped-def]
    """`page_walk.walk` for an access of the guest's, through its TLB. With `PEEK` nothing is added to that."""
    way = way_of(b, access, how)
    gpa = known(b, va, access, way)
    return gpa if gpa >= 0 else far_walk_and_keep(b, va, access, how, way)


@kernel
def grow_older(b):  # type: ignore[no-untyped-def]
    """The guest flushes: no entry is valid any more. Unicorn's TLB is flushed by the caller."""
    table, age = ld64(b + _TLB), ld64(b + _AGE) + 1
    if age > _OLDEST:
        age = 1
        for at in range(0, _BLOOM_AT if table else 0, 8):
            st64(table + at, 0)
    st64(b + _AGE, age)
    return 0


@kernel
def flush_all(b):  # type: ignore[no-untyped-def]
    """The guest flushes everything, large pages included."""
    grow_older(b)
    table = ld64(b + _TLB)
    for at in range(_BLOOM_AT, _END if table else 0, 8):
        st64(table + at, 0)
    return flush_tlb(b)


@kernel
def _invalidate(b, slot, va, way):  # type: ignore[no-untyped-def]
    if _rights(b, slot, va, way):
        st64(slot + 8, 0)
    return 0


@kernel
def flush_page(b, va):  # type: ignore[no-untyped-def]
    """The guest flushes a page (INVLPG)."""
    table, index = ld64(b + _TLB), (va >> _LARGE) & (b_.BLOOM_BITS - 1)
    if table == 0 or ld64(table + _BLOOM_AT + 8 * (index >> 6)) >> (index & 63) & 1:
        return flush_all(b)  # the page may be part of a large one, which is here in pieces
    for way in range(WAYS):
        _invalidate(b, _data(b, va, way), va, way)
        _invalidate(b, _code(b, va, way), va, way)
    return _drop(b, va & _PAGE)


__all__ = [
    "CHECKED", "FREE", "PROGRAM", "find", "flush_all", "flush_page", "grow_older", "keep_code", "known", "readable",
    "translate", "walk_and_keep", "way_of",
]  # fmt: skip
