"""One BIOS call in flight: the caller's registers, and its flags, which lie on its stack until the stub's IRET."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from hypervisor.arch.flags import RFLAGS_CF
from hypervisor.bus import Clock, Dma
from hypervisor.errors import GuestFault
from hypervisor.state import number, record, time_ns

MEMORY_WRAP = 0xFFFF
POLL_NS = 50_000
"""Virtual time of a call that guests make in loops until there is news, in place of `meter.CALL_NS`."""


class Result(Enum):
    """What a service did with a call."""

    DONE = auto()
    WAIT = auto()
    """Nothing changed yet: let the guest halt until an interrupt, then call again."""
    POLLED = auto()
    """Done, but the caller may ask again and again until there is news: the call takes `POLL_NS`, and lets interrupts
    in before the caller goes on, as BIOSes do.
    """
    AGAIN = auto()
    """A part is done: call again at once. What would keep the host for long lets the run look at its end meanwhile."""
    UNSERVED = auto()
    """No such function here."""


@dataclass(frozen=True)
class Stop:
    """The call ends the run; ``text`` says why, for the user. ``crashed`` asks for a crash report."""

    text: str
    crashed: bool = False


Outcome = Result | Stop
DONE, WAIT, POLLED, AGAIN, UNSERVED = Result.DONE, Result.WAIT, Result.POLLED, Result.AGAIN, Result.UNSERVED


class Ports(Protocol):
    """The board's I/O ports, as a service of the BIOS reaches them.

    The same devices that the guest's IN and OUT reach.
    """

    def read(self, port: int, size: int) -> int:
        """What IN from ``port`` gives (``size`` in bytes)."""
        ...

    def write(self, port: int, size: int, value: int) -> None:
        """OUT of ``value`` to ``port``."""
        ...


class Vm(Protocol):
    """What the BIOS needs from its VM: a part of the public API."""

    @property
    def dma(self) -> Dma:
        """Guest-physical memory, as devices see it."""
        ...

    @property
    def clock(self) -> Clock:
        """The VM's time."""
        ...

    @property
    def traps(self) -> Any:
        """Where handlers are registered."""
        ...

    @property
    def listeners(self) -> Sequence[Any]:
        """The logs that `tell` reaches; empty where nobody logs."""
        ...

    def tell(self, category: str, text: str, vcpu: Any) -> None:
        """Tell the logs of an event."""
        ...

    def spend(self, ns: int) -> None:
        """Let the call take so much virtual time."""
        ...

    def request_reset(self) -> None:
        """Reset the VM at the instruction's end."""
        ...

    def power_off(self) -> None:
        """Switch the VM off at the instruction's end."""
        ...


class Call:
    """A vCPU that is at a stub of the BIOS ROM, in real or virtual-8086 mode.

    ``regs`` is the vCPU: services read and write its registers by name. Preconditions: the stack holds IP, CS and
    FLAGS, as INT pushed them.
    """

    waits = True
    """Whether the caller can be made to wait (`Result.WAIT`)."""

    __slots__ = ("_flags_at", "regs", "vector")

    def __init__(self, vcpu: Any, vector: int) -> None:
        self.regs = vcpu
        self.vector = vector
        self._flags_at = self.linear(vcpu.ss, (vcpu.rsp & 0xFFFF) + 4)

    @staticmethod
    def linear(segment: Any, offset: int) -> int:
        """The linear address of a 16-bit offset in a segment; offsets wrap at 64 KiB."""
        return int(segment.base) + (offset & MEMORY_WRAP)

    def read(self, segment: Any, offset: int, size: int) -> bytes:
        """``size`` bytes at segment:offset of the guest. Raises `GuestFault` where the guest has no memory."""
        return bytes(self.regs.read(self.linear(segment, offset), size))

    def write(self, segment: Any, offset: int, data: bytes) -> None:
        """Store ``data`` at segment:offset of the guest. Raises `GuestFault` where the guest has no memory."""
        self.regs.write(self.linear(segment, offset), data)

    def set_flag(self, flag: int, on: bool) -> None:
        """Set or clear ``flag`` in the flags that the caller gets back."""
        flags = int.from_bytes(self.regs.read(self._flags_at, 2), "little")
        flags = flags | flag if on else flags & ~flag
        self.regs.write(self._flags_at, flags.to_bytes(2, "little"))

    def ok(self) -> Outcome:
        """The call succeeded: CF = 0."""
        self.set_flag(RFLAGS_CF, False)
        return DONE

    def fail(self, code: int) -> Outcome:
        """The call failed: CF = 1, AH = ``code``."""
        self.regs.ah = code
        self.set_flag(RFLAGS_CF, True)
        return DONE

    def result(self) -> str:
        """AX and the carry flag that the caller gets, for messages."""
        try:
            flags = int.from_bytes(self.regs.read(self._flags_at, 2), "little")
        except GuestFault:
            return f"AX={self.regs.ax:04x}"
        return f"AX={self.regs.ax:04x} CF={flags & RFLAGS_CF}"

    def go_back(self) -> None:
        """Undo the interrupt: the vCPU is at the instruction that CS:IP on the stack names."""
        offset, selector, flags = struct.unpack("<3H", self.regs.read(self._flags_at - 4, 6))
        self.regs.rip = offset
        self.regs.set("cs", selector)
        self.regs.rflags = self.regs.rflags & ~0xFFFF | flags
        self.regs.sp = (self.regs.sp + 6) & 0xFFFF

    def caller(self) -> str:
        """CS:IP that the call returns to, for messages."""
        frame = self.regs.read(self._flags_at - 4, 4)
        return f"{int.from_bytes(frame[2:], 'little'):04x}:{int.from_bytes(frame[:2], 'little'):04x}"


@record
class WaitingState:
    """The caller's stack, -1 while nobody waits, and the time until which it does."""

    stack: int = number(-1, 1 << 33, -1)
    until_ns: int = time_ns()


class Waiting:
    """A service's call that waits, for a time at most. It is known by its caller's stack: whoever calls from elsewhere
    waits anew.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.s = WaitingState()

    def left_ns(self, call: Call, limit_ns: int) -> int:
        """What is left of ``limit_ns`` since the caller came; 0 or less when they are over."""
        stack, now = Call.linear(call.regs.ss, call.regs.rsp), self._clock.now_ns
        if self.s.stack != stack:
            self.s = WaitingState(stack, now + limit_ns)
        return self.s.until_ns - now

    def end(self) -> None:
        """The caller gets its answer."""
        self.s = WaitingState()


class FarCall(Call):
    """A far call into the ROM from protected mode, for ``vector``: the flags that the caller gets are the live ones."""

    waits = False

    __slots__ = ()

    def __init__(self, vcpu: Any, vector: int) -> None:
        self.regs = vcpu
        self.vector = vector

    def set_flag(self, flag: int, on: bool) -> None:
        """Set or clear ``flag`` in the live flags."""
        self.regs.rflags = self.regs.rflags & ~flag | (flag if on else 0)
