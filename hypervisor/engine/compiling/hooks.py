"""The entry points of the compiled code: the functions that Unicorn calls, the run loop, and the kernels called by
pointer.

A hook is a thin step from C into a kernel. Leaving the guest in the middle of an instruction is a longjmp to the top of
Unicorn's loop, which must not cross Python frames: so hooks are compiled even when the kernels run uncompiled, and then
reach the kernel's body through a pointer in the block.

It is a long list of short steps, and stays one file: they are compiled into one object, whose names are those here.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import COMPILED, call1, call3, call4, ld64, st64
from hypervisor.engine.kernels.coverage import entered
from hypervisor.engine.kernels.instructions import decode as decode_
from hypervisor.engine.kernels.instructions import sse, string_compare, syscalls, x87
from hypervisor.engine.kernels.memory import access, gate, guest_tlb, notes, page_walk, supervisor
from hypervisor.engine.kernels.repeating import short_cases
from hypervisor.engine.kernels.segments import canonical, far_branches, far_returns, system_segments
from hypervisor.engine.kernels.segments import load_segment as load_segment_
from hypervisor.engine.kernels.segments.program_stack import FETCH, STORE, fetch, store
from hypervisor.engine.kernels.stopping import emergency
from hypervisor.engine.kernels.stopping.in_place import begin, block_of, end_rf, restore
from hypervisor.engine.kernels.stopping.leaving import (
    leave,
    leave_access_if_asked,
    leave_fill,
    leave_if_asked,
    look_again,
)
from hypervisor.engine.kernels.stopping.rest_of_block import in_block as in_block_
from hypervisor.engine.kernels.tlb import fill, misaligned, tlb_entry
from hypervisor.engine.kernels.translation import calls, memory_operand, misread, refused, sse_and_mmx
from hypervisor.engine.kernels.vmexit import (
    events,
    io,
    last_words,
    on_vmexit,
    raising,
    switch,
    time_stamp,
    token,
    translated,
)
from hypervisor.engine.kernels.vmexit import run_loop as run_
from hypervisor.engine.kernels.vmexit.time_and_control import RDTSC, RDTSCP, read_time, widen_smsw, write_control

_on_exit, _fill, _port_in, _port_out = on_vmexit.on_exit, fill.fill, io.port_in, io.port_out
_mmio_read, _mmio_write = io.mmio_read, io.mmio_write
_on_syscall, _on_sysenter = syscalls.on_syscall, syscalls.on_sysenter
_NOW, _BLOCK_END = b_.NOW, b_.BLOCK_END
_on_block, _on_jump, _on_code, _run = run_.on_block, run_.on_jump, run_.on_code, run_.run
_F_RDTSC, _F_RDTSCP, _F_WRITE_CR, _F_RAISE = b_.F_RDTSC, b_.F_RDTSCP, b_.F_WRITE_CR, b_.F_RAISE
_walk, _translate, _read, _write, _deliver, _decode = (
    page_walk.walk, guest_tlb.translate, supervisor.read_bytes, supervisor.write_bytes, events.deliver, decode_.decode,
)  # fmt: skip

_raise_event, _raise_exception = raising.raise_event, raising.raise_exception
_complete, _clock, _spin = raising.complete, time_stamp.clock, time_stamp.spin
_enter_syscall, _enter_sysenter = syscalls.enter_syscall, syscalls.enter_sysenter
_aborted, _on_signal = emergency.aborted, last_words.on_signal
_lend, _take, _let_go = token.lend, token.take, token.let_go
_save, _load = switch.save, switch.load
_compare_strings, _INDEX, _IMPLICIT = string_compare.compare_strings, string_compare.INDEX, string_compare.IMPLICIT
_widen_smsw = widen_smsw
_emit_call, _refuses, _media_done, _TO_ENV = calls.emit_call, refused.refuses, sse_and_mmx.done, l_.CPU_TO_ENV
_unusual, _sse_exception = x87.unusual, sse.exception
_flush_indexes = tlb_entry.flush
_full, _repeats, _forget_code = translated.full, translated.repeats, translated.forget_code
_drop_trapped, _retranslate = translated.drop_trapped, translated.retranslate
_load_segment, _far_jump, _far_call = load_segment_.load_segment, far_branches.far_jump, far_branches.far_call
_load_system_segment = system_segments.load_system_segment
_far_return, _interrupt_return = far_returns.far_return, far_returns.interrupt_return
_real_interrupt_return = far_returns.real_interrupt_return
_leave_syscall, _leave_sysenter = syscalls.leave_syscall, syscalls.leave_sysenter
_refused_branch, _check_table, _F_LOOKUP = canonical.refused_branch, canonical.check_table, b_.F_LOOKUP
_emit_access = memory_operand.emit_access
_load_misaligned, _store_misaligned = misaligned.load, misaligned.store
_read_code, _check_port = misread.read_code, misread.check_port
_sync, _flush = access.sync_hflags, access.flush_tlb
_own, _covered, _written, _rest_of_fill = gate.own, access.covered, notes.written, fill.rest_of_fill
_flush_guest, _walk_and_keep = guest_tlb.flush_all, guest_tlb.walk_and_keep
_note_block, _repeat, _begin_case = entered.note, short_cases.repeat, short_cases.begin

if not COMPILED:
    raise NotImplementedError("the uncompiled hooks are built by hypervisor.engine.compiling.plain")


def interrupt(uc, number, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_INTR."""
    _on_exit(b, number)


def tlb(cpu, address, size, access, index, probe, place):  # type: ignore[no-untyped-def]
    """The CPU's ``tlb_fill``. (x86 probes nothing.)"""
    b = block_of(cpu + _TO_ENV)
    if _fill(b, address, access, index, place) == 0:
        leave_fill(b)
    return 1


def read_port(env, port, size, place):  # type: ignore[no-untyped-def]
    """IN and INS, called by generated code at ``place`` (`calls.emit_call`)."""
    b = block_of(env)
    restore(b, place)
    value = _port_in(b, port, size) & ((1 << (8 * size)) - 1)
    leave_if_asked(b)
    return value


def write_port(env, port, value, size, place):  # type: ignore[no-untyped-def]
    """OUT and OUTS, likewise."""
    b = block_of(env)
    restore(b, place)
    _port_out(b, port, size, value)
    leave_if_asked(b)


def read_mmio(uc, gpa, size, b):  # type: ignore[no-untyped-def]
    """uc_mmio_map, read."""
    value = _mmio_read(b, gpa, size)
    leave_access_if_asked(b)
    return value


def write_mmio(uc, gpa, size, value, b):  # type: ignore[no-untyped-def]
    """uc_mmio_map, write."""
    _mmio_write(b, gpa, size, value)
    leave_access_if_asked(b)


def load_misaligned(env, addr, how, place, original):  # type: ignore[no-untyped-def]
    """`misaligned.load`, called by Unicorn through `hypervisor.engine.interposition.slow_path`."""
    return _load_misaligned(env, addr, how, place, original)


def store_misaligned(env, addr, value, how, place, original):  # type: ignore[no-untyped-def]
    """`misaligned.store`, likewise."""
    _store_misaligned(env, addr, value, how, place, original)


def syscall(uc, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_INSN, SYSCALL."""
    _on_syscall(b)
    leave_if_asked(b)


def sysenter(uc, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_INSN, SYSENTER."""
    _on_sysenter(b)
    leave_if_asked(b)


def block(uc, address, size, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_BLOCK, of a block that generated code has counted, where there is something to do (`block_start`)."""
    size = ld64(b + _BLOCK_END) - address
    st64(b + _NOW, ld64(b + _NOW) - size)
    what = _on_block(b, address, size)
    if what == 1:
        leave(b)
    elif what:
        look_again(b)


def jump(uc, address, size, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_BLOCK, of a jump to itself."""
    what = _on_jump(b, address, size)
    if what == 1:
        leave(b)
    elif what:
        look_again(b)


def note_block(uc, address, size, b):  # type: ignore[no-untyped-def]
    """`entered.note`, called by generated code of a VM that has coverage on."""
    _note_block(b, address, ld64(b + _BLOCK_END) - address)


def rdtsc(env):  # type: ignore[no-untyped-def]
    """RDTSC, called by generated code (`calls.emit_call`)."""
    b = block_of(env)
    if read_time(b, env, RDTSC) == 0:
        call1(ld64(b + _F_RDTSC), env)


def rdtscp(env):  # type: ignore[no-untyped-def]
    """RDTSCP, likewise."""
    b = block_of(env)
    if read_time(b, env, RDTSCP) == 0:
        call1(ld64(b + _F_RDTSCP), env)


def reset_rf(env):  # type: ignore[no-untyped-def]
    """The end of a block that began with RF, likewise."""
    end_rf(block_of(env), env)


def write_cr(env, number, value):  # type: ignore[no-untyped-def]
    """MOV to a control register, likewise."""
    b = block_of(env)
    write_control(b, number)
    call3(ld64(b + _F_WRITE_CR), env, number, value)


def load_segment(env, register, selector, place):  # type: ignore[no-untyped-def]
    """MOV and POP to a segment register, LDS and its like, called by generated code at ``place``; so are the next."""
    b = begin(env, place)
    _load_segment(b, register, selector)
    leave_if_asked(b)


def load_system_segment(env, task, selector, place):  # type: ignore[no-untyped-def]
    """LLDT and LTR."""
    b = begin(env, place)
    _load_system_segment(b, task, selector)
    leave_if_asked(b)


def far_jump(env, selector, target, following, place):  # type: ignore[no-untyped-def]
    """Far JMP."""
    b = begin(env, place)
    _far_jump(b, selector, target, following)
    leave_if_asked(b)


def far_call(env, selector, target, shift, following, place):  # type: ignore[no-untyped-def]
    """Far CALL."""
    b = begin(env, place)
    how = _far_call(b, selector, target, shift, following)
    while how == FETCH or how == STORE:
        if how == FETCH:
            fetch(b, env)
        else:
            store(b, env)
        how = _far_call(b, selector, target, shift, following)
    leave_if_asked(b)


def far_return(env, shift, released, place):  # type: ignore[no-untyped-def]
    """Far RET."""
    b = begin(env, place)
    while _far_return(b, shift, released) == FETCH:
        fetch(b, env)
    leave_if_asked(b)


def interrupt_return(env, shift, following, place):  # type: ignore[no-untyped-def]
    """IRET in protected mode."""
    b = begin(env, place)
    while _interrupt_return(b, shift, following & 0xFFFFFFFF) == FETCH:
        fetch(b, env)
    leave_if_asked(b)


def real_interrupt_return(env, shift, place):  # type: ignore[no-untyped-def]
    """IRET in real and virtual-8086 mode."""
    b = begin(env, place)
    while _real_interrupt_return(b, shift) == FETCH:
        fetch(b, env)
    leave_if_asked(b)


def leave_syscall(env, shift, place):  # type: ignore[no-untyped-def]
    """SYSRET."""
    b = begin(env, place)
    _leave_syscall(b, shift)
    leave_if_asked(b)


def leave_sysenter(env, shift, place):  # type: ignore[no-untyped-def]
    """SYSEXIT."""
    b = begin(env, place)
    _leave_sysenter(b, shift)
    leave_if_asked(b)


def branch(env, place):  # type: ignore[no-untyped-def]
    """The end of a block whose successor is looked up, where RIP is not canonical."""
    b = begin(env, place)
    if _refused_branch(b):
        leave_if_asked(b)
    return call1(ld64(b + _F_LOOKUP), env)


def load_table(env, exit_code, place):  # type: ignore[no-untyped-def]
    """LGDT and LIDT, before they are intercepted or carried out."""
    b = begin(env, place)
    _check_table(b, exit_code)
    leave_if_asked(b)


def check_port(env, what, place):  # type: ignore[no-untyped-def]
    """INS, before it writes to its operand."""
    b = block_of(env)
    _check_port(b, what, place)
    leave_if_asked(b)


def code(uc, address, size, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_CODE at one address."""
    if _on_code(b, address):
        leave(b)


def run(b):  # type: ignore[no-untyped-def]
    """The run loop, from Python to Python."""
    _lend(b)
    kind = _run(b)
    _take(b)
    return kind


def let_go(b):  # type: ignore[no-untyped-def]
    """`token.let_go`."""
    return _let_go(b)


def repeat(b, loop):  # type: ignore[no-untyped-def]
    """`short_cases.repeat`, from Python to Python."""
    _lend(b)
    kind = _repeat(b, loop)
    _take(b)
    return kind


def begin_case(b, loop):  # type: ignore[no-untyped-def]
    """`short_cases.begin`."""
    return _begin_case(b, loop)


def walk(b, va, access, how):  # type: ignore[no-untyped-def]
    """`page_walk.walk` by pointer."""
    return _walk(b, va, access, how)


def translate(b, va, access, how):  # type: ignore[no-untyped-def]
    """`guest_tlb.translate` by pointer."""
    return _translate(b, va, access, how)


def walk_and_keep(b, va, access, how, way):  # type: ignore[no-untyped-def]
    """`guest_tlb.walk_and_keep` by pointer."""
    return _walk_and_keep(b, va, access, how, way)


def read_bytes(b, va, size):  # type: ignore[no-untyped-def]
    """`supervisor.read_bytes` by pointer."""
    return _read(b, va, size)


def write_bytes(b, va, size, value, how):  # type: ignore[no-untyped-def]
    """`supervisor.write_bytes` by pointer."""
    return _write(b, va, size, value, how)


def deliver(b, vector, error, kind, rip, inside):  # type: ignore[no-untyped-def]
    """`events.deliver` by pointer."""
    return _deliver(b, vector, error, kind, rip, inside)


def decode(b):  # type: ignore[no-untyped-def]
    """`decode.decode` by pointer."""
    return _decode(b)


def event(b, vector, error, kind, rip):  # type: ignore[no-untyped-def]
    """`raising.raise_event` outside a hook."""
    return _raise_event(b, vector, error, kind, rip, 0)


def exception(b, vector, error):  # type: ignore[no-untyped-def]
    """`raising.raise_exception` outside a hook."""
    return _raise_exception(b, vector, error, 0)


def complete(b, length):  # type: ignore[no-untyped-def]
    """`raising.complete` outside a hook."""
    return _complete(b, length, 0)


def enter_syscall(b, length):  # type: ignore[no-untyped-def]
    """`syscalls.enter_syscall` outside a hook."""
    return _enter_syscall(b, length, 0)


def enter_sysenter(b, length):  # type: ignore[no-untyped-def]
    """`syscalls.enter_sysenter` outside a hook."""
    return _enter_sysenter(b, length, 0)


def aborted(table, origin):  # type: ignore[no-untyped-def]
    """`emergency.aborted`, called by Unicorn through `hypervisor.engine.interposition.interpose`."""
    return _aborted(table, origin)


def on_signal(number, info, context, table):  # type: ignore[no-untyped-def]
    """`last_words.on_signal`, called through `hypervisor.engine.interposition.interpose`."""
    _on_signal(number, info, context, table)


def refuses(context, cpu):  # type: ignore[no-untyped-def]
    """`refused.refuses`, called by Unicorn's translator through `hypervisor.engine.interposition.interpose`."""
    return _refuses(context, cpu)


def media_done(context, cpu):  # type: ignore[no-untyped-def]
    """`sse_and_mmx.done`, called by Unicorn's translator through `hypervisor.engine.interposition.interpose`."""
    _media_done(block_of(cpu + _TO_ENV), cpu)


def read_code(env, pc, byte, table):  # type: ignore[no-untyped-def]
    """`misread.read_code`, likewise."""
    return _read_code(env, pc, byte, table)


def emit_call(tcg, function, result, count, arguments, table):  # type: ignore[no-untyped-def]
    """`calls.emit_call`, called by Unicorn through `hypervisor.engine.interposition.interpose`."""
    _emit_call(tcg, function, result, count, arguments, table)


def emit_access(tcg, value, address, index, operation, original):  # type: ignore[no-untyped-def]
    """`memory_operand.emit_access`, called by Unicorn's translator through `interpose`."""
    _emit_access(tcg, value, address, index, operation, original)


def flush_indexes(cpu, indexes, original):  # type: ignore[no-untyped-def]
    """`tlb_entry.flush`, called by Unicorn through `hypervisor.engine.interposition.interpose`."""
    _flush_indexes(cpu, indexes, original)


def full(table, cpu):  # type: ignore[no-untyped-def]
    """`translated.full`, called by Unicorn through `hypervisor.engine.interposition.interpose`."""
    _full(table, cpu)


def repeats(table, cpu):  # type: ignore[no-untyped-def]
    """`translated.repeats`, called by Unicorn through `hypervisor.engine.interposition.interpose`."""
    _repeats(table, cpu)


def forget_code(b):  # type: ignore[no-untyped-def]
    """`translated.forget_code`."""
    return _forget_code(b)


def drop_trapped(key, block, b):  # type: ignore[no-untyped-def]
    """`translated.drop_trapped`, called for each translated block."""
    return _drop_trapped(b, block)


def retranslate(b, addresses, count):  # type: ignore[no-untyped-def]
    """`translated.retranslate`."""
    return _retranslate(b, addresses, count)


def read_cr0(env):  # type: ignore[no-untyped-def]
    """`time_and_control.widen_smsw`, called by generated code through `hypervisor.engine.interposition.interpose`."""
    _widen_smsw(block_of(env), env)


def pcmpestrm(env, first, second, control):  # type: ignore[no-untyped-def]
    """PCMPESTRM, called by generated code through `interpose`; so are the next three."""
    _compare_strings(env, first, second, control, 0)


def pcmpestri(env, first, second, control):  # type: ignore[no-untyped-def]
    """PCMPESTRI."""
    _compare_strings(env, first, second, control, _INDEX)


def pcmpistrm(env, first, second, control):  # type: ignore[no-untyped-def]
    """PCMPISTRM."""
    _compare_strings(env, first, second, control, _IMPLICIT)


def pcmpistri(env, first, second, control):  # type: ignore[no-untyped-def]
    """PCMPISTRI."""
    _compare_strings(env, first, second, control, _IMPLICIT | _INDEX)


def x87_unusual(env, what, place):  # type: ignore[no-untyped-def]
    """`x87.unusual`, called by `x87_code`."""
    return _unusual(block_of(env), env, what, place)


def sse_exception(env, flags, place):  # type: ignore[no-untyped-def]
    """`sse.exception`, called by `sse_code`."""
    _sse_exception(block_of(env), env, flags, place)


def refuse(env, vector, place):  # type: ignore[no-untyped-def]
    """#UD, or #GP(0), of the instruction that generated code has come to, called by `sse_code`."""
    call4(ld64(block_of(env) + _F_RAISE), env, vector, 0, place)


def sync(b):  # type: ignore[no-untyped-def]
    """`access.sync_hflags`."""
    return _sync(b)


def in_block(b):  # type: ignore[no-untyped-def]
    """`rest_of_block.in_block`."""
    return in_block_(b)


def flush_guest(b):  # type: ignore[no-untyped-def]
    """`guest_tlb.flush_all`."""
    return _flush_guest(b)


def flush(b):  # type: ignore[no-untyped-def]
    """`access.flush_tlb`."""
    return _flush(b)


def written(b, hpa, size):  # type: ignore[no-untyped-def]
    """`notes.written`."""
    return _written(b, hpa, size)


def own(b, page):  # type: ignore[no-untyped-def]
    """`gate.own`."""
    return _own(b, page)


def covered(b, page):  # type: ignore[no-untyped-def]
    """`access.covered`."""
    return _covered(b, page)


def rest_of_fill(b, address, access, index, gpa):  # type: ignore[no-untyped-def]
    """`fill.rest_of_fill`."""
    return _rest_of_fill(b, address, access, index, gpa)


def save(b, state, extra):  # type: ignore[no-untyped-def]
    """`switch.save`."""
    return _save(b, state, extra)


def load(b, state, extra):  # type: ignore[no-untyped-def]
    """`switch.load`."""
    return _load(b, state, extra)


def clock(b):  # type: ignore[no-untyped-def]
    """`time_stamp.clock`."""
    return _clock(b)


def spin(b):  # type: ignore[no-untyped-def]
    """`time_stamp.spin` outside a hook."""
    return _spin(b, 0)


ENTRIES = (
    (interrupt, "v(lul)"), (tlb, "B(lliiiBl)"), (read_port, "l(llll)"), (write_port, "v(lllll)"),
    (read_mmio, "l(llul)"), (write_mmio, "v(llull)"), (syscall, "v(ll)"),
    (sysenter, "v(ll)"), (block, "v(llul)"), (code, "v(llul)"), (run,
    "l(l)"), (event, "l(lllll)"), (exception, "l(lll)"), (complete, "l(ll)"), (enter_syscall, "l(ll)"), (enter_sysenter,
    "l(ll)"), (sync, "l(l)"), (flush, "l(l)"), (flush_guest, "l(l)"), (in_block, "l(l)"),
    (written, "l(lll)"), (clock, "l(l)"),
    (walk, "l(llll)"), (translate, "l(llll)"), (walk_and_keep, "l(lllll)"), (read_bytes, "l(lll)"),
    (write_bytes, "l(lllll)"), (deliver, "l(llllll)"), (decode, "l(l)"), (aborted, "l(ll)"),
    (save, "l(lll)"), (load, "l(lll)"), (emit_call, "v(lllill)"),
    (flush_indexes, "v(lil)"), (full, "v(ll)"), (repeats, "v(ll)"), (forget_code, "l(l)"), (drop_trapped, "l(lll)"),
    (retranslate, "l(lll)"), (on_signal, "v(illl)"),
    (pcmpestrm, "v(lllu)"), (pcmpestri, "v(lllu)"), (pcmpistrm, "v(lllu)"), (pcmpistri, "v(lllu)"),
    (jump, "v(llul)"), (rdtsc, "v(l)"), (rdtscp, "v(l)"), (write_cr, "v(lil)"), (reset_rf, "v(l)"), (spin, "l(l)"),
    (refuses, "l(ll)"), (media_done, "v(ll)"), (read_cr0, "v(l)"),
    (load_segment, "v(liil)"), (far_jump, "v(lilll)"), (far_call, "v(lilill)"), (far_return, "v(liil)"),
    (interrupt_return, "v(liil)"), (real_interrupt_return, "v(lil)"), (leave_syscall, "v(lil)"),
    (leave_sysenter, "v(lil)"), (branch, "l(ll)"), (load_table, "v(lil)"),
    (emit_access, "v(llllul)"), (load_misaligned, "l(llill)"), (store_misaligned, "v(lllill)"),
    (read_code, "l(llil)"), (check_port, "v(lil)"), (load_system_segment, "v(liil)"),
    (x87_unusual, "l(lll)"), (sse_exception, "v(lll)"), (refuse, "v(lll)"), (own, "l(ll)"),
    (covered, "l(ll)"), (rest_of_fill, "l(lllll)"), (note_block, "v(llul)"), (repeat, "l(ll)"), (begin_case, "l(ll)"),
    (let_go, "l(l)"),
)  # fmt: skip
"""Functions and their C types: v void, l int64, i int32, u uint32, B uint8; result(arguments)."""
