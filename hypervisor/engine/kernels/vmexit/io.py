"""Ports and device memory: privilege checks, compiled handlers, and the call into Python for the rest.

These run inside a helper of the generated code, so the instruction is half done: a handler may finish it (the value
goes to the guest) or have the guest left, with the instruction not executed.
"""

from __future__ import annotations

from hypervisor.arch.apic_page import offset_of
from hypervisor.arch.apic_registers import TIMER_CURRENT
from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import CR0_PE, DR7_ENABLES, RFLAGS_IOPL, RFLAGS_IOPL_SHIFT, RFLAGS_VM
from hypervisor.arch.vectors import GP
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call1, call3, inlined, kernel, ld8, ld32, ld64, seldom, st8, st64
from hypervisor.engine.kernels.apic.apic_interrupts import write as write_apic
from hypervisor.engine.kernels.apic.apic_words import current_count, kept
from hypervisor.engine.kernels.by_pointer import read_bytes
from hypervisor.engine.kernels.memory.access import linear_rip, page_word
from hypervisor.engine.kernels.memory.supervisor import clear
from hypervisor.engine.kernels.stopping.lost_flags import look
from hypervisor.engine.kernels.stopping.reporting import count, ring, settle, stop
from hypervisor.engine.kernels.stopping.rest_of_block import interrupted
from hypervisor.engine.kernels.vmexit.compiled_handlers import compiled
from hypervisor.engine.kernels.vmexit.time_stamp import clock
from hypervisor.engine.kernels.vmexit.timed_registers import read_timed, timed_row
from hypervisor.engine.kernels.vmexit.token import lend, take
from hypervisor.engine.shared_words.scheduling import turn_word
from hypervisor.memory import map_words as m_

_ALL_BUT_BUSY, _TSS, _IO_MAP_BASE = 0xD, 9, 0x66  # of the type of a TSS of 32 or 64 bits; within it
_ENV, _CPU, _HFLAGS, _EFLAGS, _CR0, _CR2, _CPL = (
    b_.ENV, b_.CPU, l_.HFLAGS, l_.EFLAGS, l_.CR0, l_.CR2, l_.HF_CPL,
)  # fmt: skip
_TR, _BASE, _LIMIT, _FLAGS = l_.TR, l_.SEG_BASE, l_.SEG_LIMIT, l_.SEG_FLAGS
_FLAGS_AT, _DEVICE_PAGE = b_.FLAGS_AT, b_.DEVICE_PAGE
_TURNS, _IN_ENGINE, _LISTEN, _APIC_BASE, _APIC = b_.TURNS, turn_word("in_engine"), b_.LISTEN, b_.APIC_BASE, b_.APIC
_HEARD = 1 << int(K.MMIO_READ) | 1 << int(K.MMIO_WRITE) | 1 << int(K.MEMORY)
_ENABLED, _X2APIC, _TIMER_CURRENT = offset_of("enabled"), offset_of("x2apic"), TIMER_CURRENT
_FAULT, _FAULT_ERROR, _FAULT_ADDRESS = b_.FAULT, b_.FAULT_ERROR, b_.FAULT_ADDRESS
_N_VECTOR, _N_ERROR, _N_ADDRESS = b_.N_VECTOR, b_.N_ERROR, b_.N_ADDRESS
_PORTS, _WINDOWS, _WINDOW_COUNT = b_.PORTS, b_.WINDOWS, b_.WINDOW_COUNT
_TIMED_PORTS, _TIMED_MEMORY, _GUEST_DR7 = b_.TIMED_PORTS, b_.TIMED_MEMORY, b_.GUEST_DR7
_X_INFO, _NOW, _BLOCK_END, _F_PYTHON = b_.X_INFO, b_.NOW, b_.BLOCK_END, b_.F_PYTHON
_MAP_RAM, _MEMORY, _GPA_MASK = m_.MAP_RAM, int(K.MEMORY), (1 << b_.SEAT) - 1
_NO_FRAME, _PAGE_LOST = b_.NO_FRAME, b_.PAGE_LOST
_F_RESTORE, _MEM_IO_PC = b_.F_RESTORE_STATE, l_.CPU_MEM_IO_PC
_PORT_IN, _PORT_OUT, _MMIO_READ, _MMIO_WRITE, _VERDICT = (
    int(K.PORT_IN), int(K.PORT_OUT), int(K.MMIO_READ), int(K.MMIO_WRITE), int(K.VERDICT),
)  # fmt: skip


@kernel
def _general_protection(b):  # type: ignore[no-untyped-def]
    settle(b)
    st64(b + _FAULT, GP)
    st64(b + _FAULT_ERROR, 0)
    return False


@kernel
def _allowed_by_task(b, port, size):  # type: ignore[no-untyped-def]
    """The TSS's permission bitmap."""
    seldom()
    env = ld64(b + _ENV)
    limit = ld32(env + _TR + _LIMIT)
    if (ld32(env + _TR + _FLAGS) >> 8) & _ALL_BUT_BUSY != _TSS or limit < _IO_MAP_BASE + 1:
        return _general_protection(b)
    clear(b)
    base = read_bytes(b, ld64(env + _TR + _BASE) + _IO_MAP_BASE, 2)
    at = base + (port >> 3)
    if at + 1 > limit:
        return _general_protection(b)
    bits = read_bytes(b, ld64(env + _TR + _BASE) + at, 2)
    if ld64(b + _N_VECTOR) >= 0:
        settle(b)
        st64(b + _FAULT, ld64(b + _N_VECTOR))
        st64(b + _FAULT_ERROR, ld64(b + _N_ERROR))
        st64(b + _FAULT_ADDRESS, ld64(b + _N_ADDRESS))
        st64(env + _CR2, ld64(b + _N_ADDRESS))
        return False
    if (bits >> (port & 7)) & ((1 << size) - 1):
        return _general_protection(b)
    return True


@inlined
def allowed(b, port, size):  # type: ignore[no-untyped-def]
    """The I/O privilege check (APM volume 2, 12.2.4): CPL against IOPL, then the TSS's permission bitmap."""
    env = ld64(b + _ENV)
    flags = ld64(env + _EFLAGS)
    if ld64(env + _CR0) & CR0_PE == 0:
        return True
    vm = flags & RFLAGS_VM
    if vm == 0 and (ld32(env + _HFLAGS) & _CPL) <= (flags & RFLAGS_IOPL) >> RFLAGS_IOPL_SHIFT:
        return True
    return _allowed_by_task(b, port, size)


@kernel
def _ahead(b):  # type: ignore[no-untyped-def]
    """How much of the block has been counted and not been executed yet, RIP included: what the clock is ahead."""
    left = ld64(b + _BLOCK_END) - linear_rip(b)
    return 0 if left < 0 or left > 65536 else left


@kernel
def python(b, kind, address, size, value):  # type: ignore[no-untyped-def]
    """Call the Python side in place, with the clock exact; the value it left in X_INFO[3]."""
    seldom()
    if ld64(b + _NO_FRAME):  # the guest is about to be left, and what it says may not be what it would have said
        return -1
    turns = ld64(b + _TURNS)
    if turns:
        st8(turns + _IN_ENGINE, 0)
    st64(b + _X_INFO, address)
    st64(b + _X_INFO + 8, size)
    st64(b + _X_INFO + 16, value)
    st64(b + _X_INFO + 24, -1)
    slot = ring(b, kind | size << 8, address, value)
    left = _ahead(b)
    st64(b + _NOW, ld64(b + _NOW) - left)
    take(b)
    verdict = call1(ld64(b + _F_PYTHON), kind)
    lend(b)
    if ld64(b + _NO_FRAME) == _PAGE_LOST:  # which Python has read, of whatever VM, and knows
        st64(b + _NO_FRAME, 0)
    st64(b + _NOW, ld64(b + _NOW) + left)
    if verdict:
        look(b)
        interrupted(b)
        stop(b, _VERDICT, 0)
    answer = ld64(b + _X_INFO + 24)
    if kind == _PORT_IN or kind == _MMIO_READ:
        st64(slot + 24, answer)
    return answer


@kernel
def _read_timed(b, row, address, size):  # type: ignore[no-untyped-def]
    left = _ahead(b)
    st64(b + _NOW, ld64(b + _NOW) - left)
    answer = read_timed(b, row, address, size)
    st64(b + _NOW, ld64(b + _NOW) + left)
    return answer


@inlined
def port_in(b, port, size):  # type: ignore[no-untyped-def]
    """IN and INS: the value read."""
    if not allowed(b, port, size):
        return 0
    count(b, _PORT_IN)
    handler = ld8(ld64(b + _PORTS) + port)
    if handler:
        return compiled(b, handler, port, size, 0, 0)
    row = timed_row(ld64(b + _TIMED_PORTS), port, size)
    if row and ld64(b + _LISTEN) >> _PORT_IN & 1 == 0 and ld64(b + _GUEST_DR7) & DR7_ENABLES == 0:
        return _read_timed(b, row, port, size)
    return python(b, _PORT_IN, port, size, 0)


@inlined
def port_out(b, port, size, value):  # type: ignore[no-untyped-def]
    """OUT and OUTS."""
    if not allowed(b, port, size):
        return 0
    count(b, _PORT_OUT)
    handler = ld8(ld64(b + _PORTS) + 65536 + port)
    if handler:
        compiled(b, handler, port, size, value & ((1 << (8 * size)) - 1), 0)
        return 0
    python(b, _PORT_OUT, port, size, value & ((1 << (8 * size)) - 1))
    return 0


@inlined
def _window(b, gpa, write):  # type: ignore[no-untyped-def]
    row = ld64(b + _WINDOWS)
    for _ in range(ld64(b + _WINDOW_COUNT)):
        if gpa >= ld64(row) and gpa < ld64(row + 8) and ld64(row + 24) == write:
            return ld64(row + 16)
        row += 32
    return 0


@kernel
def _look_and_count(b, kind, gpa):  # type: ignore[no-untyped-def]
    """Memory that is only watched takes no time: watching changes nothing."""
    seldom()
    if page_word(b, gpa) & _MAP_RAM:
        return count(b, _MEMORY)
    st64(b + _DEVICE_PAGE, gpa & ~0xFFF)
    return count(b, kind)


@inlined
def _account(b, kind, gpa):  # type: ignore[no-untyped-def]
    """Count an access."""
    same = ld64(b + _FLAGS_AT) == ld64(b + _NOW)
    if gpa & ~0xFFF == ld64(b + _DEVICE_PAGE):
        count(b, kind)
    else:
        _look_and_count(b, kind, gpa)
    if same:  # still the instruction that has computed flags
        st64(b + _FLAGS_AT, ld64(b + _NOW))
    return 0


@inlined
def _own_apic(b, place, size):  # type: ignore[no-untyped-def]
    """The page of the local APIC that is accessed at ``place``, 0 where that, or who listens, is Python's business.

    A watched linear address is told by the place, see `b_.SEAT`.
    """
    if place & ~0xFFF != ld64(b + _APIC_BASE) or size != 4 or ld64(b + _LISTEN) & _HEARD:
        return 0
    page = ld64(b + _APIC)
    return page if page and ld8(page + _ENABLED) and ld8(page + _X2APIC) == 0 else 0


@kernel
def _read_apic(b, page, place):  # type: ignore[no-untyped-def]
    """The value of an APIC's register, -1 where the model is to be asked."""
    answer = kept(page, place & 0xFFF)
    if place & 0xFFF == _TIMER_CURRENT:
        cpu = ld64(b + _CPU)
        call3(ld64(b + _F_RESTORE), cpu, ld64(cpu + _MEM_IO_PC), 0)
        left = _ahead(b)
        st64(b + _NOW, ld64(b + _NOW) - left)
        answer = current_count(page, clock(b))
        st64(b + _NOW, ld64(b + _NOW) + left)
    return answer


@inlined
def mmio_read(b, place, size):  # type: ignore[no-untyped-def]
    """A load from guest-physical addresses that are no plain memory, or watched; ``place`` is that in the window."""
    gpa = place & _GPA_MASK
    _account(b, _MMIO_READ, gpa)
    if ld64(b + _WINDOW_COUNT):
        handler = _window(b, gpa, 0)
        if handler:
            return compiled(b, handler, gpa, size, 0, 0)
    else:
        page = _own_apic(b, place, size)
        if page:
            answer = _read_apic(b, page, place)
            if answer >= 0:
                return answer
    cpu = ld64(b + _CPU)
    call3(ld64(b + _F_RESTORE), cpu, ld64(cpu + _MEM_IO_PC), 0)
    row = timed_row(ld64(b + _TIMED_MEMORY), place, size)  # (a place is not the address where someone watches)
    if row and ld64(b + _LISTEN) & _HEARD == 0 and page_word(b, gpa) & _MAP_RAM == 0:
        return _read_timed(b, row, place, size)
    return python(b, _MMIO_READ, place, size, 0)


@inlined
def mmio_write(b, place, size, value):  # type: ignore[no-untyped-def]
    """A store, likewise."""
    gpa = place & _GPA_MASK
    _account(b, _MMIO_WRITE, gpa)
    if size < 8:
        value &= (1 << (8 * size)) - 1
    page = 0
    if ld64(b + _WINDOW_COUNT):
        handler = _window(b, gpa, 1)
        if handler:
            compiled(b, handler, gpa, size, value, 0)
            return 0
    else:
        page = _own_apic(b, place, size)
    cpu = ld64(b + _CPU)
    call3(ld64(b + _F_RESTORE), cpu, ld64(cpu + _MEM_IO_PC), 0)
    if page:
        left = _ahead(b)
        st64(b + _NOW, ld64(b + _NOW) - left)
        served = write_apic(b, page, place & 0xFFF, value)
        st64(b + _NOW, ld64(b + _NOW) + left)
        if served:
            return 0
    python(b, _MMIO_WRITE, place, size, value)
    return 0


__all__ = ["allowed", "mmio_read", "mmio_write", "port_in", "port_out"]
