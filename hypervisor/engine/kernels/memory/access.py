"""Host memory behind guest-physical addresses, EFLAGS, and the hidden flags that follow from other registers."""

from __future__ import annotations

from hypervisor.arch.flags import (
    CR0_EM,
    CR0_MP,
    CR0_PE,
    CR0_TS,
    CR4_OSFXSR,
    CR4_SMAP,
    EFER_LMA,
    RFLAGS_DF,
    RFLAGS_FIXED,
    RFLAGS_LOADABLE,
    RFLAGS_VM,
)
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call1, call3, inlined, kernel, ld8, ld16, ld32, ld64, st32, st64
from hypervisor.engine.kernels.by_pointer import covered as far_covered
from hypervisor.engine.kernels.by_pointer import own
from hypervisor.engine.kernels.memory.walked_tables import forget_tables
from hypervisor.memory import map_words as m_

_ENV, _RAM, _A20, _GENERATIONS = b_.ENV, b_.RAM, b_.A20, b_.GENERATIONS
_SHOWN, _BASE_MAP, _ELSEWHERE, _PAGES = (b_.MAP + n for n in (m_.SHOWN, m_.BASE, m_.ELSEWHERE, m_.PAGES))
_CPU, _UC, _F_TLB_FLUSH, _F_MADVISE = b_.CPU, b_.UC, b_.F_TLB_FLUSH, b_.F_MADVISE
_F_REG_READ, _SCRATCH = b_.F_REG_READ, b_.SCRATCH
_DEVICE_PAGE = b_.DEVICE_PAGE
_EPOCH, _NOTES, _NOTES_SIZE, _LAST_EPOCH, _DONTNEED = b_.EPOCH, b_.EXECUTABLE_AT, b_.NOTES_SIZE, b_.NOTE_MANY - 1, 4
_MAP_RAM, _MAP_WRITE, _MAP_SHARED, _MAP_TRAPS, _MAP_ALIAS = (
    m_.MAP_RAM, m_.MAP_WRITE, m_.MAP_SHARED, m_.MAP_TRAPS, m_.MAP_ALIAS,
)  # fmt: skip
_FRAME, _LEAF_SHIFT, _IN_LEAF, _TO_WORD = m_.FRAME, m_.LEAF_SHIFT, m_.LEAF_PAGES - 1, m_.TO_WORD
_EFLAGS, _CC_OP, _CC_SRC, _DF, _HFLAGS, _CR0, _CR4, _EFER, _EIP = (
    l_.EFLAGS, l_.CC_OP, l_.CC_SRC, l_.DF, l_.HFLAGS, l_.CR0, l_.CR4, l_.EFER, l_.EIP,
)  # fmt: skip
_CC_MASK, _CC_OP_EFLAGS, _REG_EFLAGS = l_.CC_MASK, l_.CC_OP_EFLAGS, 25  # UC_X86_REG_EFLAGS
_CS, _SS, _DS, _ES = (l_.SEGS + l_.SEG_SIZE * n for n in (l_.CS, l_.SS, l_.DS, l_.ES))
_BASE, _FLAGS, _DPL, _LONG, _BIG = l_.SEG_BASE, l_.SEG_FLAGS, l_.SEG_DPL_SHIFT, l_.SEG_LONG, l_.SEG_BIG
_CPL, _LMA, _CS64, _CS32, _SS32, _ADDSEG, _OSFXSR, _SMAP = (
    l_.HF_CPL, l_.HF_LMA, l_.HF_CS64, l_.HF_CS32, l_.HF_SS32, l_.HF_ADDSEG, l_.HF_OSFXSR, l_.HF_SMAP,
)  # fmt: skip
_FPU_CONTROL = CR0_MP | CR0_EM | CR0_TS
_OF_PE, _OF_MP = l_.HF_PE // CR0_PE, l_.HF_MP // CR0_MP  # these bits of CR0 lie higher there
_HF_KEEP = ~(
    l_.HF_CPL | l_.HF_CS32 | l_.HF_SS32 | l_.HF_ADDSEG | l_.HF_PE | l_.HF_MP | l_.HF_EM | l_.HF_TS | l_.HF_LMA
    | l_.HF_CS64 | l_.HF_OSFXSR | l_.HF_SMAP
)  # fmt: skip


@kernel
def covered(b, page):  # type: ignore[no-untyped-def]
    """The map's word for a page that a layer of the map shows; 0 where nothing does."""
    word = ld64(ld64(ld64(b + _SHOWN) + 8 * (page >> _LEAF_SHIFT)) + 8 * (page & _IN_LEAF))
    base = ld64(ld64(b + _ELSEWHERE) + 8 * (page >> _LEAF_SHIFT)) << _LEAF_SHIFT | page & _IN_LEAF
    if word & _MAP_ALIAS:
        base = word >> 12
    elif word or base < _IN_LEAF + 1:
        return word
    else:
        word = _MAP_WRITE
    under = ld64(ld64(ld64(b + _BASE_MAP) + 8 * (base >> _LEAF_SHIFT)) + 8 * (base & _IN_LEAF))
    return (under & (word | ~_MAP_WRITE)) | (word & _MAP_TRAPS)


@inlined
def page_word(b, gpa):  # type: ignore[no-untyped-def]
    """The map's word for a guest-physical address, 0 where there is no memory."""
    page = (gpa & ld64(b + _A20)) >> 12
    if page >= ld64(b + _PAGES):
        return 0
    word = ld64(ld64(ld64(b + _SHOWN) + 8 * (page >> _LEAF_SHIFT)) + 8 * (page & _IN_LEAF))
    return word if word & _MAP_RAM else far_covered(b, page)


@kernel
def base_page(b, gpa):  # type: ignore[no-untyped-def]
    """The page of the base map that shows at a guest-physical address which is memory."""
    page = (gpa & ld64(b + _A20)) >> 12
    word = ld64(ld64(ld64(b + _SHOWN) + 8 * (page >> _LEAF_SHIFT)) + 8 * (page & _IN_LEAF))
    if word & _MAP_RAM:
        return page
    if word & _MAP_ALIAS:
        return word >> 12
    return ld64(ld64(b + _ELSEWHERE) + 8 * (page >> _LEAF_SHIFT)) << _LEAF_SHIFT | page & _IN_LEAF


@kernel
def host_address(b, gpa):  # type: ignore[no-untyped-def]
    """The process address of a guest-physical byte, to read it, or 0 where there is no memory."""
    word = page_word(b, gpa)
    if word & _MAP_RAM == 0:
        return 0
    return ld64(b + _RAM) + (word & _FRAME) + (gpa & 0xFFF)


@kernel
def own_address(b, gpa):  # type: ignore[no-untyped-def]
    """The process address of a guest-physical byte, to write it, or 0 where there is no memory that can be written."""
    word = page_word(b, gpa)
    if word & _MAP_WRITE == 0:
        return 0
    if word & _MAP_SHARED:
        word = own(b, base_page(b, gpa))
        if word == 0:
            return 0
    return ld64(b + _RAM) + (word & _FRAME) + (gpa & 0xFFF)


@kernel
def generation_at(b, frame):  # type: ignore[no-untyped-def]
    """Where a frame's generation is. It is odd while the frame may hold translated code."""
    return ld64(b + _GENERATIONS) + (frame >> _TO_WORD)


@kernel
def flush_tlb(b):  # type: ignore[no-untyped-def]
    """Empty Unicorn's TLB, of which the guest sees nothing (see `guest_tlb`)."""
    call1(ld64(b + _F_TLB_FLUSH), ld64(b + _CPU))
    epoch = ld64(b + _EPOCH) + 1
    if epoch > _LAST_EPOCH:  # notes of an epoch that comes again must not count
        call3(ld64(b + _F_MADVISE), ld64(b + _NOTES), ld64(b + _NOTES_SIZE), _DONTNEED)
        epoch = 1
    st64(b + _EPOCH, epoch)
    st64(b + _DEVICE_PAGE, -1)
    return forget_tables(b)


@kernel
def read_flags(b, inside):  # type: ignore[no-untyped-def]
    """EFLAGS, complete. ``inside`` says that a hook is running, where the arithmetic flags are still lazy. Whatever
    these are derived from, no other bit comes of it, and reserved bits are never set.
    """
    env = ld64(b + _ENV)
    flags = (ld64(env + _EFLAGS) & RFLAGS_LOADABLE) | RFLAGS_FIXED
    if inside == 0:
        return flags
    flags &= ~(_CC_MASK | RFLAGS_DF)
    if ld32(env + _DF) != 1:
        flags |= RFLAGS_DF
    if ld32(env + _CC_OP) == _CC_OP_EFLAGS:
        return flags | (ld64(env + _CC_SRC) & _CC_MASK)
    st64(b + _SCRATCH, 0)
    call3(ld64(b + _F_REG_READ), ld64(b + _UC), _REG_EFLAGS, b + _SCRATCH)
    return flags | (ld64(b + _SCRATCH) & _CC_MASK)


@kernel
def write_flags(b, flags, inside):  # type: ignore[no-untyped-def]
    """Replace EFLAGS as a whole, in the form that holds where we are, but for reserved bits."""
    env = ld64(b + _ENV)
    flags = (flags & RFLAGS_LOADABLE) | RFLAGS_FIXED
    if inside == 0:
        st64(env + _EFLAGS, flags)
        return 0
    st64(env + _CC_SRC, flags & _CC_MASK)
    st32(env + _CC_OP, _CC_OP_EFLAGS)
    st32(env + _DF, -1 if flags & RFLAGS_DF else 1)
    st64(env + _EFLAGS, flags & ~(_CC_MASK | RFLAGS_DF))
    return 0


@kernel
def sync_hflags(b):  # type: ignore[no-untyped-def]
    """Derive the CPU's hidden flags from CR0, CR4, EFER and the segments, as the CPU does when it loads those."""
    env = ld64(b + _ENV)
    cr0 = ld64(env + _CR0)
    cr4 = ld64(env + _CR4)
    efer = ld64(env + _EFER)
    cs = ld32(env + _CS + _FLAGS)
    ss = ld32(env + _SS + _FLAGS)
    vm = ld64(env + _EFLAGS) & RFLAGS_VM
    hf = ld32(env + _HFLAGS) & _HF_KEEP
    hf |= (cr0 & CR0_PE) * _OF_PE | (cr0 & _FPU_CONTROL) * _OF_MP
    if efer & EFER_LMA:
        hf |= _LMA
    hf |= (_OSFXSR if cr4 & CR4_OSFXSR else 0) | (_SMAP if cr4 & CR4_SMAP else 0)
    if cr0 & CR0_PE:
        hf |= _CPL if vm else (ss >> _DPL) & _CPL
    if (efer & EFER_LMA) and (cs & _LONG):
        hf |= _CS32 | _SS32 | _CS64
        st32(env + _HFLAGS, hf)
        return 0
    hf |= (_CS32 if cs & _BIG else 0) | (_SS32 if ss & _BIG else 0)
    if cr0 & CR0_PE == 0 or vm or cs & _BIG == 0:
        hf |= _ADDSEG
    elif ld64(env + _DS + _BASE) | ld64(env + _ES + _BASE) | ld64(env + _SS + _BASE):
        hf |= _ADDSEG
    st32(env + _HFLAGS, hf)
    return 0


@kernel
def cut_rip(b):  # type: ignore[no-untyped-def]
    """Outside 64-bit mode RIP has 32 bits; generated code keeps more where it jumps or runs over either end of them."""
    env = ld64(b + _ENV)
    if ld32(env + _HFLAGS) & _CS64 == 0:
        st64(env + _EIP, ld64(env + _EIP) & 0xFFFFFFFF)
    return 0


@kernel
def linear_rip(b):  # type: ignore[no-untyped-def]
    """RIP as a linear address."""
    env = ld64(b + _ENV)
    rip = ld64(env + _EIP)
    if ld32(env + _HFLAGS) & _CS64:
        return rip
    return (ld64(env + _CS + _BASE) + rip) & 0xFFFFFFFF


__all__ = [
    "base_page", "covered", "cut_rip", "flush_tlb", "generation_at", "host_address", "ld8", "ld16", "linear_rip",
    "own_address", "page_word", "read_flags", "sync_hflags", "write_flags",
]  # fmt: skip
