"""What one VM's vCPUs and their turns are known by, wherever they are: words that Python and the kernels share.

A vCPU's registers are on a pCPU or saved; what others do to it (an interrupt that wakes it, say) must not ask where. So
each vCPU has words of its own beside them, and the VM those of its turns (`hypervisor.run.sharing.turns`).
"""

from __future__ import annotations

import ctypes

_FLAG, _WORD = ctypes.c_bool, ctypes.c_int64


class VcpuWords(ctypes.Structure):
    """One vCPU. Times are virtual nanoseconds of its VM's clock."""

    state_at: int
    """Address of its saved registers."""
    extra_at: int
    """Address of its saved block words."""
    apic_at: int
    """Address of its local APIC's page, 0 if the engine is not to serve that."""
    position: int
    """How far into the VM's time it has come, while it is not on a pCPU."""
    event_at: int
    """When the last thing happened that may wake it."""
    looked_at: int
    """The position at which somebody looked last whether it jumps to itself."""
    intr: bool
    """Level of its interrupt input."""
    halted: bool
    waiting: bool
    """Whether it waits for a startup IPI."""
    spinning: bool
    """Whether all that it did in its last turn was to wait for another vCPU."""
    skipped: bool
    """Whether its last turn ended in a jump to itself."""
    nmi_pending: bool
    own_apic: bool
    """Whether the local APIC is its interrupt controller."""
    task_gate: bool
    """Whether an event comes before its next instruction, through a task gate."""

    _fields_ = [
        ("state_at", _WORD), ("extra_at", _WORD), ("apic_at", _WORD), ("position", _WORD), ("event_at", _WORD),
        ("looked_at", _WORD), ("intr", _FLAG), ("halted", _FLAG), ("waiting", _FLAG), ("spinning", _FLAG),
        ("skipped", _FLAG), ("nmi_pending", _FLAG), ("own_apic", _FLAG), ("task_gate", _FLAG),
    ]  # fmt: skip


class TurnWords(ctypes.Structure):
    """The turns of one VM's vCPUs."""

    time: int
    """Every vCPU that is awake has come so far."""
    floor: int
    """The furthest that any has come: a clock that is read later shows no less (see docs/design.md)."""
    end: int
    """Where the current turn ends; before that position nothing but the vCPU itself ends it."""
    horizon: int
    """No turn goes beyond this position."""
    look_at: int
    """When every vCPU has come to this position, Python looks before the next turn."""
    leave_at: int
    """Where the guest is left, in the middle of a turn, which goes on from there: the end of a run is no turn's end."""
    slice_ns: int
    """The longest turn of a vCPU while others have something to do."""
    idle_turns: int
    """How many turns in a row were given up while all that were awake only spun."""
    several: bool
    """Whether there is more than one vCPU."""
    inside: bool
    """Whether the current vCPU is running: what happens now, happens at its position."""
    alone: bool
    """Whether only the current one was awake when its turn began."""
    new: bool
    """Whether a turn has been given that has not begun."""
    in_engine: bool
    """Whether the engine may give the next turn: Python has done nothing since it looked last."""

    _fields_ = [
        ("time", _WORD), ("floor", _WORD), ("end", _WORD), ("horizon", _WORD), ("look_at", _WORD), ("leave_at", _WORD),
        ("slice_ns", _WORD), ("idle_turns", _WORD), ("several", _FLAG), ("inside", _FLAG), ("alone", _FLAG),
        ("new", _FLAG), ("in_engine", _FLAG),
    ]  # fmt: skip


LOOK_NS = 20_000_000
"""Virtual time after which Python looks in, whatever the guest does: for timeouts, signals and other VMs."""

SPINS = 8
"""PAUSE instructions in quick succession that end a turn."""

SPINS_AGAIN = 4
"""As `SPINS`, of a vCPU whose last turn ended so."""

IDLE_NS, IDLE_TURNS = 5_000, 10
"""What a turn takes longer for each turn before it since when all that are awake only spin, up to so many times: then
they wait for time to pass.
"""


def vcpu_word(name: str) -> int:
    """Where one of the `VcpuWords` lies, in bytes."""
    offset: int = getattr(VcpuWords, name).offset
    return offset


def turn_word(name: str) -> int:
    """Where one of the `TurnWords` lies, in bytes."""
    offset: int = getattr(TurnWords, name).offset
    return offset


__all__ = [
    "IDLE_NS", "IDLE_TURNS", "LOOK_NS", "SPINS", "SPINS_AGAIN", "TurnWords", "VcpuWords", "turn_word", "vcpu_word",
]  # fmt: skip
