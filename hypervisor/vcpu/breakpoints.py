"""The guest's own breakpoints: what DR7 arms (AMD64 APM volume 2, 13.1.1).

The engine's debug registers stay empty. An execution breakpoint becomes an execute hook, a data breakpoint a watched
range of linear addresses, and one of a port is looked for at each access that Python serves; what they report comes
here before it becomes a #DB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import CR4_DE, DR7_ENABLES, RFLAGS_RF
from hypervisor.arch.vectors import DB

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.vcpu.register_file import Registers

_EXECUTE, _WRITE, _PORT, _ACCESS = range(4)
_LENGTHS = (1, 2, 8, 4)
_WIDEST = 16
"""Bytes of the widest operand that an instruction reads and writes: CMPXCHG16B's."""


@dataclass(frozen=True)
class Breakpoints:
    """Armed breakpoints: linear addresses of instructions, (range, access letters, DR6 bit) of data, and (range, DR6
    bit) of ports, which count while CR4.DE is set.
    """

    execution: dict[int, int] = field(default_factory=dict)
    data: tuple[tuple[range, str, int], ...] = ()
    ports: tuple[tuple[range, int], ...] = ()

    def hits(self, gva: int | None, size: int, access: str) -> int:
        """The DR6 bits that an access of the guest's sets."""
        bits = 0
        for where, letters, bit in self.data:
            if gva is not None and access in letters and gva < where.stop and where.start < gva + size:
                bits |= bit
        return bits

    def watched(self) -> list[tuple[range, str]]:
        """The ranges of data to look at, with their access letters: wherever an operand that hits may begin or end."""
        return [
            (range(max(where.start - _WIDEST + 1, 0), min(where.stop + _WIDEST - 1, 1 << 64)), letters)
            for where, letters, _ in self.data
        ]

    def comes_near(self, gva: int | None, size: int) -> bool:
        """Whether a write is part of an operand of which another part may hit a breakpoint."""
        return gva is not None and bool(self.hits(gva + size - _WIDEST, 2 * _WIDEST - size, "w"))

    def port_hits(self, vcpu: Registers, port: int, size: int) -> int:
        """The DR6 bits that a port access of the guest's sets."""
        bits = 0
        for where, bit in self.ports:
            if port < where.stop and where.start < port + size:
                bits |= bit
        return bits if bits and vcpu.cr4 & CR4_DE else 0


NONE = Breakpoints()


def armed(vcpu: Registers) -> Breakpoints:
    """What the debug registers ask for."""
    control = vcpu.dr7
    if not control & DR7_ENABLES:
        return NONE
    execution: dict[int, int] = {}
    data, ports = [], []
    for n in range(4):
        if not control >> 2 * n & 3:
            continue
        kind, length = control >> 16 + 4 * n & 3, _LENGTHS[control >> 18 + 4 * n & 3]
        address = vcpu.get(f"dr{n}")
        if kind == _EXECUTE:
            execution[address] = execution.get(address, 0) | 1 << n
            continue
        address &= -length
        where = range(address, address + length)
        if kind == _PORT:
            ports.append((where, 1 << n))
        else:
            data.append((where, "w" if kind == _WRITE else "rw", 1 << n))
    return Breakpoints(execution, tuple(data), tuple(ports))


def detected(vcpu: Registers, hits: int, cause: int = 0) -> None:
    """Note in DR6 which breakpoints were hit: B3 to B0 say so of each #DB by one anew, the other bits stay set (APM
    volume 2, 13.1.1.3).
    """
    vcpu.set("dr6", vcpu.dr6 & ~0xF | hits | cause)


def before_instruction(pcpu: PCpu, vcpu: Registers, armed: Breakpoints, address: int) -> int:
    """An execute hook at a linear address has been reached: deliver #DB if one of ``armed`` is there. The kind of a
    further exit, or 0.
    """
    hits = armed.execution.get(address, 0)
    flags = vcpu.rflags
    if hits and not flags & RFLAGS_RF:
        detected(vcpu, hits)
        return pcpu.exception(DB, 0)
    vcpu.set("rflags", flags & ~RFLAGS_RF)
    if pcpu.trapping.hooked(address):  # its trap may have been taken away
        pass_by(pcpu, address)
    return 0


def pass_by(pcpu: PCpu, address: int) -> None:
    """Let the instruction at a linear address run once without its hook."""
    pcpu.report.skip = address - (1 << 64) if address >> 63 else address


def again(pcpu: PCpu, vcpu: Registers) -> None:
    """The instruction at RIP is about to be run a second time: its hook, if it has one, has been reached."""
    if pcpu.trapping.hooked(vcpu.linear_rip):
        pass_by(pcpu, vcpu.linear_rip)


def after_iret(pcpu: PCpu, vcpu: Registers, armed: Breakpoints) -> None:
    """IRET has loaded RF, which holds for one instruction: with hooks that is one that is passed by."""
    flags = vcpu.rflags
    if flags & RFLAGS_RF:
        vcpu.set("rflags", flags & ~RFLAGS_RF)
        if vcpu.linear_rip in armed.execution:
            pass_by(pcpu, vcpu.linear_rip)


def exceptions(pcpu: PCpu) -> int:
    """How many exceptions the guest has had since its counters were collected."""
    return pcpu.report.count_of(K.EXCEPTION)


def after_access(pcpu: PCpu, vcpu: Registers, hits: int, further: int, before: int) -> int:
    """An instruction that hits breakpoints of data or ports has been stepped: deliver #DB. The kind of a further exit,
    or 0.

    ``further`` is what the step returned and ``before`` was the count of `exceptions`. If the instruction faulted or is
    single-stepped, its exception has been delivered already; the single-step trap takes our bits along.
    """
    detected(vcpu, hits)
    if further != K.STEPPED:
        return further
    return pcpu.exception(DB, 0) if exceptions(pcpu) == before else 0
