"""The run loop, and the check at each block's start."""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.vectors import PF
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call1, call5, kernel, ld32, ld64, st32, st64
from hypervisor.engine.kernels.coverage.entered import entered
from hypervisor.engine.kernels.memory.access import cut_rip
from hypervisor.engine.kernels.stopping.emergency import EXECUTING
from hypervisor.engine.kernels.stopping.idle import skip_jumps
from hypervisor.engine.kernels.stopping.lost_flags import mend
from hypervisor.engine.kernels.stopping.reporting import count, stop
from hypervisor.engine.kernels.stopping.rest_of_block import (
    begin_rest,
    forget_rest,
    in_block,
    interrupted,
    looked_at,
    passed,
    rest_begins,
)
from hypervisor.engine.kernels.stopping.wall_timer import first_look, look_at_clock
from hypervisor.engine.kernels.tlb.fill import REPEAT
from hypervisor.engine.kernels.vmexit.raising import complete, raise_exception
from hypervisor.engine.kernels.vmexit.translated import forget_code
from hypervisor.engine.kernels.vmexit.turn_taking import NOT_OVER, next_turn
from hypervisor.memory import map_words as m_

_ENV, _CPU, _UC, _EIP, _CR2 = b_.ENV, b_.CPU, b_.UC, l_.EIP, l_.CR2
_X_KIND, _X_INFO = b_.X_KIND, b_.X_INFO
_FAULT, _FAULT_ERROR, _FAULT_ADDRESS = b_.FAULT, b_.FAULT_ERROR, b_.FAULT_ADDRESS
_NOW, _DEADLINE, _NEXT, _BLOCK_END, _KICK, _STEP, _SKIP = (
    b_.NOW, b_.DEADLINE, b_.NEXT, b_.BLOCK_END, b_.KICK, b_.STEP, b_.SKIP,
)  # fmt: skip
_INTR, _ARMED, _F_EMU_START, _C_STOPS, _WALL = b_.INTR, b_.ARMED, b_.F_EMU_START, b_.C_STOPS, b_.WALL
_REQUEST, _VIRQ = l_.CPU_INTERRUPT_REQUEST, l_.CPU_INTERRUPT_VIRQ
_COMPLETE, _EXECUTES, _EXECUTES_AT = b_.COMPLETE, b_.EXECUTES, b_.EXECUTES_AT
_DEADLINE_KIND, _STEPPED, _FAILED, _EXECUTE, _MEMORY = (
    int(K.DEADLINE), int(K.STEPPED), int(K.FAILED), int(K.EXECUTE), int(K.MEMORY),
)  # fmt: skip

_RUNNING, _ABORTED, _CAREFUL, _CFLAGS = b_.RUNNING, b_.ABORTED, b_.CAREFUL, l_.CPU_CFLAGS_NEXT_TB
_BEYOND = b_.BEYOND
_THREAD, _F_SELF, _LONGEST_BLOCK = b_.THREAD, b_.F_SELF, 512
_FLAGS_AT = b_.FLAGS_AT
_CODE_FULL, _REPEATED, _C_EMPTIED, _NO_FRAME = b_.CODE_FULL, b_.REPEATED, b_.C_EMPTIED, b_.NO_FRAME
_FRAMES, _LOST, _LOST_PAGES = b_.FRAMES, m_.LOST, b_.LOST_PAGES
_OUT_OF_FRAMES = b_.OUT_OF_FRAMES

_RESTED, _RESTING, _ONE, _BEGUN, _LOOK = b_.RESTED, b_.RESTING, b_.STEP_ONE, b_.STEP_BEGUN, b_.STEP_LOOK

CONTINUE, STOP, RESTART = 0, 1, 2
"""What a block-start check asks for: go on; leave the guest; let the CPU look at its interrupt request, then go on."""


@kernel
def on_block(b, address, size):  # type: ignore[no-untyped-def]
    """Count a block of ``size`` bytes at linear ``address``, or ask for a stop before it."""
    now = ld64(b + _NOW)
    if now < ld64(b + _DEADLINE) and ld64(b + _KICK) == 0:
        st64(b + _NOW, now + size)
        st64(b + _BLOCK_END, address + size)
        return CONTINUE
    st64(b + _DEADLINE, ld64(b + _NEXT))
    st64(b + _BLOCK_END, address)
    repeated = ld64(b + _REPEATED)
    st64(b + _REPEATED, 0)
    st64(b + _RESTED, 0)
    if ld64(b + _RESTING):
        rest_begins(b, address, size)
        return CONTINUE
    step = ld64(b + _STEP)
    if step == _ONE:  # the one block of this step
        if passed(b, address, size) == 0:
            entered(b, address, size)
        st64(b + _STEP, _BEGUN)
        st64(b + _DEADLINE, 0)
        st64(b + _NOW, now + size)
        st64(b + _BLOCK_END, address + size)
        return CONTINUE
    if step == _BEGUN or step == _LOOK:
        if step == _LOOK:
            looked_at(b, address, size)
            entered(b, address, size)
        stop(b, _STEPPED, 0)
        return STOP
    if ld64(b + _WALL):
        look_at_clock(b, now)
    if now >= ld64(b + _NEXT) or (ld64(b + _KICK) and repeated == 0):
        stop(b, _DEADLINE_KIND, 0)
        return STOP
    if ld64(b + _CODE_FULL) or ld64(b + _NO_FRAME):
        if repeated == 0:
            return STOP
        st64(b + _DEADLINE, 0)
    if ld64(b + _ARMED):
        st64(b + _ARMED, 0)
        if ld64(b + _INTR):
            cpu = ld64(b + _CPU)
            st32(cpu + _REQUEST, ld32(cpu + _REQUEST) | _VIRQ)
            return RESTART
    st64(b + _NOW, now + size)
    st64(b + _BLOCK_END, address + size)
    return CONTINUE


@kernel
def on_jump(b, address, size):  # type: ignore[no-untyped-def]
    """`on_block` of a block that is a jump to itself and nothing else."""
    if skip_jumps(b, address, size):
        st64(b + _BLOCK_END, address)
        return STOP
    return on_block(b, address, size)


@kernel
def _is_trapped(b, address):  # type: ignore[no-untyped-def]
    """Whether the VM traps the instruction at linear ``address``. Hooks of others are left in what they share."""
    at = ld64(b + _EXECUTES_AT)
    for _ in range(ld64(b + _EXECUTES)):
        if ld64(at) == address:
            return 1
        at += 8
    return 0


@kernel
def on_code(b, address):  # type: ignore[no-untyped-def]
    """An instruction with a hook is about to be executed; 1 to leave the guest before it."""
    if ld64(b + _SKIP) == address:
        st64(b + _SKIP, -1)
        return 0
    if not _is_trapped(b, address):
        return 0
    interrupted(b)
    count(b, _EXECUTE)
    st64(b + _X_INFO, address)
    stop(b, _EXECUTE, 0)
    return 1


@kernel
def _step(b, cpu):  # type: ignore[no-untyped-def]
    """Let the next start run a single instruction."""
    st64(b + _STEP, _ONE)
    st64(b + _DEADLINE, 0)
    st32(cpu + _CFLAGS, 1)
    return 1


@kernel
def _one_instruction(b, cpu):  # type: ignore[no-untyped-def]
    """The same, as part of a run; see `_gave_up`."""
    st64(b + _CAREFUL, ld64(b + _CAREFUL) - 1)
    return _step(b, cpu)


@kernel
def _gave_up(b):  # type: ignore[no-untyped-def]
    """Unicorn called ``abort``; the run loop's answer, 0 to go on.

    It does so for encodings that its translator forgot to refuse. RIP is at the start of the block that it was
    translating: run what follows one by one. The single instruction that it gives up at then is undefined.
    """
    how = ld64(b + _ABORTED)
    st64(b + _ABORTED, 0)
    if how == EXECUTING:
        st64(b + _X_INFO, -1)
        return _FAILED
    step = ld64(b + _STEP)
    beyond = ld64(b + _BEYOND)
    st64(b + _BEYOND, 0)
    if step == _BEGUN:  # the one instruction has been executed; this was the block behind it
        return _STEPPED
    if beyond:  # there was nothing wrong with its code
        return 0
    if step == _LOOK:  # nobody knows its end
        forget_rest(b)
        return _STEPPED
    if step == 0:
        st64(b + _CAREFUL, _LONGEST_BLOCK)
        return 0
    st64(b + _CAREFUL, 0)
    raise_exception(b, 6, 0, 0)
    st64(b + _STEP, _BEGUN)  # delivering it was the step
    return ld64(b + _X_KIND)


@kernel
def run(b):  # type: ignore[no-untyped-def]
    """Run the guest until there is something to tell Python; the exit's kind."""
    env, cpu, uc = ld64(b + _ENV), ld64(b + _CPU), ld64(b + _UC)
    lost = ld64(ld64(b + _FRAMES) + _LOST)
    st64(b + _X_KIND, 0)
    st64(b + _THREAD, call1(ld64(b + _F_SELF), 0))
    length = ld64(b + _COMPLETE)
    if length:
        st64(b + _COMPLETE, 0)
        complete(b, length, 0)
        if ld64(b + _X_KIND):
            return ld64(b + _X_KIND)
    while True:
        if ld64(b + _NO_FRAME) or ld64(ld64(b + _FRAMES) + _LOST) != lost:
            st64(b + _X_INFO, _OUT_OF_FRAMES if ld64(b + _NO_FRAME) == 1 else _LOST_PAGES)
            st64(b + _NO_FRAME, 0)
            return _FAILED
        if ld64(b + _CODE_FULL):
            forget_code(b)
            st64(b + _C_EMPTIED, ld64(b + _C_EMPTIED) + 1)
        resting = in_block(b)
        if ld64(b + _STEP) == 0 and (ld64(b + _KICK) or (resting == 0 and ld64(b + _NOW) >= ld64(b + _NEXT))):
            # (who steps has been asked about this instruction already: it comes first)
            kind = next_turn(b, _DEADLINE_KIND)
            if kind != NOT_OVER:
                return kind
            continue
        st64(b + _FAULT, -1)
        st64(b + _FLAGS_AT, -1)
        st64(b + _BLOCK_END, 0)  # until a block begins there is nothing to take back
        st64(b + _RESTING, 0)
        armed, single = 0, 0
        request = ld32(cpu + _REQUEST) & ~_VIRQ
        if ld64(b + _STEP) == 0:
            if ld64(b + _INTR):
                if resting:  # it waits for the block's end
                    armed = 1
                elif ld64(b + _CAREFUL) == 0:
                    request |= _VIRQ
            if ld64(b + _CAREFUL):
                single = _one_instruction(b, cpu)
            elif resting:
                begin_rest(b)
        st64(b + _ARMED, armed)
        st32(cpu + _REQUEST, request)
        st64(b + _RUNNING, 1)
        error = call5(ld64(b + _F_EMU_START), uc, ld64(env + _EIP), 0, 0, 0) & 0xFFFFFFFF
        st64(b + _RUNNING, 0)
        cut_rip(b)
        mend(b)
        kind = ld64(b + _X_KIND)
        aborted = ld64(b + _ABORTED)
        if aborted:
            kind = _gave_up(b)
        if single or ld64(b + _RESTING):
            st32(cpu + _CFLAGS, -1)
        if single:
            st64(b + _STEP, 0)
            st64(b + _DEADLINE, first_look(b))
            if kind == _STEPPED:
                st64(b + _X_KIND, 0)
                continue
        if ld64(b + _NO_FRAME):
            continue
        if kind:
            kind = next_turn(b, kind)
            if kind != NOT_OVER:
                return kind
            st64(b + _X_KIND, 0)
            continue
        if aborted:
            continue
        vector = ld64(b + _FAULT)
        if vector >= 0:
            st64(b + _X_INFO + 24, ld64(env + _CR2))  # for a handler that keeps the fault from the guest
            if vector == PF:
                st64(env + _CR2, ld64(b + _FAULT_ADDRESS))
            raise_exception(b, vector, ld64(b + _FAULT_ERROR), 0)
            step = ld64(b + _STEP)
            if step == _ONE or step == _LOOK:  # the fetch of the one instruction faulted: that was the step
                st64(b + _STEP, _BEGUN)
            if ld64(b + _X_KIND):
                return ld64(b + _X_KIND)
        elif vector == -2:
            count(b, _MEMORY)
            return _MEMORY
        elif vector == REPEAT:
            if ld64(b + _STEP) == _BEGUN:
                _step(b, cpu)
        elif error:
            st64(b + _X_INFO, error)
            return _FAILED
        else:
            st64(b + _C_STOPS, ld64(b + _C_STOPS) + 1)
