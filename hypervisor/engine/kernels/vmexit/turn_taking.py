"""The next turn of a VM's vCPUs, without Python: by the rules of `hypervisor.run.sharing.turns`, and on the same words.

A turn is given here if Python has done nothing since it looked last, so that nothing it looks at between turns (timers,
input, what ends the run) can have changed. Whatever else there is to do is left to it, before anything has changed
that it would change again.
"""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import DR7_ENABLES, RFLAGS_IF
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld8, ld64, st8, st64
from hypervisor.engine.kernels.memory.access import flush_tlb, sync_hflags
from hypervisor.engine.kernels.memory.guest_tlb import flush_all
from hypervisor.engine.kernels.stopping.rest_of_block import in_block
from hypervisor.engine.kernels.stopping.wall_timer import first_look
from hypervisor.engine.kernels.vmexit.switch import load, save
from hypervisor.engine.shared_words.scheduling import (
    IDLE_NS,
    IDLE_TURNS,
    LOOK_NS,
    SPINS,
    SPINS_AGAIN,
    turn_word,
    vcpu_word,
)

_ENV, _EFLAGS, _VCPU, _ROW, _APIC, _VCPUS, _VCPU_COUNT, _TURNS = (
    b_.ENV, l_.EFLAGS, b_.VCPU, b_.ROW, b_.APIC, b_.VCPUS, b_.VCPU_COUNT, b_.TURNS,
)  # fmt: skip
_NOW, _NEXT, _DEADLINE, _FLOOR, _KICK, _STEP, _WALL, _INTR, _ARMED, _BLOCK_END = (
    b_.NOW, b_.NEXT, b_.DEADLINE, b_.FLOOR, b_.KICK, b_.STEP, b_.WALL, b_.INTR, b_.ARMED, b_.BLOCK_END,
)  # fmt: skip
_SPINS_WORD, _SPINS_LEFT, _SPUN_AT, _WORKED, _SKIPPED, _DIRTY, _TLB_TOO = (
    b_.SPINS, b_.SPINS_LEFT, b_.SPUN_AT, b_.WORKED, b_.SKIPPED, b_.DIRTY, b_.TLB_TOO,
)  # fmt: skip
_GUEST_DR7, _DR7, _NMI_BLOCKED = b_.GUEST_DR7, b_.GUEST_DR7 - b_.VCPU, b_.NMI_BLOCKED - b_.VCPU
_STATE_AT, _EXTRA_AT, _APIC_AT, _POSITION, _EVENT_AT, _LOOKED_AT = (
    vcpu_word(name) for name in ("state_at", "extra_at", "apic_at", "position", "event_at", "looked_at")
)
_LEVEL, _HALTED, _WAITING, _SPINNING, _HAS_SKIPPED, _NMI, _GATE = (
    vcpu_word(name) for name in ("intr", "halted", "waiting", "spinning", "skipped", "nmi_pending", "task_gate")
)
_TIME, _TURN_FLOOR, _END, _HORIZON, _LOOK_AT, _LEAVE_AT, _SLICE, _IDLE, _SEVERAL, _ALONE, _NEW, _IN_ENGINE = (
    turn_word(name)
    for name in (
        "time", "floor", "end", "horizon", "look_at", "leave_at", "slice_ns", "idle_turns", "several", "alone", "new",
        "in_engine",
    )
)  # fmt: skip
_DEADLINE_KIND, _SPINNING_KIND, _TURN_OVER = int(K.DEADLINE), int(K.SPINNING), int(K.TURN_OVER)
_FOREVER = (1 << 63) - 1
NOT_OVER = 0
"""What `next_turn` answers where the guest goes on."""


@kernel
def _extra(b, row):  # type: ignore[no-untyped-def]
    """Where a vCPU's block words are: on the pCPU, or saved."""
    return b + _VCPU if row == ld64(b + _ROW) else ld64(row + _EXTRA_AT)


@kernel
def _state(b, row):  # type: ignore[no-untyped-def]
    """Where its registers are."""
    return ld64(b + _ENV) if row == ld64(b + _ROW) else ld64(row + _STATE_AT)


@kernel
def _nmi_comes(b, row):  # type: ignore[no-untyped-def]
    return ld8(row + _NMI) != 0 and ld64(_extra(b, row) + _NMI_BLOCKED) == 0


@kernel
def _is_awake(b, row):  # type: ignore[no-untyped-def]
    """Whether a vCPU has something to do, as `Processor.wakes`: one that sleeps is woken by what has happened to it."""
    if ld8(row + _WAITING):
        return False
    if ld8(row + _HALTED) == 0:
        return True
    interrupted = ld8(row + _LEVEL) and ld64(_state(b, row) + _EFLAGS) & RFLAGS_IF
    if interrupted or _nmi_comes(b, row):
        st8(row + _HALTED, 0)
        position = max(ld64(row + _POSITION), ld64(row + _EVENT_AT))
        st64(row + _POSITION, position)
        if row == ld64(b + _ROW):
            st64(b + _NOW, max(ld64(b + _NOW), position))
        return True
    return False


@kernel
def _goes_on(row, end):  # type: ignore[no-untyped-def]
    """Whether the current turn has not ended."""
    return ld64(row + _POSITION) < end and ld8(row + _HALTED) == 0 and ld8(row + _WAITING) == 0


@kernel
def _give_way(b, turns, row):  # type: ignore[no-untyped-def]
    """The current vCPU waits for another one: those behind it come first, and then one at least."""
    worked = ld64(b + _WORKED)
    st8(row + _SPINNING, 0 if worked else 1)
    if worked:
        st64(turns + _IDLE, 0)
    first, first_busy = _FOREVER, _FOREVER
    for n in range(ld64(b + _VCPU_COUNT)):
        other = ld64(ld64(b + _VCPUS) + 8 * n)
        if other != row and _is_awake(b, other):
            position = ld64(other + _POSITION)
            first = min(first, position)
            if ld8(other + _SPINNING) == 0:
                first_busy = min(first_busy, position)
    if first_busy < _FOREVER:
        st64(b + _NOW, max(ld64(b + _NOW), first_busy + 1))
    elif first < _FOREVER:
        st64(turns + _IDLE, ld64(turns + _IDLE) + 1)
        st64(b + _NOW, max(ld64(b + _NOW), first + min(ld64(turns + _IDLE), IDLE_TURNS) * IDLE_NS))
    st64(row + _POSITION, ld64(b + _NOW))
    st64(turns + _END, 0)
    return 0


@kernel
def _served(b, turns, row, kind):  # type: ignore[no-untyped-def]
    """Do what the end of a turn asks for; whether nothing of that is Python's."""
    now = ld64(b + _NOW)
    st64(row + _POSITION, now)
    if kind == _DEADLINE_KIND:
        return now >= ld64(b + _NEXT) and now < ld64(row + _LOOKED_AT) + LOOK_NS
    if kind == _SPINNING_KIND:
        if ld64(b + _WALL) and ld64(turns + _IDLE) >= IDLE_TURNS:  # it may rest
            return False
        _give_way(b, turns, row)
        return True
    return kind == _TURN_OVER


@kernel
def _can_run(b, row):  # type: ignore[no-untyped-def]
    """Whether nothing is to be done to a vCPU before its turn but what is done here."""
    if ld8(row + _GATE) or _nmi_comes(b, row):
        return False
    return ld64(_extra(b, row) + _DR7) & DR7_ENABLES == 0


@kernel
def _enter(b, turns, row):  # type: ignore[no-untyped-def]
    """Put a vCPU on the pCPU, as `Turns.enter`."""
    old = ld64(b + _ROW)
    save(b, ld64(old + _STATE_AT), ld64(old + _EXTRA_AT))
    load(b, ld64(row + _STATE_AT), ld64(row + _EXTRA_AT))
    st64(b + _ROW, row)
    st64(b + _APIC, ld64(row + _APIC_AT))
    dirty = ld64(b + _DIRTY)
    if dirty:
        sync_hflags(b)
        if dirty & _TLB_TOO:
            flush_all(b)
        else:
            flush_tlb(b)
        st64(b + _DIRTY, 0)
    st64(b + _NOW, ld64(row + _POSITION))
    st64(b + _FLOOR, ld64(turns + _TURN_FLOOR))
    st64(b + _INTR, ld8(row + _LEVEL))
    st64(b + _ARMED, 0)
    st64(b + _BLOCK_END, 0)
    return 0


@kernel
def _begin(b, turns, row):  # type: ignore[no-untyped-def]
    """As `Turns.begin`."""
    next_stop = min(ld64(turns + _END), ld64(turns + _LEAVE_AT))
    st64(b + _NEXT, next_stop)
    st64(b + _DEADLINE, first_look(b))
    if ld8(turns + _NEW):
        st8(turns + _NEW, 0)
        spins = SPINS_AGAIN if ld8(row + _SPINNING) else SPINS
        if ld8(turns + _ALONE):
            spins = 0
        st64(b + _SPINS_WORD, spins)
        st64(b + _SPINS_LEFT, spins)
        st64(b + _SPUN_AT, ld64(b + _NOW))
        st64(b + _WORKED, 0)
        st64(b + _SKIPPED, 0)
    return 0


@kernel
def next_turn(b, kind):  # type: ignore[no-untyped-def]
    """A turn has ended with an exit of this kind: give the next one. `NOT_OVER` if that was done, else what is left to
    tell Python.
    """
    turns, row = ld64(b + _TURNS), ld64(b + _ROW)
    if turns == 0 or ld8(turns + _SEVERAL) == 0 or ld8(turns + _IN_ENGINE) == 0:
        return kind
    if ld64(b + _KICK) or ld64(b + _STEP) or ld64(b + _GUEST_DR7) & DR7_ENABLES:
        return kind
    if in_block(b):  # what comes from outside, timers too, comes at the block's end
        return kind
    if not _served(b, turns, row, kind):
        return kind
    # --- as `Turns.advance`
    now = ld64(b + _NOW)
    st8(row + _HAS_SKIPPED, 1 if ld64(b + _SKIPPED) == 1 else 0)
    st64(turns + _TURN_FLOOR, max(ld64(turns + _TURN_FLOOR), now))
    if _goes_on(row, ld64(turns + _END)) or ld64(turns + _TURN_FLOOR) >= ld64(turns + _LEAVE_AT):
        return _TURN_OVER
    awake, skipped, first, chosen = 0, 0, _FOREVER, 0
    for n in range(ld64(b + _VCPU_COUNT)):
        one = ld64(ld64(b + _VCPUS) + 8 * n)
        if _is_awake(b, one):
            awake += 1
            skipped += ld8(one + _HAS_SKIPPED)
            if ld64(one + _POSITION) < first:
                first, chosen = ld64(one + _POSITION), one
    if awake == 0:
        return _TURN_OVER
    st64(turns + _TIME, max(ld64(turns + _TIME), first))
    if ld64(turns + _TIME) >= ld64(turns + _LOOK_AT):
        return _TURN_OVER
    # --- as `Turns.choose`
    horizon, end = ld64(turns + _HORIZON), min(ld64(turns + _END), ld64(turns + _HORIZON))
    if _goes_on(row, end):
        if not _can_run(b, row):
            return _TURN_OVER
        st64(turns + _END, end)
        _begin(b, turns, row)
        return NOT_OVER
    if not _can_run(b, chosen) or (awake > 1 and skipped == awake):  # all may be idle
        return _TURN_OVER
    if ld64(turns + _END):  # the last turn was not given up
        st8(row + _SPINNING, 0)
        st64(turns + _IDLE, 0)
    st8(turns + _NEW, 1)
    st8(turns + _ALONE, 1 if awake == 1 else 0)
    st64(turns + _END, horizon if awake == 1 else min(horizon, first + ld64(turns + _SLICE)))
    if chosen != row:
        _enter(b, turns, chosen)
    _begin(b, turns, chosen)
    return NOT_OVER


__all__ = ["NOT_OVER", "next_turn"]
