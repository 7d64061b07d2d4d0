"""Runs of a VM with one vCPU from one moment, again and again, as long as nobody in Python is asked.

All that the engine knows of the vCPU is put back from copies. Devices and timers need not be, because none is reached:
an access that a device would serve ends the run, and so does a timer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from hypervisor.arch.exits import ExitKind
from hypervisor.arch.flags import RFLAGS_IF
from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.engine.coverage_memory import CoverageMemory
from hypervisor.engine.interposition.interpose import guard
from hypervisor.engine.pcpu import PCpu
from hypervisor.engine.scheduling import TurnWords
from hypervisor.engine.vcpu_state import VcpuState
from hypervisor.memory.map_words import FRAME
from hypervisor.units import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

_NOW, _NEXT, _DEADLINE, _KICK = b.NOW >> 3, b.NEXT >> 3, b.DEADLINE >> 3, b.KICK >> 3
_RING, _RING_AT = b.RING >> 3, b.RING_AT >> 3
_AGE = b.GUEST_TLB_AGE - b.VCPU >> 3
_NOTHING_YET = tuple(word >> 3 for word in (b.FLOOR, b.ARMED, b.BLOCK_END, b.COMPLETE))
_NEW_TURN = tuple(word >> 3 for word in (b.SPINS, b.SPINS_LEFT, b.WORKED, b.SKIPPED))
_KIND = 0xFF


class Stop(Enum):
    """Why a short run is over."""

    PORT = "a port was written"
    HALTED = "HLT with interrupts off"
    TIME = "its time is over"


class ShortEnd(NamedTuple):
    """How a short run ended: the port and the value written, or RIP; and how long it took."""

    stop: Stop
    where: int
    value: int
    virtual_ns: int


class ShortRuns:
    """Of the vCPU that is loaded on a pCPU, from how it is now. While the caller has the pCPU, and nobody else runs the
    VM. ``put_back`` makes the memory what it is now; ``ports`` are those where a write ends a run.
    """

    def __init__(
        self,
        pcpu: PCpu,
        vcpu: VcpuState,
        turns: TurnWords,
        put_back: Callable[[], object],
        ports: range,
        coverage: CoverageMemory | None,
    ) -> None:
        self._pcpu, self._vcpu, self._put_back, self._ports, self._coverage = pcpu, vcpu, put_back, ports, coverage
        words = pcpu.words
        if words[b.DIRTY >> 3]:
            pcpu.sync()
        self._state = (ctypes.c_ubyte * layout.STATE_SIZE)()
        self._extra = (ctypes.c_int64 * len(vcpu.extra))()
        pcpu.save(ctypes.addressof(self._state), ctypes.addressof(self._extra))
        self._first_age = self._age = self._extra[_AGE]
        self._entries, self._large = vcpu.tlb.entries(self._age), vcpu.tlb.large()
        self._turns, self._events = turns, pcpu.report.keep_events()
        self._now, self._intr = words[_NOW], words[b.INTR >> 3]
        self._kept = [(ctypes.addressof(part), ctypes.string_at(ctypes.addressof(part), ctypes.sizeof(part)))
                      for part in (vcpu.words, turns)]  # fmt: skip

    def begin(self) -> None:
        """Put all back: the next run begins where the first one did."""
        vcpu, words = self._vcpu, self._pcpu.words
        self._put_back()
        for at, content in self._kept:
            ctypes.memmove(at, content, len(content))
        self._age += 1  # so that what the last run left in the TLB is not valid
        vcpu.tlb.put_over(self._age, self._entries, self._large)
        self._load(self._age)
        if self._turns.new:  # as `Turns.begin`
            words[b.SPUN_AT >> 3] = self._now
            for word in _NEW_TURN:
                words[word] = 0
        words[b.F_PYTHON >> 3] = guard().one  # "leave the guest", whatever it is asked
        if self._coverage is not None:
            self._coverage.clear()

    def _load(self, age: int) -> None:
        vcpu, words = self._vcpu, self._pcpu.words
        self._extra[_AGE] = age
        ctypes.memmove(vcpu.extra, self._extra, ctypes.sizeof(self._extra))
        self._pcpu.reload(ctypes.addressof(self._state), ctypes.addressof(vcpu.extra))
        words[_NOW] = self._now
        words[b.INTR >> 3] = self._intr
        for word in _NOTHING_YET:
            words[word] = 0

    def write(self, pages: list[int], at: int, content: bytes) -> bool:
        """Store bytes in pages of the base map, from an offset in the first on; whether the host had the frames."""
        pcpu, done = self._pcpu, 0
        while done < len(content):
            page, offset = pages[at >> PAGE_SHIFT], at & PAGE_MASK
            size = min(len(content) - done, PAGE_SIZE - offset)
            word = pcpu.memory.own(page)
            if word == 0:
                return False
            frame = word & FRAME
            ctypes.memmove(pcpu.words[b.RAM >> 3] + frame + offset, content[done : done + size], size)
            pcpu.memory.written(frame + offset, size)
            at, done = at + size, done + size
        return True

    def run(self, limit_ns: int, until_ns: int) -> ShortEnd | None:
        """Run for so much virtual time, and not beyond the moment ``until_ns``. None if it came to what Python has to
        decide: the run is to be made in another way, from the beginning.
        """
        words, pcpu = self._pcpu.words, self._pcpu
        end = self._now + limit_ns
        words[_NEXT] = words[_DEADLINE] = min(end, until_ns)
        words[_KICK] = 0
        kind = pcpu.run()
        while kind == ExitKind.DEADLINE and words[_KICK] and words[_NOW] < words[_NEXT]:
            words[_KICK] = 0
            kind = pcpu.run()
        registers = self._vcpu.registers
        if kind == ExitKind.DEADLINE and words[_NOW] >= end and not words[b.SKIPPED >> 3] and not pcpu.in_block:
            return ShortEnd(Stop.TIME, 0, 0, words[_NOW] - self._now)
        if kind == ExitKind.TURN_OVER and self._vcpu.words.halted and not registers.get("rflags") & RFLAGS_IF:
            return ShortEnd(Stop.HALTED, registers.get("rip"), 0, words[_NOW] - self._now)
        if kind == ExitKind.VERDICT and self._wrote_to_port():
            port, value = words[b.X_INFO >> 3], words[(b.X_INFO >> 3) + 2]
            length = pcpu.decode()
            if length and words[b.D_OPCODE >> 3] in (0xE6, 0xE7, 0xEE, 0xEF) and pcpu.complete(length) == 0:
                return ShortEnd(Stop.PORT, port, value, words[_NOW] - self._now)
        return None

    def _wrote_to_port(self) -> bool:
        words = self._pcpu.words
        last = words[_RING + b.RING_WORDS * ((words[_RING_AT] - 1) % b.RING_ENTRIES)]
        return last & _KIND == ExitKind.PORT_OUT and words[b.X_INFO >> 3] in self._ports

    def close(self) -> None:
        """Leave the vCPU as it was."""
        self.begin()
        self._vcpu.tlb.put_back(self._first_age, self._entries, self._large)
        self._vcpu.tlb.unpack()  # the vCPU is on a pCPU
        self._load(self._first_age)
        self._pcpu.words[_KICK] = 0
        self._pcpu.report.forget_counts()
        self._pcpu.report.put_back_events(self._events)


__all__ = ["ShortEnd", "ShortRuns", "Stop"]
