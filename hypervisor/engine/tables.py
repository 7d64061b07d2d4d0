"""What a VM gives the engine: where its page map is, and the tables of what is trapped, as plain memory that kernels
read.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hypervisor.arch.exits import ExitKind
from hypervisor.bus.timed_register import TimedRegister
from hypervisor.engine import block as b
from hypervisor.engine.coverage_memory import CoverageMemory
from hypervisor.engine.inside import Inside
from hypervisor.engine.interposition.fatal_signals import line
from hypervisor.engine.shared_words.scheduling import TurnWords, VcpuWords
from hypervisor.errors import TrapError
from hypervisor.memory.map_words import MAP_SIZE, MAP_TRAP_EXECUTE, MAP_TRAP_READ, MAP_TRAP_WRITE
from hypervisor.memory.page_map import PageMap

_MAX_HANDLERS = 255
MAX_WATCHES = 64
"""Ranges of linear addresses that can be watched at the same time."""
_CPUID_WORDS = 6
_NONE_SEEN = array("q", [-1]) * b.SEATS
GPA_MASK = (1 << b.SEAT) - 1
"""The guest-physical part of what an access in the device window tells."""
_SINGLE = {ExitKind.CPUID: b.C_CPUID, ExitKind.RDMSR: b.C_RDMSR, ExitKind.HYPERCALL: b.C_HYPERCALL}


_TOLD = ("a20", "apic_base", "cr_read", "cr_write", "execute", "intercepts", "listen", "listen_exceptions")
"""What a VM's tables are told as plain numbers."""

TimedPlace = tuple[int, int, TimedRegister]
"""Where a register is that only time changes: from an address up to another."""


_NO_PORTS = (ctypes.c_uint8 * (2 * 65536))()
"""For each port that is read, and each that is written, that no compiled handler serves it. VMs without any share it.
"""


def cpuid_rows(rows: Sequence[tuple[int, int, int, int, int, int]]) -> bytes:
    """A CPUID table as `GuestTables.set_cpuid` takes it: (leaf, subleaf or -1 for any, EAX, EBX, ECX, EDX) each."""
    return array("q", [word for row in rows for word in row]).tobytes()


class TimedTable:
    """Registers that only time changes as kernels find them, at an address that stays."""

    def __init__(self) -> None:
        self._words = (ctypes.c_int64 * (1 + b.TIMED_ROW * b.TIMED_ROWS))()
        self._kept: list[Sequence[TimedPlace]] = [[], []]
        self.address = ctypes.addressof(self._words)

    def show(self, places: Sequence[TimedPlace]) -> None:
        """Let these be it; those for which there is no room are asked the device for."""
        words = self._words
        words[0] = 0
        self._kept = [self._kept[-1], places]  # the engine may be reading the words of one that has gone
        shown = places[: b.TIMED_ROWS]
        for n, (start, end, register) in enumerate(shown):
            at = 1 + b.TIMED_ROW * n
            words[at], words[at + 1], words[at + 2] = start, end, ctypes.addressof(register)
        words[0] = len(shown)


class GuestTables:
    """One VM's tables, with the VM's name. A pCPU that runs the VM holds their addresses; the VM keeps them alive."""

    def __init__(self, pages: PageMap | None = None, name: str = "") -> None:
        """``pages`` is the VM's page map; without one there is no memory."""
        self._map = [0] * (MAP_SIZE >> 3) if pages is None else pages.where
        self._line = line(name)
        self._ports = _NO_PORTS
        self._handlers = (ctypes.c_int64 * (3 * (_MAX_HANDLERS + 1)))()
        self._inside: list[Inside] = []
        self._windows = (ctypes.c_int64 * (4 * _MAX_HANDLERS))()
        self._window_count = 0
        self._cpuid = (ctypes.c_int64 * _CPUID_WORDS)()
        self._cpuid_count = 0
        self._single = dict.fromkeys(_SINGLE.values(), 0)
        self._vcpus, self._vcpu_count, self._turns_at = (ctypes.c_int64 * 1)(), 0, 0
        self._timed = {at: TimedTable() for at in (b.TIMED_PORTS, b.TIMED_MEMORY)}
        self.apic_base = -1
        """Guest-physical page of local APICs whose registers the engine serves, -1 none."""
        self.a20 = -1
        self.listen = 0
        self.listen_exceptions = 0
        self.intercepts = 0
        self.cr_read = 0
        self.cr_write = 0
        self.execute: frozenset[int] = frozenset()
        self.wall_base: int | None = None
        self.coverage: CoverageMemory | None = None
        """What the guest's blocks are counted in, if they are."""
        self.revision = -1
        self.bound_to: object | None = None
        self._virtual = (ctypes.c_int64 * (3 * MAX_WATCHES))()
        self._seen = (ctypes.c_int64 * b.SEATS).from_buffer_copy(_NONE_SEEN)
        self._virtual_count = 0
        self._virtual_masks: list[int] = []

    # --- watched addresses --------------------------------------------------------------------------------------------

    def watch_virtual(self, watches: Sequence[tuple[range, str]]) -> None:
        """Watch ranges of linear addresses (see `virtual_of`)."""
        bits = {"r": MAP_TRAP_READ, "w": MAP_TRAP_WRITE, "x": MAP_TRAP_EXECUTE}
        self._virtual_count = len(watches)
        self._virtual_masks = [sum(bits[letter] for letter in set(access)) for _, access in watches]
        for n, ((where, _), mask) in enumerate(zip(watches, self._virtual_masks, strict=True)):
            row: list[Any] = [b.signed(where.start & ~0xFFF), b.signed((where.stop + 0xFFF) & ~0xFFF), mask]
            self._virtual[3 * n : 3 * n + 3] = row

    def virtual_of(self, place: int) -> int | None:
        """The linear address of an access at this place of the device window, or None where none is watched."""
        seat = place >> b.SEAT
        return (self._seen[seat - 1] | place & 0xFFF) & (1 << 64) - 1 if seat else None

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Let instructions be fetched from watched linear addresses during the block."""
        for row in range(2, 3 * self._virtual_count, 3):
            self._virtual[row] &= ~MAP_TRAP_EXECUTE
        try:
            yield
        finally:
            for n, mask in enumerate(self._virtual_masks):  # others may be watched by now
                self._virtual[3 * n + 2] = mask

    # --- vCPUs --------------------------------------------------------------------------------------------------------

    def seat(self, vcpus: Sequence[VcpuWords], turns: TurnWords) -> None:
        """The VM's vCPUs, by number, and their turns; whoever made these keeps them alive as long as the VM."""
        self._vcpus = (ctypes.c_int64 * len(vcpus))(*map(ctypes.addressof, vcpus))
        self._vcpu_count, self._turns_at = len(vcpus), ctypes.addressof(turns)

    # --- compiled handlers --------------------------------------------------------------------------------------------

    def serve_inside(self, handlers: list[Inside]) -> None:
        """Serve exits inside the engine, by these compiled handlers and no others: handler n is number n + 1 in the
        engine's tables. Where two could serve the same exit, the one that comes first does.
        """
        if handlers == self._inside:
            return
        if len(handlers) > _MAX_HANDLERS:
            raise TrapError(f"{len(handlers)} compiled handlers are enabled; a VM can have {_MAX_HANDLERS}.")
        self._inside = handlers
        if self._ports is _NO_PORTS:
            self._ports = (ctypes.c_uint8 * len(_NO_PORTS))()
        ctypes.memset(self._ports, 0, len(self._ports))
        self._single = dict.fromkeys(_SINGLE.values(), 0)
        self._window_count = 0
        for number, (kind, where, address, state) in reversed(list(enumerate(handlers, 1))):
            following = 0
            if where is None:  # whoever passes leaves the exit to the next one
                following = self._single[_SINGLE[kind]]
                self._single[_SINGLE[kind]] = number
            elif kind in (ExitKind.PORT_IN, ExitKind.PORT_OUT):
                base = 65536 * (kind is ExitKind.PORT_OUT)
                for port in where:
                    self._ports[base + port] = number
            self._handlers[3 * number : 3 * number + 3] = [address, state, following]
        for number, (kind, where, _, _) in enumerate(handlers, 1):
            if where is not None and kind in (ExitKind.MMIO_READ, ExitKind.MMIO_WRITE):
                row: list[Any] = [where.start, where.stop, number, int(kind is ExitKind.MMIO_WRITE)]
                self._windows[4 * self._window_count : 4 * self._window_count + 4] = row
                self._window_count += 1

    def set_cpuid(self, tables: Sequence[bytes]) -> None:
        """Each vCPU's CPUID table, `cpuid_rows` with as many rows each.

        A table of the same size may follow while a guest runs.
        """
        content = b"".join(tables)
        if len(content) != ctypes.sizeof(self._cpuid):  # else in place: the engine has its address
            self._cpuid = (ctypes.c_int64 * max(len(content) >> 3, _CPUID_WORDS))()
            self._cpuid_count = len(tables[0]) // (8 * _CPUID_WORDS)
        ctypes.memmove(self._cpuid, content, len(content))

    def set_timed(self, ports: Sequence[TimedPlace], memory: Sequence[TimedPlace]) -> None:
        """Registers that only time changes, where they are now; may change while a guest runs."""
        self._timed[b.TIMED_PORTS].show(ports)
        self._timed[b.TIMED_MEMORY].show(memory)

    # --- for a VM that is like another one ----------------------------------------------------------------------------

    def given(self) -> tuple[bytes, dict[str, Any]]:
        """What devices and handlers have told, for `give`."""
        return bytes(self._cpuid), {name: getattr(self, name) for name in _TOLD} | {"_cpuid_count": self._cpuid_count}

    def give(self, given: tuple[bytes, dict[str, Any]]) -> None:
        """Have what another VM's tables were told; before any engine has these."""
        content, told = given
        self._cpuid = (ctypes.c_int64 * (len(content) >> 3)).from_buffer_copy(content)
        vars(self).update(told)

    # --- for the pCPU -------------------------------------------------------------------------------------------------

    def words(self) -> dict[int, int]:
        """Block words by offset."""
        return {
            **{b.MAP + 8 * n: word for n, word in enumerate(self._map)},
            b.A20: self.a20,
            b.LISTEN: self.listen,
            b.LISTEN_EXCEPTIONS: self.listen_exceptions,
            b.PORTS: ctypes.addressof(self._ports),
            b.COMPILED: ctypes.addressof(self._handlers),
            b.WINDOWS: ctypes.addressof(self._windows),
            b.WINDOW_COUNT: self._window_count,
            b.CPUID: ctypes.addressof(self._cpuid),
            b.CPUID_COUNT: self._cpuid_count,
            b.VIRTUAL: ctypes.addressof(self._virtual),
            b.SEEN: ctypes.addressof(self._seen),
            b.VIRTUAL_COUNT: self._virtual_count,
            b.WALL: int(self.wall_base is not None),
            b.WALL_BASE: self.wall_base or 0,
            b.APIC_BASE: self.apic_base,
            **{at: table.address for at, table in self._timed.items()},
            b.VCPUS: ctypes.addressof(self._vcpus),
            b.VCPU_COUNT: self._vcpu_count,
            b.TURNS: self._turns_at,
            b.EDGES: 0 if self.coverage is None else self.coverage.edges_at,
            b.BLOCK_TABLE: 0 if self.coverage is None else self.coverage.table_at,
            b.LAST_WORDS: ctypes.addressof(self._line),
            **self._single,
        }
