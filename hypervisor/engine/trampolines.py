"""Hooks for uncompiled kernels: compiled steps from C into a Python body, which leave the guest after it has returned.

Leaving in the middle of an instruction is a longjmp, which must not cross Python frames. The bodies' pointers lie in
the block; `hypervisor.engine.plain` puts them there. Compiled and cached with the other entry points.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call1, call2, call3, call4, kernel, ld64

_CPU, _UC, _X_KIND, _FAULT = b_.CPU, b_.UC, b_.X_KIND, b_.FAULT
_F_EMU_STOP, _F_LOOP_EXIT, _F_LOOP_EXIT_RESTORE = b_.F_EMU_STOP, b_.F_LOOP_EXIT, b_.F_LOOP_EXIT_RESTORE
_MEM_IO_PC = l_.CPU_MEM_IO_PC
_INTERRUPT, _PORT_IN, _PORT_OUT, _SYSCALL, _SYSENTER, _MMIO_READ, _MMIO_WRITE, _TLB, _BLOCK, _CODE = (
    b_.PLAIN + 8 * n for n in range(len(b_.HOOKS))
)


@kernel
def _leave(b):  # type: ignore[no-untyped-def]
    call1(ld64(b + _F_EMU_STOP), ld64(b + _UC))
    call1(ld64(b + _F_LOOP_EXIT), ld64(b + _CPU))
    return 0


@kernel
def _leave_if_asked(b):  # type: ignore[no-untyped-def]
    if ld64(b + _X_KIND) or ld64(b + _FAULT) >= 0:
        _leave(b)
    return 0


@kernel
def _leave_access_if_asked(b):  # type: ignore[no-untyped-def]
    if ld64(b + _X_KIND):
        cpu = ld64(b + _CPU)
        call1(ld64(b + _F_EMU_STOP), ld64(b + _UC))
        call2(ld64(b + _F_LOOP_EXIT_RESTORE), cpu, ld64(cpu + _MEM_IO_PC))
    return 0


def plain_interrupt(uc, number, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_INTR."""
    call2(ld64(b + _INTERRUPT), b, number)


def plain_tlb(uc, va, kind, result, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_TLB_FILL."""
    return call4(ld64(b + _TLB), b, va, kind, result)


def plain_read_port(uc, port, size, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_INSN, IN."""
    value = call3(ld64(b + _PORT_IN), b, port, size)
    _leave_if_asked(b)
    return value


def plain_write_port(uc, port, size, value, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_INSN, OUT."""
    call4(ld64(b + _PORT_OUT), b, port, size, value)
    _leave_if_asked(b)


def plain_read_mmio(uc, gpa, size, b):  # type: ignore[no-untyped-def]
    """uc_mmio_map, read."""
    value = call3(ld64(b + _MMIO_READ), b, gpa, size)
    _leave_access_if_asked(b)
    return value


def plain_write_mmio(uc, gpa, size, value, b):  # type: ignore[no-untyped-def]
    """uc_mmio_map, write."""
    call4(ld64(b + _MMIO_WRITE), b, gpa, size, value)
    _leave_access_if_asked(b)


def plain_syscall(uc, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_INSN, SYSCALL."""
    call1(ld64(b + _SYSCALL), b)
    _leave_if_asked(b)


def plain_sysenter(uc, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_INSN, SYSENTER."""
    call1(ld64(b + _SYSENTER), b)
    _leave_if_asked(b)


def plain_block(uc, address, size, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_BLOCK."""
    what = call3(ld64(b + _BLOCK), b, address, size)
    if what == 1:
        _leave(b)
    elif what:
        call1(ld64(b + _F_LOOP_EXIT), ld64(b + _CPU))


def plain_code(uc, address, size, b):  # type: ignore[no-untyped-def]
    """UC_HOOK_CODE at one address."""
    if call2(ld64(b + _CODE), b, address):
        _leave(b)


TRAMPOLINES = (
    (plain_interrupt, "v(lul)"), (plain_tlb, "B(llill)"), (plain_read_port, "u(luil)"), (plain_write_port, "v(luiul)"),
    (plain_read_mmio, "l(llul)"), (plain_write_mmio, "v(llull)"), (plain_syscall, "v(ll)"), (plain_sysenter, "v(ll)"),
    (plain_block, "v(llul)"), (plain_code, "v(llul)"),
)  # fmt: skip
"""As `hooks.ENTRIES`."""
