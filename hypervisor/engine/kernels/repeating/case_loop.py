"""What short cases are run by: words that Python fills in (`hypervisor.engine.repeating`) and the kernel follows
(`hypervisor.engine.kernels.repeating.short_cases`).
"""

from __future__ import annotations

import ctypes

NO_REGISTER = -1
"""In `CaseLoop.length_register`."""

COPY_ROW, ZONES_ROW, CASE_ROW, END_ROW = 24, 24, 16, 40
"""Bytes of a row of each table below."""

IN_PYTHON, PORT, HALTED, TIME = range(4)
"""How a case ended: not here, so that it is to be run from its beginning by Python; by a write to a port; by HLT with
interrupts off; as its time was over.
"""

DONE, KICKED, FULL = range(3)
"""Why the loop has been left: no case is left; the pCPU was kicked; there is no room for what one more case covers."""


class CaseLoop(ctypes.Structure):
    """The moment where all cases begin, the cases, and how they end. Times are virtual nanoseconds of the VM's clock;
    ``..._at`` is an address in this process.
    """

    # --- the moment
    state_at: int
    """The vCPU's registers."""
    extra_at: int
    """Its block words."""
    home_at: int
    """Its own memory, where the block words go, and its TLB is."""
    age: int
    """Of the TLB's entries that were valid last; each case has its own."""
    entries_at: int
    """The TLB's entries, packed."""
    entry_count: int
    large_at: int
    """The TLB's filter of large pages."""
    now: int
    intr: int
    """Level of the interrupt input."""
    copies_at: int
    """Rows of what else is put back: to, from, bytes (a multiple of 8)."""
    copy_count: int
    zones_at: int
    """Rows of memory: the first zone of the map, the address of its leaf in a frozen map, how many zones."""
    zones_count: int

    # --- where a case's bytes go
    pages_at: int
    """Numbers of the pages of the base map, in order."""
    offset: int
    """In the first of them."""
    length_pages_at: int
    """The same for how many bytes there are, 32 bits; 0 for nowhere."""
    length_offset: int
    length_register: int
    """Number of a general register that has that, too, or `NO_REGISTER`."""

    # --- what ends one
    end: int
    """When its time is over."""
    until: int
    """Before this time it has to end here: Python has something to do then."""
    first_port: int
    """Ports that end it, where they are written to."""
    end_port: int

    # --- the cases
    cases_at: int
    """Rows: address, bytes."""
    ends_at: int
    """Rows: how it ended; the port or RIP; the value written; virtual nanoseconds; where what it has covered ends."""
    edges_at: int
    """For all cases one after the other: edge << 8 | how often, 32 bits each."""
    edges_room: int
    """How many of these there may be."""
    edges_used: int
    number: int
    """Of the case that is run next."""
    count: int
    inside: int
    """1: it has begun, and was left in its middle."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            "state_at", "extra_at", "home_at", "age", "entries_at", "entry_count", "large_at", "now", "intr",
            "copies_at", "copy_count", "zones_at", "zones_count",
            "pages_at", "offset", "length_pages_at", "length_offset", "length_register",
            "end", "until", "first_port", "end_port",
            "cases_at", "ends_at", "edges_at", "edges_room", "edges_used", "number", "count", "inside",
        )
    ]  # fmt: skip


def loop_word(name: str) -> int:
    """Where one of the `CaseLoop` lies, in bytes."""
    offset: int = getattr(CaseLoop, name).offset
    return offset


__all__ = [
    "CASE_ROW", "COPY_ROW", "DONE", "END_ROW", "FULL", "HALTED", "IN_PYTHON", "KICKED", "NO_REGISTER", "PORT", "TIME",
    "ZONES_ROW", "CaseLoop", "loop_word",
]  # fmt: skip
