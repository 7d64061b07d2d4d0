"""Hooks for uncompiled kernels: compiled steps from C into a Python body, which leave the guest after it has returned.

Leaving in the middle of an instruction is a longjmp, which must not cross Python frames. The bodies' pointers lie in
the block; `hypervisor.engine.compiling.plain` puts them there. Compiled and cached with the other entry points.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call1, call2, call3, call4, call5, ld64
from hypervisor.engine.kernels.segments.program_stack import FETCH, STORE, fetch, store
from hypervisor.engine.kernels.stopping.in_place import begin, block_of, restore
from hypervisor.engine.kernels.stopping.leaving import (
    leave,
    leave_access_if_asked,
    leave_fill,
    leave_if_asked,
    look_again,
)
from hypervisor.engine.kernels.vmexit.time_and_control import RDTSC, RDTSCP

(
    _INTERRUPT, _PORT_IN, _PORT_OUT, _SYSCALL, _SYSENTER, _MMIO_READ, _MMIO_WRITE, _TLB, _BLOCK, _CODE, _JUMP,
    _READ_TIME, _WRITE_CONTROL, _LOAD_SEGMENT, _FAR_JUMP, _FAR_CALL, _FAR_RETURN, _INTERRUPT_RETURN,
    _REAL_INTERRUPT_RETURN, _LEAVE_SYSCALL, _LEAVE_SYSENTER, _REFUSED_BRANCH, _CHECK_TABLE, _CHECK_PORT,
    _LOAD_SYSTEM_SEGMENT,
) = (b_.PLAIN + 8 * n for n in range(len(b_.HOOKS)))  # fmt: skip
_TO_ENV = l_.CPU_TO_ENV
_F_RDTSC, _F_RDTSCP, _F_WRITE_CR, _F_LOOKUP = b_.F_RDTSC, b_.F_RDTSCP, b_.F_WRITE_CR, b_.F_LOOKUP


def plain_interrupt(uc, number, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_INTR."""
    call2(ld64(b + _INTERRUPT), b, number)


def plain_tlb(cpu, address, size, access, index, probe, place):  # type: ignore[no-untyped-def]
    """The CPU's ``tlb_fill``."""
    b = block_of(cpu + _TO_ENV)
    if call5(ld64(b + _TLB), b, address, access, index, place) == 0:
        leave_fill(b)
    return 1


def plain_read_port(env, port, size, place):  # type: ignore[no-untyped-def]
    """IN, called by generated code."""
    b = block_of(env)
    restore(b, place)
    value = call3(ld64(b + _PORT_IN), b, port, size) & ((1 << (8 * size)) - 1)
    leave_if_asked(b)
    return value


def plain_write_port(env, port, value, size, place):  # type: ignore[no-untyped-def]
    """OUT, likewise."""
    b = block_of(env)
    restore(b, place)
    call4(ld64(b + _PORT_OUT), b, port, size, value)
    leave_if_asked(b)


def plain_read_mmio(uc, gpa, size, b):  # type: ignore[no-untyped-def]
    """uc_mmio_map, read."""
    value = call3(ld64(b + _MMIO_READ), b, gpa, size)
    leave_access_if_asked(b)
    return value


def plain_write_mmio(uc, gpa, size, value, b):  # type: ignore[no-untyped-def]
    """uc_mmio_map, write."""
    call4(ld64(b + _MMIO_WRITE), b, gpa, size, value)
    leave_access_if_asked(b)


def plain_syscall(uc, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_INSN, SYSCALL."""
    call1(ld64(b + _SYSCALL), b)
    leave_if_asked(b)


def plain_sysenter(uc, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_INSN, SYSENTER."""
    call1(ld64(b + _SYSENTER), b)
    leave_if_asked(b)


def plain_block(uc, address, size, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_BLOCK."""
    what = call3(ld64(b + _BLOCK), b, address, size)
    if what == 1:
        leave(b)
    elif what:
        look_again(b)


def plain_jump(uc, address, size, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_BLOCK, of a jump to itself."""
    what = call3(ld64(b + _JUMP), b, address, size)
    if what == 1:
        leave(b)
    elif what:
        look_again(b)


def plain_rdtsc(env):  # type: ignore[no-untyped-def]
    """RDTSC."""
    b = block_of(env)
    if call3(ld64(b + _READ_TIME), b, env, RDTSC) == 0:
        call1(ld64(b + _F_RDTSC), env)


def plain_rdtscp(env):  # type: ignore[no-untyped-def]
    """RDTSCP."""
    b = block_of(env)
    if call3(ld64(b + _READ_TIME), b, env, RDTSCP) == 0:
        call1(ld64(b + _F_RDTSCP), env)


def plain_write_cr(env, number, value):  # type: ignore[no-untyped-def]
    """MOV to a control register."""
    b = block_of(env)
    call2(ld64(b + _WRITE_CONTROL), b, number)
    call3(ld64(b + _F_WRITE_CR), env, number, value)


def plain_load_segment(env, register, selector, place):  # type: ignore[no-untyped-def]
    """MOV and POP to a segment register, LDS and its like, called by generated code at ``place``; so are the next."""
    b = begin(env, place)
    call3(ld64(b + _LOAD_SEGMENT), b, register, selector)
    leave_if_asked(b)


def plain_load_system_segment(env, task, selector, place):  # type: ignore[no-untyped-def]
    """LLDT and LTR."""
    b = begin(env, place)
    call3(ld64(b + _LOAD_SYSTEM_SEGMENT), b, task, selector)
    leave_if_asked(b)


def plain_far_jump(env, selector, target, following, place):  # type: ignore[no-untyped-def]
    """Far JMP."""
    b = begin(env, place)
    call4(ld64(b + _FAR_JUMP), b, selector, target, following)
    leave_if_asked(b)


def plain_far_call(env, selector, target, shift, following, place):  # type: ignore[no-untyped-def]
    """Far CALL."""
    b = begin(env, place)
    how = call5(ld64(b + _FAR_CALL), b, selector, target, shift, following)
    while how == FETCH or how == STORE:
        if how == FETCH:
            fetch(b, env)
        else:
            store(b, env)
        how = call5(ld64(b + _FAR_CALL), b, selector, target, shift, following)
    leave_if_asked(b)


def plain_far_return(env, shift, released, place):  # type: ignore[no-untyped-def]
    """Far RET."""
    b = begin(env, place)
    while call3(ld64(b + _FAR_RETURN), b, shift, released) == FETCH:
        fetch(b, env)
    leave_if_asked(b)


def plain_interrupt_return(env, shift, following, place):  # type: ignore[no-untyped-def]
    """IRET in protected mode."""
    b = begin(env, place)
    while call3(ld64(b + _INTERRUPT_RETURN), b, shift, following & 0xFFFFFFFF) == FETCH:
        fetch(b, env)
    leave_if_asked(b)


def plain_real_interrupt_return(env, shift, place):  # type: ignore[no-untyped-def]
    """IRET in real and virtual-8086 mode."""
    b = begin(env, place)
    while call2(ld64(b + _REAL_INTERRUPT_RETURN), b, shift) == FETCH:
        fetch(b, env)
    leave_if_asked(b)


def plain_leave_syscall(env, shift, place):  # type: ignore[no-untyped-def]
    """SYSRET."""
    b = begin(env, place)
    call2(ld64(b + _LEAVE_SYSCALL), b, shift)
    leave_if_asked(b)


def plain_leave_sysenter(env, shift, place):  # type: ignore[no-untyped-def]
    """SYSEXIT."""
    b = begin(env, place)
    call2(ld64(b + _LEAVE_SYSENTER), b, shift)
    leave_if_asked(b)


def plain_branch(env, place):  # type: ignore[no-untyped-def]
    """The end of a block whose successor is looked up, where RIP is not canonical."""
    b = begin(env, place)
    if call1(ld64(b + _REFUSED_BRANCH), b):
        leave_if_asked(b)
    return call1(ld64(b + _F_LOOKUP), env)


def plain_load_table(env, exit_code, place):  # type: ignore[no-untyped-def]
    """LGDT and LIDT, before they are intercepted or carried out."""
    b = begin(env, place)
    call2(ld64(b + _CHECK_TABLE), b, exit_code)
    leave_if_asked(b)


def plain_check_port(env, what, place):  # type: ignore[no-untyped-def]
    """INS, before it writes to its operand."""
    b = block_of(env)
    call3(ld64(b + _CHECK_PORT), b, what, place)
    leave_if_asked(b)


def plain_code(uc, address, size, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_CODE at one address."""
    if call2(ld64(b + _CODE), b, address):
        leave(b)


TRAMPOLINES = (
    (plain_interrupt, "v(lul)"), (plain_tlb, "B(lliiiBl)"), (plain_read_port, "l(llll)"),
    (plain_write_port, "v(lllll)"),
    (plain_read_mmio, "l(llul)"), (plain_write_mmio, "v(llull)"), (plain_syscall, "v(ll)"), (plain_sysenter, "v(ll)"),
    (plain_block, "v(llul)"), (plain_code, "v(llul)"), (plain_jump, "v(llul)"), (plain_rdtsc, "v(l)"),
    (plain_rdtscp, "v(l)"), (plain_write_cr, "v(lil)"),
    (plain_load_segment, "v(liil)"), (plain_far_jump, "v(lilll)"), (plain_far_call, "v(lilill)"),
    (plain_far_return, "v(liil)"), (plain_interrupt_return, "v(liil)"), (plain_real_interrupt_return, "v(lil)"),
    (plain_leave_syscall, "v(lil)"), (plain_leave_sysenter, "v(lil)"), (plain_branch, "l(ll)"),
    (plain_load_table, "v(lil)"), (plain_check_port, "v(lil)"),
    (plain_load_system_segment, "v(liil)"),
)  # fmt: skip
"""As `hooks.ENTRIES`."""
