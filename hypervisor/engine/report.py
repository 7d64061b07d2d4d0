"""What a pCPU and those who run machines on it tell each other: some words of its block, by name.

Reading an attribute costs what reading the word by its number does (20 ns), so this is also what runs per exit. The
last events, the chain of faults and the counters are handed out as values.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cached_property
from itertools import groupby
from typing import Any

from hypervisor.engine import block as b

MAX_EVENTS = b.RING_ENTRIES
RING_WORDS = b.RING_WORDS
"""How many events a pCPU remembers."""
OUT_OF_FRAMES, LOST_PAGES = b.OUT_OF_FRAMES, b.LOST_PAGES
"""`Report.info_0` of an exit of kind ``FAILED`` when the host had no frame left."""
_MASK64 = (1 << 64) - 1
_HOST_EVENTS = {
    "tlb_fill": b.C_FILLS >> 3, "code_state_change": b.C_FLIPS >> 3, "engine_stop": b.C_STOPS >> 3,
    "code_cache_emptied": b.C_EMPTIED >> 3,
}  # fmt: skip
"""Their words."""


def _fields() -> list[tuple[str, Any]]:
    fields: list[tuple[str, Any]] = []
    for name, words in groupby(b.names()):
        count = len(list(words))
        if name == "x_info":
            fields += [(f"info_{n}", ctypes.c_int64) for n in range(count)]
        else:
            fields.append((name, ctypes.c_int64 if count == 1 else ctypes.c_int64 * count))
    return fields


class Report(ctypes.Structure):
    """The words that have a meaning outside the engine, as attributes (64 bits, signed)."""

    now: int
    """Virtual time of the loaded vCPU, in nanoseconds."""
    next: int
    """Where its turn ends, as `now`."""
    deadline: int
    """Before which block it is left: `next`, or sooner."""
    floor: int
    """The furthest that any vCPU of the VM has come: its clocks show no less."""
    kick: int
    """1: leave at the next block."""
    step: int
    """Not 0 while one instruction is stepped."""
    a20: int
    """AND mask of guest-physical addresses."""
    cpu_clock: int
    """The clock of the CPU time of the thread that has the pCPU."""
    block_end: int
    """Linear end of the block that was counted last."""
    intr: int
    """Level of the interrupt request."""
    armed: int
    """1: the request rose while a block ran."""
    spins: int
    """PAUSEs in quick succession that end a turn, 0 if none do."""
    spins_left: int
    """How many more."""
    spun_at: int
    """When the last PAUSE was, or the turn began."""
    worked: int
    """1: it has done something else than PAUSE in this turn."""
    skipped: int
    """1: it has skipped rounds of a jump to itself in this turn."""
    skip: int
    """Linear address of the instruction that runs once without its execute hook, -1 none."""
    number: int
    """The number, in its VM, of the loaded vCPU."""
    apic_base: int
    """Guest-physical page of the local APICs that the engine serves, -1 none."""
    due: int
    """By the wall clock: the latest time to be shown before the timer that is due has fired."""
    shown: int
    """By the wall clock: the latest time that the guest has read."""
    timer: int
    """By the wall clock: when the guest is left for the next timer."""
    wall_base: int
    """The host's monotonic clock when the wall clock was 0."""
    info_0: int
    """What the exit is about. Of an access: its port or address; of an exception: its vector."""
    info_1: int
    """Of an access: its size; of an exception: its error code."""
    info_2: int
    """Of an access: the value written; of an exception: the address."""
    info_3: int
    """Of an access: the answer."""
    info_4: int
    """Of an exception: where it came from."""
    intercepts: int
    """The VMCB's intercept words (APM volume 2, table B-1) as they are to be."""
    fault_address: int
    """The linear address of the last fault of a fill."""
    d_length: int
    """Of the decoded instruction: its bytes."""
    d_opcode: int
    """Its opcode, 0Fxxh where that has two bytes."""
    d_modrm: int
    """Its ModRM byte, -1 if it has none."""
    d_rm: int
    """ModRM.rm with REX.B."""
    d_size: int
    """Operand size in bytes."""
    d_address_size: int
    """Address size in bytes."""
    d_repeat: int
    """F2h, F3h or 0."""
    d_ea: int
    """Linear address of the memory operand."""
    w_vector: int
    """Of a page walk: the exception, -1 none. Of a task switch: the event's vector."""
    w_error: int
    """The error code of either."""
    w_level: int
    """Of a task switch: the kind of event."""

    _fields_ = _fields()

    def faults(self) -> list[tuple[int, int, int]]:
        """The faults of the last failed delivery, oldest first: vector, error code, address."""
        words = self._words(b.CHAIN, 3 * min(self._word(b.N_COUNT), b.CHAIN_ENTRIES)).tolist()
        return [(words[n], words[n + 1], words[n + 2]) for n in range(0, len(words), 3)]

    def count_of(self, kind: int) -> int:
        """Exits of a kind since they were taken."""
        return self._word(b.COUNTS + 8 * kind)

    def count_more(self, kind: int, count: int) -> None:
        """So many more exits of a kind have been served, together with one that was counted."""
        self._words(b.COUNTS, _KINDS)[kind] += count

    def exit_counts(self) -> list[tuple[int, int]]:
        """Exits by kind since they were taken, those that are not 0."""
        counts = self._words(b.COUNTS, _KINDS).tolist()
        return [(kind, count) for kind, count in enumerate(counts) if count]

    def take_counts(self) -> tuple[list[tuple[int, int]], list[tuple[str, int]]]:
        """Exits by kind, and what the host caused by name, those that are not 0; they count from 0 again."""
        exits = self.exit_counts()
        words = self._all
        events = [(name, count) for name, at in _HOST_EVENTS.items() if (count := words[at])]
        self.forget_counts()
        return exits, events

    def forget_counts(self) -> None:
        """Count from 0."""
        self._words(b.COUNTS, _KINDS)[:] = _NO_COUNTS
        for at in _HOST_EVENTS.values():
            self._all[at] = 0

    def keep_events(self) -> bytes:
        """The ring of events: words that say how many there were, and the entries in use."""
        count = self._word(b.RING_AT)
        return (
            self._words(b.RING_AT, 1).tobytes() + self._words(b.RING, b.RING_WORDS * min(count, MAX_EVENTS)).tobytes()
        )

    def put_back_events(self, kept: bytes) -> None:
        """Continue a ring that another pCPU, or this one, had before."""
        words = memoryview(kept).cast("q")
        self._words(b.RING_AT, 1)[0] = words[0]
        self._words(b.RING, len(words) - 1)[:] = words[1:]

    def _words(self, offset: int, count: int) -> memoryview:
        return self._all[offset >> 3 : (offset >> 3) + count]

    def _word(self, offset: int) -> int:
        return self._all[offset >> 3]

    @cached_property
    def _all(self) -> memoryview[int]:
        return memoryview(self).cast("B").cast("q")


def events(ring: bytes, count: int = MAX_EVENTS) -> Iterator[tuple[int, int, int, int]]:
    """The last events of a ring, oldest first: the first word as `kernels.exits.ring` packs it, RIP, time, value."""
    kept = memoryview(ring).cast("q")
    end = kept[0]
    for n in range(max(0, end - min(count, MAX_EVENTS)), end):
        at = 1 + b.RING_WORDS * (n & MAX_EVENTS - 1)
        head, rip, now, value = (word & _MASK64 for word in kept[at : at + b.RING_WORDS])
        yield head, rip, now, value


_KINDS = b.names().count("counts")
_NO_COUNTS = memoryview(bytes(8 * _KINDS)).cast("q")

__all__ = ["MAX_EVENTS", "RING_WORDS", "Report", "events"]
