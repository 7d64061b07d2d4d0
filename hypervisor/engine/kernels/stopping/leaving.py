"""Leaving the guest in the middle of an instruction, by Unicorn's own ways out of its loop: they do not return."""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call1, call2, kernel, ld64

_X_KIND, _FAULT, _CPU, _UC, _FILL_PLACE = b_.X_KIND, b_.FAULT, b_.CPU, b_.UC, b_.FILL_PLACE
_F_EMU_STOP, _F_LOOP_EXIT, _F_LOOP_EXIT_RESTORE, _MEM_IO_PC = (
    b_.F_EMU_STOP, b_.F_LOOP_EXIT, b_.F_LOOP_EXIT_RESTORE, l_.CPU_MEM_IO_PC,
)  # fmt: skip


@kernel
def leave(b):  # type: ignore[no-untyped-def]
    """Leave, with RIP as it is in the CPU state."""
    call1(ld64(b + _F_EMU_STOP), ld64(b + _UC))
    call1(ld64(b + _F_LOOP_EXIT), ld64(b + _CPU))
    return 0


@kernel
def look_again(b):  # type: ignore[no-untyped-def]
    """Leave the block alone: the CPU looks at its interrupt request, and goes on."""
    call1(ld64(b + _F_LOOP_EXIT), ld64(b + _CPU))
    return 0


@kernel
def leave_if_asked(b):  # type: ignore[no-untyped-def]
    """Leave if there is an exit to tell, or a fault to deliver."""
    if ld64(b + _X_KIND) or ld64(b + _FAULT) >= 0:
        leave(b)
    return 0


@kernel
def leave_access_if_asked(b):  # type: ignore[no-untyped-def]
    """Leave out of an access to device memory, whose RIP must be found from the generated code."""
    if ld64(b + _X_KIND):
        cpu = ld64(b + _CPU)
        call1(ld64(b + _F_EMU_STOP), ld64(b + _UC))
        call2(ld64(b + _F_LOOP_EXIT_RESTORE), cpu, ld64(cpu + _MEM_IO_PC))
    return 0


@kernel
def leave_fill(b):  # type: ignore[no-untyped-def]
    """Leave out of an access that missed Unicorn's TLB and may not be made."""
    call1(ld64(b + _F_EMU_STOP), ld64(b + _UC))
    call2(ld64(b + _F_LOOP_EXIT_RESTORE), ld64(b + _CPU), ld64(b + _FILL_PLACE))
    return 0


__all__ = ["leave", "leave_access_if_asked", "leave_fill", "leave_if_asked", "look_again"]
