"""What Unicorn calls instead of ``abort``: the guest that caused it is left, and the process lives.

TCG aborts the process where it meets what it holds to be impossible, and a guest can lead it there: LOCK BTS with a
register operand does, from CPL 3. A longjmp out of the translator is what QEMU itself does when an instruction's bytes
cannot be fetched, so nothing is left half done.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine.jit import call1, kernel, ld64, st64

_CPU, _UC, _F_EMU_STOP, _F_LOOP_EXIT = b_.CPU, b_.UC, b_.F_EMU_STOP, b_.F_LOOP_EXIT
_RUNNING, _ABORTED, _THREAD = b_.RUNNING, b_.ABORTED, b_.THREAD

_T_ABORT, _T_SELF, _T_CPU_ABORT = b_.GUARD_ABORT, b_.GUARD_SELF, b_.GUARD_CPU_ABORT
_T_BLOCKS, _T_SIZE = b_.GUARD_BLOCKS, b_.GUARD_SIZE

TRANSLATING, EXECUTING = 1, 2
"""What was going on when Unicorn gave up."""


@kernel
def running(table):  # type: ignore[no-untyped-def]
    """The block of the pCPU that runs a guest on this thread, or 0."""
    thread = call1(ld64(table + _T_SELF), 0)
    at = table + _T_BLOCKS
    for _ in range(_T_SIZE):
        b = ld64(at)
        if b and ld64(b + _THREAD) == thread and ld64(b + _RUNNING):
            return b
        at += 8
    return 0


@kernel
def aborted(table, origin):  # type: ignore[no-untyped-def]
    """Leave the guest that this thread runs; ``origin`` is where ``abort`` was called. Does not return."""
    b = running(table)
    if b:
        st64(b + _ABORTED, EXECUTING if origin == ld64(table + _T_CPU_ABORT) else TRANSLATING)
        call1(ld64(b + _F_EMU_STOP), ld64(b + _UC))
        call1(ld64(b + _F_LOOP_EXIT), ld64(b + _CPU))
    return call1(ld64(table + _T_ABORT), 0)
