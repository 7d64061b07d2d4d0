"""What a VM gives the engine: its guest-physical map and the tables of what is trapped, as plain memory that kernels
read.
"""

from __future__ import annotations

import ctypes
import mmap
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache as remember
from typing import Any

from hypervisor.arch.exits import ExitKind
from hypervisor.engine import block as b
from hypervisor.engine.inside import Inside
from hypervisor.engine.interposition.fatal_signals import line
from hypervisor.engine.scheduling import TurnWords, VcpuWords
from hypervisor.errors import TrapError
from hypervisor.memory.frames import PRIVATE
from hypervisor.units import PAGE_SHIFT, PAGE_SIZE

_MAX_HANDLERS = 255
MAX_WATCHES = 64
"""Ranges of linear addresses that can be watched at the same time."""
_CHUNK = 8192
"""Pages whose map words are made at once."""
GPA_MASK = (1 << b.SEAT) - 1
"""The guest-physical part of what an access in the device window tells."""
_PLAIN = b.MAP_RAM | b.MAP_WRITE
_TRAPS = b.MAP_TRAP_READ | b.MAP_TRAP_WRITE | b.MAP_TRAP_EXECUTE
_SINGLE = {ExitKind.CPUID: b.C_CPUID, ExitKind.RDMSR: b.C_RDMSR, ExitKind.HYPERCALL: b.C_HYPERCALL}


def _word_per_page(pages: int) -> ctypes.Array[ctypes.c_int64]:
    """A zeroed table that takes host memory only where it is used."""
    count = max(pages, 1)
    return (ctypes.c_int64 * count).from_buffer(mmap.mmap(-1, 8 * count, **PRIVATE))


@remember(maxsize=32)
def _words(word: int, count: int) -> memoryview:
    """Map words of consecutive pages. VMs that come and go get the same frames again and again."""
    return memoryview(array("q", range(word, word + count * PAGE_SIZE, PAGE_SIZE)))


class GuestTables:
    """One VM's tables, with the VM's name. A pCPU that runs the VM holds their addresses; the VM keeps them alive."""

    def __init__(self, pages: int, name: str = "") -> None:
        self.pages = pages
        self._line = line(name)
        self._map = _word_per_page(pages)
        self._exec_at = _word_per_page(pages)
        self._write_at = _word_per_page(pages)
        self.map = memoryview(self._map).cast("B").cast("q")
        self._ports = (ctypes.c_uint8 * (2 * 65536))()
        self._handlers = (ctypes.c_int64 * (3 * (_MAX_HANDLERS + 1)))()
        self._inside: list[Inside] = []
        self._windows = (ctypes.c_int64 * (4 * _MAX_HANDLERS))()
        self._window_count = 0
        self._cpuid = (ctypes.c_int64 * 6)()
        self._cpuid_count = 0
        self._single = dict.fromkeys(_SINGLE.values(), 0)
        self._vcpus, self._vcpu_count, self._turns_at = (ctypes.c_int64 * 1)(), 0, 0
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
        self.revision = -1
        self.bound_to: object | None = None
        self.watched: set[int] = set()
        self._virtual = (ctypes.c_int64 * (3 * MAX_WATCHES))()
        self._seen = (ctypes.c_int64 * b.SEATS)(*[-1] * b.SEATS)
        self._virtual_count = 0

    # --- memory -------------------------------------------------------------------------------------------------------

    def map_range(self, gpa: int, size: int, hpa: int, writable: bool = True) -> None:
        """Let ``size`` bytes at guest-physical ``gpa`` be the host's memory at ``hpa`` (all page-aligned)."""
        word = hpa | b.MAP_RAM | (b.MAP_WRITE if writable else 0)
        first, count = gpa >> PAGE_SHIFT, size >> PAGE_SHIFT
        for start in range(0, count, _CHUNK):
            words = _words(word + start * PAGE_SIZE, min(_CHUNK, count - start))
            self.map[first + start : first + start + len(words)] = words

    def remap(self, gpa: int, size: int, regions: Iterable[tuple[int, int, int, bool]]) -> None:
        """Let a range be these regions, as `map_range` takes them, and nothing else; what is trapped stays trapped."""
        first, count = gpa >> PAGE_SHIFT, size >> PAGE_SHIFT
        trapped = {page: self.map[page] & _TRAPS for page in self.watched if first <= page < first + count}
        self.map[first : first + count] = memoryview(bytes(8 * count)).cast("q")
        for region in regions:
            self.map_range(*region)
        for page, bits in trapped.items():
            self.map[page] |= bits

    def is_memory(self, gpa: int) -> bool:
        """Whether there is memory at a guest-physical address."""
        page = gpa >> PAGE_SHIFT
        return page < self.pages and self.map[page] & b.MAP_RAM != 0

    def is_writable(self, gpa: int) -> bool:
        """Whether there is memory that can be written."""
        page = gpa >> PAGE_SHIFT
        return page < self.pages and self.map[page] & b.MAP_WRITE != 0

    def has_code(self, gpa: int) -> bool:
        """Whether the frame there holds translated code."""
        page = gpa >> PAGE_SHIFT
        return page < self.pages and self.map[page] & b.MAP_CODE != 0

    def is_plain(self, gpa: int) -> bool:
        """Whether there is memory that can be written, which nobody watches and which holds no translated code."""
        page = gpa >> PAGE_SHIFT
        return page < self.pages and self.map[page] & (_PLAIN | b.MAP_CODE | _TRAPS) == _PLAIN

    def forget_code_states(self, gpa: int, size: int) -> None:
        """No frame of this range holds translated code any more, as when the VM moves to an engine that has none."""
        for page in range(gpa >> PAGE_SHIFT, gpa + size >> PAGE_SHIFT):
            if self._map[page] & b.MAP_CODE:
                self._map[page] &= ~b.MAP_CODE

    def trap_page(self, page: int, *, read: bool, write: bool, execute: bool) -> None:
        """Choose which accesses to a page are trapped."""
        word = self._map[page] & ~(b.MAP_TRAP_READ | b.MAP_TRAP_WRITE | b.MAP_TRAP_EXECUTE)
        word |= b.MAP_TRAP_READ * read | b.MAP_TRAP_WRITE * write | b.MAP_TRAP_EXECUTE * execute
        self._map[page] = word

    def watch_virtual(self, watches: Sequence[tuple[range, str]]) -> None:
        """Watch ranges of linear addresses (see `virtual_of`)."""
        bits = {"r": b.MAP_TRAP_READ, "w": b.MAP_TRAP_WRITE, "x": b.MAP_TRAP_EXECUTE}
        self._virtual_count = len(watches)
        for n, (where, access) in enumerate(watches):
            mask = sum(bits[letter] for letter in set(access))
            row: list[Any] = [b.signed(where.start & ~0xFFF), b.signed((where.stop + 0xFFF) & ~0xFFF), mask]
            self._virtual[3 * n : 3 * n + 3] = row

    def virtual_of(self, place: int) -> int | None:
        """The linear address of an access at this place of the device window, or None where none is watched."""
        seat = place >> b.SEAT
        return (self._seen[seat - 1] | place & 0xFFF) & (1 << 64) - 1 if seat else None

    @contextmanager
    def fetching(self, pages: Iterable[int]) -> Iterator[None]:
        """Let instructions be fetched from these guest-physical pages, and from watched linear addresses, during the
        block.
        """
        saved = {page: self._map[page] & b.MAP_TRAP_EXECUTE for page in pages if 0 <= page < self.pages}
        rows = range(2, 3 * self._virtual_count, 3)
        masks = [self._virtual[row] for row in rows]
        for page in saved:
            self._map[page] &= ~b.MAP_TRAP_EXECUTE
        for row in rows:
            self._virtual[row] &= ~b.MAP_TRAP_EXECUTE
        try:
            yield
        finally:
            for page, bit in saved.items():
                self._map[page] |= bit
            for row, mask in zip(rows, masks, strict=True):
                self._virtual[row] = mask

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

    def set_cpuid(self, tables: Sequence[Sequence[tuple[int, int, int, int, int, int]]]) -> None:
        """Each vCPU's CPUID table, with as many rows each: (leaf, subleaf or -1 for any, EAX, EBX, ECX, EDX).

        A table of the same size may follow while a guest runs.
        """
        words = [word for rows in tables for row in rows for word in row]
        if len(words) == len(self._cpuid):
            ctypes.memmove(self._cpuid, array("q", words).tobytes(), ctypes.sizeof(self._cpuid))
            return  # in place: the engine has its address
        self._cpuid = (ctypes.c_int64 * max(len(words), 6))(*words)
        self._cpuid_count = len(tables[0])

    # --- for the pCPU -------------------------------------------------------------------------------------------------

    def words(self) -> dict[int, int]:
        """Block words by offset."""
        return {
            b.MAP: ctypes.addressof(self._map),
            b.MAP_PAGES: self.pages,
            b.EXEC_AT: ctypes.addressof(self._exec_at),
            b.WRITE_AT: ctypes.addressof(self._write_at),
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
            b.VCPUS: ctypes.addressof(self._vcpus),
            b.VCPU_COUNT: self._vcpu_count,
            b.TURNS: self._turns_at,
            b.LAST_WORDS: ctypes.addressof(self._line),
            **self._single,
        }
