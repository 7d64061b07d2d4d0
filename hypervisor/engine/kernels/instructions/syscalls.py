"""SYSCALL and SYSENTER, which do nothing natively, and SYSRET and SYSEXIT (APM volume 3; volume 2, 6.1)."""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import EFER_LMA, EFER_SCE, RFLAGS_IF, RFLAGS_LOADABLE, RFLAGS_RF, RFLAGS_VM
from hypervisor.arch.segments import SELECTOR
from hypervisor.arch.vectors import GP, UD
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64, st32, st64
from hypervisor.engine.kernels.memory.access import read_flags, sync_hflags, write_flags
from hypervisor.engine.kernels.stopping.in_place import refuse
from hypervisor.engine.kernels.stopping.reporting import count, listens, ring, settle, stop
from hypervisor.engine.kernels.vmexit.exiting_instruction import length_of
from hypervisor.engine.kernels.vmexit.raising import raise_exception

_ENV, _EIP, _HFLAGS, _EFER, _EFLAGS = b_.ENV, l_.EIP, l_.HFLAGS, l_.EFER, l_.EFLAGS
_RAX, _RCX, _RDX, _RSP, _R11 = l_.RAX, l_.RCX, l_.RDX, l_.RSP, l_.R11
_CPL, _CS64, _SELECTOR = l_.HF_CPL, l_.HF_CS64, SELECTOR
_STAR, _LSTAR, _CSTAR, _FMASK = l_.STAR, l_.LSTAR, l_.CSTAR, l_.FMASK
_SYSENTER_CS, _SYSENTER_ESP, _SYSENTER_EIP = l_.SYSENTER_CS, l_.SYSENTER_ESP, l_.SYSENTER_EIP
_CS, _SS = l_.SEGS + l_.SEG_SIZE * l_.CS, l_.SEGS + l_.SEG_SIZE * l_.SS
_BASE, _LIMIT, _FLAGS = l_.SEG_BASE, l_.SEG_LIMIT, l_.SEG_FLAGS
_NOW, _FAULT, _FAULT_ERROR = b_.NOW, b_.FAULT, b_.FAULT_ERROR
_SYSCALL, _SYSENTER = int(K.SYSCALL), int(K.SYSENTER)

CODE64, CODE32, DATA = 0x00AF9B00, 0x00CF9B00, 0x00CF9300
_RING3 = 3 << l_.SEG_DPL_SHIFT
_RETURNED_FLAGS = RFLAGS_LOADABLE & ~(RFLAGS_RF | RFLAGS_VM)
_CLEARED_FLAGS = RFLAGS_IF | RFLAGS_RF | RFLAGS_VM


@kernel
def _flat(b, at, selector, flags):  # type: ignore[no-untyped-def]
    env = ld64(b + _ENV)
    st32(env + at, selector & 0xFFFF)
    st64(env + at + _BASE, 0)
    st32(env + at + _LIMIT, -1)
    st32(env + at + _FLAGS, flags)
    return 0


@kernel
def _refuse(b, vector, inside):  # type: ignore[no-untyped-def]
    if inside == 0:
        return raise_exception(b, vector, 0, 0)
    settle(b)
    st64(b + _FAULT, vector)
    st64(b + _FAULT_ERROR, 0)
    return 0


@kernel
def _executed(b, length, inside):  # type: ignore[no-untyped-def]
    """The instruction takes the time of its bytes, also where its block was left for a handler."""
    if inside == 0:
        st64(b + _NOW, ld64(b + _NOW) + length)
    return 0


@kernel
def _begun(b, kind, value):  # type: ignore[no-untyped-def]
    """Count an instruction in its hook; its length, or 0 where it is left to a handler. ``value`` is what the events
    show of it.
    """
    count(b, kind)
    length = length_of(b, 2)
    if listens(b, kind):
        settle(b)
        ring(b, kind, 0, value)
        return stop(b, kind, 0)
    return length if length else 2  # its bytes may be gone from the page tables


@kernel
def enter_syscall(b, length, inside):  # type: ignore[no-untyped-def]
    """Do what SYSCALL does. RIP is left ``length`` short of the target inside the hook, whose caller adds it."""
    env = ld64(b + _ENV)
    if ld64(env + _EFER) & EFER_SCE == 0:
        return _refuse(b, UD, inside)
    _executed(b, length, inside)
    short = length if inside else 0
    flags = read_flags(b, inside)
    star = ld64(env + _STAR)
    selector = (star >> 32) & _SELECTOR
    rip = ld64(env + _EIP) + length
    if ld64(env + _EFER) & EFER_LMA:
        wide = ld32(env + _HFLAGS) & _CS64
        st64(env + _RCX, rip if wide else rip & 0xFFFFFFFF)
        st64(env + _R11, flags & ~RFLAGS_RF)
        st64(env + _EIP, (ld64(env + _LSTAR) if wide else ld64(env + _CSTAR)) - short)
        flags &= ~(ld64(env + _FMASK) | RFLAGS_RF)
        _flat(b, _CS, selector, CODE64)
    else:
        st64(env + _RCX, rip & 0xFFFFFFFF)
        st64(env + _EIP, (star & 0xFFFFFFFF) - short)
        flags &= ~_CLEARED_FLAGS
        _flat(b, _CS, selector, CODE32)
    _flat(b, _SS, selector + 8, DATA)
    write_flags(b, flags, inside)
    sync_hflags(b)
    return 0


@kernel
def on_syscall(b):  # type: ignore[no-untyped-def]
    """The body of the SYSCALL hook."""
    length = _begun(b, _SYSCALL, ld64(ld64(b + _ENV) + _RAX))
    return enter_syscall(b, length, 1) if length else 0


@kernel
def enter_sysenter(b, length, inside):  # type: ignore[no-untyped-def]
    """Do what SYSENTER does; see `enter_syscall` for ``length``. AMD processors refuse it in long mode."""
    env = ld64(b + _ENV)
    if ld64(env + _EFER) & EFER_LMA:
        return _refuse(b, UD, inside)
    if ld32(env + _SYSENTER_CS) & _SELECTOR == 0:
        return _refuse(b, GP, inside)
    _executed(b, length, inside)
    short = length if inside else 0
    selector = ld32(env + _SYSENTER_CS) & _SELECTOR
    flags = read_flags(b, inside) & ~_CLEARED_FLAGS
    _flat(b, _CS, selector, CODE32)
    _flat(b, _SS, selector + 8, DATA)
    st64(env + _RSP, ld64(env + _SYSENTER_ESP) & 0xFFFFFFFF)
    st64(env + _EIP, (ld64(env + _SYSENTER_EIP) & 0xFFFFFFFF) - short)
    write_flags(b, flags, inside)
    sync_hflags(b)
    return 0


@kernel
def on_sysenter(b):  # type: ignore[no-untyped-def]
    """The body of the SYSENTER hook."""
    length = _begun(b, _SYSENTER, 0)
    return enter_sysenter(b, length, 1) if length else 0


@kernel
def _to_ring_3(b, code, stack, flags, rip):  # type: ignore[no-untyped-def]
    _flat(b, _CS, code | 3, flags | _RING3)
    _flat(b, _SS, stack | 3, DATA | _RING3)
    env = ld64(b + _ENV)
    st64(env + _EIP, rip)
    hflags = ld32(env + _HFLAGS)
    if flags == CODE64 and hflags & _CS64:  # from 64-bit code to 64-bit code: the level alone is another
        st32(env + _HFLAGS, hflags | _CPL)
        return 0
    sync_hflags(b)
    return 0


@kernel
def leave_syscall(b, shift):  # type: ignore[no-untyped-def]
    """SYSRET. AMD's does not look at the target: it is ring 3 that faults at an address that is not canonical."""
    env = ld64(b + _ENV)
    if ld64(env + _EFER) & EFER_SCE == 0:
        return refuse(b, UD, 0)
    if ld32(env + _HFLAGS) & _CPL:
        return refuse(b, GP, 0)
    selector = (ld64(env + _STAR) >> 48) & 0xFFFF
    rip = ld64(env + _RCX)
    if ld64(env + _EFER) & EFER_LMA == 0:
        st64(env + _EFLAGS, ld64(env + _EFLAGS) | RFLAGS_IF)
        return _to_ring_3(b, selector, selector + 8, CODE32, rip & 0xFFFFFFFF)
    write_flags(b, ld64(env + _R11) & _RETURNED_FLAGS, 1)
    if shift == 2:
        return _to_ring_3(b, selector + 16, selector + 8, CODE64, rip)
    return _to_ring_3(b, selector, selector + 8, CODE32, rip & 0xFFFFFFFF)


@kernel
def leave_sysenter(b, shift):  # type: ignore[no-untyped-def]
    """SYSEXIT. AMD processors refuse it in long mode."""
    env = ld64(b + _ENV)
    if ld64(env + _EFER) & EFER_LMA:
        return refuse(b, UD, 0)
    selector = ld32(env + _SYSENTER_CS) & _SELECTOR
    if selector == 0 or ld32(env + _HFLAGS) & _CPL:
        return refuse(b, GP, 0)
    st64(env + _RSP, ld64(env + _RCX) & 0xFFFFFFFF)
    return _to_ring_3(b, selector + 16, selector + 24, CODE32, ld64(env + _RDX) & 0xFFFFFFFF)
