"""Loads and stores that are not aligned: whether they may be, and how a device or watched memory sees them.

Unicorn makes such a load as the two aligned ones that hold it, and such a store byte by byte: a device would see
accesses that the guest has not made. They come here before Unicorn looks at them (`slow_path`).
Within a page, the device or the handler gets one access with the guest's address and size; across two pages, aligned
pieces, after both pages have been translated. Plain memory across two pages that the TLB has is accessed here, because
that is faster; anything else goes on to Unicorn's own function.

An instruction whose operand must be aligned (`kernels.translation.memory_operand`) faults here.

This runs between generated code and the kernels, where a longjmp may cross: compiled even where the kernels are not.
"""

from __future__ import annotations

from hypervisor.arch.flags import RFLAGS_AC
from hypervisor.arch.vectors import AC, GP
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call4, call5, call6, kernel, ld64, st8, st64
from hypervisor.engine.kernels.stopping.in_place import block_of

_FAST, _DESCRIPTOR, _ENTRY_SHIFT = l_.TLB_FAST, l_.TLB_FAST_SIZE, l_.TLB_ENTRY_SHIFT
_PADDR, _ADDEND = l_.TLB_PADDR, l_.TLB_ADDEND
_TAG, _MMIO, _MEM_IO_PC = ~0xFFF | l_.TLB_INVALID, l_.TLB_MMIO, l_.CPU_MEM_IO_PC
_UC, _CPU, _F_PROBE, _F_READ, _F_WRITE = b_.UC, b_.CPU, b_.F_PROBE, b_.F_READ_MMIO, b_.F_WRITE_MMIO
_LOAD8, _LOAD16, _LOAD32 = b_.F_LOAD8, b_.F_LOAD16, b_.F_LOAD32
_STORE8, _STORE16, _STORE32 = b_.F_STORE8, b_.F_STORE16, b_.F_STORE32
_MMIO_BASE, _PAGE = b_.MMIO_BASE, 4096
_LOAD, _STORE = 0, 1  # MMUAccessType
_BIG_ENDIAN = 8  # MO_BSWAP: MOVBE
_F_RAISE, _EFLAGS, _CR0, _GP, _ALIGNMENT_CHECK = b_.F_RAISE, l_.EFLAGS, l_.CR0, GP, AC
_AC = RFLAGS_AC  # CR0.AM is the same bit
_USER = 1  # the index of the TLB for what a program accesses at CPL 3
_ALIGN_SHIFT, _BY_SIZE, _NOT_ALIGN = 8, 7, ~0x700
_MEMORY, _DEVICE, _PIECES, _BOTH = 0, 1, 2, 3


@kernel
def _entry(env, addr, index):  # type: ignore[no-untyped-def]
    """The TLB's entry where a page is, if it is there."""
    fast = env + _FAST + _DESCRIPTOR * index
    return ld64(fast + 8) + ((addr >> (12 - _ENTRY_SHIFT)) & ld64(fast))


@kernel
def _host(env, addr, index, access):  # type: ignore[no-untyped-def]
    """Where an address lies in this process, if generated code would access its page by itself, else 0."""
    entry = _entry(env, addr, index)
    return addr + ld64(entry + _ADDEND) if ld64(entry + 8 * access) == addr & ~0xFFF else 0


@kernel
def _is_device(b, addr, size, index, access, place):  # type: ignore[no-untyped-def]
    """Whether bytes within a page are in the device window. The TLB has the page then; a fault leaves the guest."""
    env = ld64(b + b_.ENV)
    tag = ld64(_entry(env, addr, index) + 8 * access)
    if tag & _TAG != addr & ~0xFFF:
        call6(ld64(b + _F_PROBE), env, addr, size, access, index, place)
        tag = ld64(_entry(env, addr, index) + 8 * access)
    return tag & _MMIO


@kernel
def _way(b, addr, size, index, access, place):  # type: ignore[no-untyped-def]
    """How an access is made."""
    near = _PAGE - (addr & (_PAGE - 1))
    if near >= size:
        return _DEVICE if _is_device(b, addr, size, index, access, place) else _MEMORY
    device = _is_device(b, addr, near, index, access, place)
    device |= _is_device(b, addr + near, size - near, index, access, place)
    return _PIECES if device else _MEMORY


@kernel
def _piece(at, left):  # type: ignore[no-untyped-def]
    """The size of the widest aligned access at ``at``."""
    size = 4
    while at & (size - 1) or size > left:
        size >>= 1
    return size


@kernel
def _in_window(b, addr, index, place):  # type: ignore[no-untyped-def]
    """The place in the device window of an address that the TLB has, about to be accessed."""
    st64(ld64(b + _CPU) + _MEM_IO_PC, place)
    return ld64(_entry(ld64(b + b_.ENV), addr, index) + _PADDR) - _MMIO_BASE + (addr & (_PAGE - 1))


@kernel
def _check(b, addr, how, index, size, place):  # type: ignore[no-untyped-def]
    """Leave the guest with #GP(0) or #AC(0) where an access must be aligned and is not."""
    env, bits = ld64(b + b_.ENV), (how >> _ALIGN_SHIFT) & 7
    if bits and bits != _BY_SIZE and addr & ((1 << bits) - 1):
        call4(ld64(b + _F_RAISE), env, _GP, 0, place)
    if addr & (size - 1) and index == _USER and ld64(env + _EFLAGS) & ld64(env + _CR0) & _AC:
        call4(ld64(b + _F_RAISE), env, _ALIGNMENT_CHECK, 0, place)
    return 0


@kernel
def _reversed(value, size):  # type: ignore[no-untyped-def]
    answer = 0
    for n in range(size):
        answer = answer << 8 | ((value >> (8 * n)) & 0xFF)
    return answer


@kernel
def _mask(size):  # type: ignore[no-untyped-def]
    return -1 if size == 8 else (1 << (8 * size)) - 1


@kernel
def load(env, addr, how, place, original):  # type: ignore[no-untyped-def]
    """A load by generated code at ``place``, or by one of Unicorn's helpers for it. ``how`` is Unicorn's: the TLB's
    index, and from bit 4 on the size, the order of bytes and the alignment. ``original`` is its function for what is
    aligned.
    """
    b = block_of(env)
    if b == 0:  # another engine of this process
        return call4(original, env, addr, how, place)
    size, index, near = 1 << ((how >> 4) & 3), how & 15, _PAGE - (addr & (_PAGE - 1))
    _check(b, addr, how, index, size, place)
    how &= _NOT_ALIGN
    if addr & (size - 1) == 0:
        return call4(original, env, addr, how, place)
    first = second = 0
    if near < size:
        first, second = _host(env, addr, index, _LOAD), _host(env, addr + near, index, _LOAD)
    way = _BOTH if first and second else _way(b, addr, size, index, _LOAD, place)
    if way == _MEMORY:
        return call4(original, env, addr, how, place)
    if way == _BOTH:
        value = (ld64(first + near - 8) >> (8 * (8 - near))) & _mask(near)  # the last 8 bytes of the page
        value |= (ld64(second) & _mask(size - near)) << (8 * near)
    elif way == _DEVICE:
        value = call4(ld64(b + _F_READ), ld64(b + _UC), _in_window(b, addr, index, place), size, b) & _mask(size)
    else:
        value, done = 0, 0
        while done < size:
            piece = _piece(addr + done, size - done)
            function = b + (_LOAD32 if piece == 4 else (_LOAD16 if piece == 2 else _LOAD8))
            value |= (call4(ld64(function), env, addr + done, index, place) & _mask(piece)) << (8 * done)
            done += piece
    return _reversed(value, size) if (how >> 4) & _BIG_ENDIAN else value


@kernel
def store(env, addr, value, how, place, original):  # type: ignore[no-untyped-def]
    """A store, likewise."""
    b = block_of(env)
    if b == 0:
        return call5(original, env, addr, value, how, place)
    size, index, near = 1 << ((how >> 4) & 3), how & 15, _PAGE - (addr & (_PAGE - 1))
    _check(b, addr, how, index, size, place)
    how &= _NOT_ALIGN
    if addr & (size - 1) == 0:
        return call5(original, env, addr, value, how, place)
    first = second = 0
    if near < size:
        first, second = _host(env, addr, index, _STORE), _host(env, addr + near, index, _STORE)
    way = _BOTH if first and second else _way(b, addr, size, index, _STORE, place)
    if way == _MEMORY:
        return call5(original, env, addr, value, how, place)
    if (how >> 4) & _BIG_ENDIAN:
        value = _reversed(value, size)
    if way == _BOTH:
        for n in range(size):
            st8((first if n < near else second - near) + n, value >> (8 * n))
        return 0
    if way == _DEVICE:
        return call5(ld64(b + _F_WRITE), ld64(b + _UC), _in_window(b, addr, index, place), size, value & _mask(size), b)
    done = 0
    while done < size:
        piece = _piece(addr + done, size - done)
        function = b + (_STORE32 if piece == 4 else (_STORE16 if piece == 2 else _STORE8))
        call5(ld64(function), env, addr + done, (value >> (8 * done)) & _mask(piece), index, place)
        done += piece
    return 0


__all__ = ["load", "store"]
