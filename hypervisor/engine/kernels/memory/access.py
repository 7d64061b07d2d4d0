"""Host memory behind guest-physical addresses, EFLAGS, and the hidden flags that follow from other registers."""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call1, call3, kernel, ld8, ld16, ld32, ld64, st32, st64

_ENV, _MAP, _MAP_PAGES, _RAM, _A20 = b_.ENV, b_.MAP, b_.MAP_PAGES, b_.RAM, b_.A20
_CPU, _UC, _F_TB_INVALIDATE, _RAM_ADDR, _F_TLB_FLUSH = b_.CPU, b_.UC, b_.F_TB_INVALIDATE, b_.RAM_ADDR, b_.F_TLB_FLUSH
_F_REG_READ, _SCRATCH, _ALIAS, _BLOOM = b_.F_REG_READ, b_.SCRATCH, b_.ALIAS, b_.BLOOM_BITS // 64
_EPOCH = b_.EPOCH
_MAP_RAM, _MAP_CODE = b_.MAP_RAM, b_.MAP_CODE
_PAGE = ~0xFFF
_EFLAGS, _CC_OP, _CC_SRC, _DF, _HFLAGS, _CR, _EFER, _EIP = (
    l_.EFLAGS, l_.CC_OP, l_.CC_SRC, l_.DF, l_.HFLAGS, l_.CR, l_.EFER, l_.EIP,
)  # fmt: skip
_CC_MASK, _REG_EFLAGS = l_.CC_MASK, 25  # UC_X86_REG_EFLAGS
_CS, _SS, _DS, _ES = (l_.SEGS + l_.SEG_SIZE * n for n in (l_.CS, l_.SS, l_.DS, l_.ES))
_BASE, _FLAGS = l_.SEG_BASE, l_.SEG_FLAGS
_HF_KEEP = ~(
    l_.HF_CPL | l_.HF_CS32 | l_.HF_SS32 | l_.HF_ADDSEG | l_.HF_PE | l_.HF_MP | l_.HF_EM | l_.HF_TS | l_.HF_LMA
    | l_.HF_CS64 | l_.HF_OSFXSR | l_.HF_SMAP
)  # fmt: skip


@kernel
def page_word(b, gpa):  # type: ignore[no-untyped-def]
    """The map's word for a guest-physical address, 0 where there is no memory."""
    page = (gpa & ld64(b + _A20)) >> 12
    if page < 0 or page >= ld64(b + _MAP_PAGES):
        return 0
    return ld64(ld64(b + _MAP) + 8 * page)


@kernel
def host_address(b, gpa):  # type: ignore[no-untyped-def]
    """The process address of a guest-physical byte, or 0 where there is no memory."""
    word = page_word(b, gpa)
    if word & _MAP_RAM == 0:
        return 0
    return ld64(b + _RAM) + (word & _PAGE) + (gpa & 0xFFF)


@kernel
def written(b, gpa, size):  # type: ignore[no-untyped-def]
    """The host wrote ``size`` bytes within a guest frame: code translated from them is stale."""
    word = page_word(b, gpa)
    if word & _MAP_CODE:
        ram = ld64(b + _RAM_ADDR) + (word & _PAGE) + (gpa & 0xFFF)
        call3(ld64(b + _F_TB_INVALIDATE), ld64(b + _UC), ram, ram + size)
    return 0


@kernel
def flush_tlb(b):  # type: ignore[no-untyped-def]
    """Forget every translation."""
    call1(ld64(b + _F_TLB_FLUSH), ld64(b + _CPU))
    epoch = ld64(b + _EPOCH) + 1
    st64(b + _EPOCH, epoch if epoch < 4096 else 1)
    bloom = ld64(b + _ALIAS)
    for word in range(_BLOOM):
        st64(bloom + 8 * word, 0)
    return 0


@kernel
def read_flags(b, inside):  # type: ignore[no-untyped-def]
    """EFLAGS, complete. ``inside`` says that a hook is running, where the arithmetic flags are still lazy."""
    env = ld64(b + _ENV)
    if inside == 0:
        return ld64(env + _EFLAGS) | 2
    if ld32(env + _CC_OP) == 1:
        flags = (ld64(env + _EFLAGS) & ~(_CC_MASK | 0x400)) | (ld64(env + _CC_SRC) & _CC_MASK) | 2
        if ld32(env + _DF) != 1:
            flags |= 0x400
        return flags
    st64(b + _SCRATCH, 0)
    call3(ld64(b + _F_REG_READ), ld64(b + _UC), _REG_EFLAGS, b + _SCRATCH)
    return ld64(b + _SCRATCH) | 2


@kernel
def write_flags(b, flags, inside):  # type: ignore[no-untyped-def]
    """Replace EFLAGS as a whole, in the form that holds where we are."""
    env = ld64(b + _ENV)
    if inside == 0:
        st64(env + _EFLAGS, flags | 2)
        return 0
    st64(env + _CC_SRC, flags & _CC_MASK)
    st32(env + _CC_OP, 1)
    st32(env + _DF, -1 if flags & 0x400 else 1)
    st64(env + _EFLAGS, (flags & ~(_CC_MASK | 0x400)) | 2)
    return 0


@kernel
def sync_hflags(b):  # type: ignore[no-untyped-def]
    """Derive the CPU's hidden flags from CR0, CR4, EFER and the segments, as the CPU does when it loads those."""
    env = ld64(b + _ENV)
    cr0 = ld64(env + _CR)
    cr4 = ld64(env + _CR + 32)
    efer = ld64(env + _EFER)
    cs = ld32(env + _CS + _FLAGS)
    ss = ld32(env + _SS + _FLAGS)
    vm = (ld64(env + _EFLAGS) >> 17) & 1
    hf = ld32(env + _HFLAGS) & _HF_KEEP
    hf |= (cr0 & 1) << 7 | (cr0 & 0xE) << 8
    if efer & 0x400:
        hf |= 1 << 14
    hf |= (cr4 >> 9 & 1) << 22 | (cr4 >> 21 & 1) << 23
    if cr0 & 1:
        hf |= 3 if vm else (ss >> 13) & 3
    if (efer & 0x400) and (cs & (1 << 21)):
        hf |= 1 << 4 | 1 << 5 | 1 << 15
        st32(env + _HFLAGS, hf)
        return 0
    hf |= (cs >> 22 & 1) << 4 | (ss >> 22 & 1) << 5
    if (cr0 & 1) == 0 or vm or (cs >> 22 & 1) == 0:
        hf |= 1 << 6
    elif ld64(env + _DS + _BASE) | ld64(env + _ES + _BASE) | ld64(env + _SS + _BASE):
        hf |= 1 << 6
    st32(env + _HFLAGS, hf)
    return 0


@kernel
def cut_rip(b):  # type: ignore[no-untyped-def]
    """Outside 64-bit mode RIP has 32 bits; generated code keeps more where it jumps or runs over either end of them."""
    env = ld64(b + _ENV)
    if ld32(env + _HFLAGS) & (1 << 15) == 0:
        st64(env + _EIP, ld64(env + _EIP) & 0xFFFFFFFF)
    return 0


@kernel
def linear_rip(b):  # type: ignore[no-untyped-def]
    """RIP as a linear address."""
    env = ld64(b + _ENV)
    rip = ld64(env + _EIP)
    if ld32(env + _HFLAGS) & (1 << 15):
        return rip
    return (ld64(env + _CS + _BASE) + rip) & 0xFFFFFFFF


__all__ = [
    "cut_rip", "flush_tlb", "host_address", "ld8", "ld16", "linear_rip", "page_word", "read_flags", "sync_hflags",
    "write_flags", "written",
]  # fmt: skip
