"""REP INS and REP OUTS: a device that has several elements at hand moves them at once.

The engine serves a string instruction element by element. When the first element has been moved, the following ones
that lie in the same page of memory are offered to a device that is a `hypervisor.bus.StringPort`; what it takes is
moved here, and the registers are advanced, so that the engine goes on behind it. A guest cannot tell the difference:
each element takes its virtual time, nothing is done while something looks at single elements (stepping, breakpoints,
watched memory), and it ends before the next timer, so that an interrupt comes between the same elements. Each is
counted as the exit that it would have been, so that the count is the same wherever a run was interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import RFLAGS_TF
from hypervisor.engine.costs import PORT_NS
from hypervisor.units import PAGE_MASK, PAGE_SIZE
from hypervisor.vcpu.breakpoints import NONE

if TYPE_CHECKING:
    from hypervisor.bus import Mapping
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.machine import Machine
    from hypervisor.vcpu.processor import Processor

_INS, _OUTS = (0x6C, 0x6D), (0x6E, 0x6F)
_PREFIXES = frozenset((0x66, 0x67, 0xF2, 0xF3, *range(0x40, 0x50)))
"""Prefixes that an OUTS served here may have: none of them chooses a segment."""
_READ, _WRITE, _PEEK, _USER = 0, 1, 8, 1


class Strings:
    """The elements behind the first one, of the instruction that is being served."""

    def __init__(self, vm: Machine, heard: set[K]) -> None:
        self._vm = vm
        self._watched = K.MEMORY in heard

    def read(self, pcpu: PCpu, vcpu: Processor, mapping: Mapping, port: int, size: int) -> None:
        """The first element of an IN or INS has been read."""
        gpa, count = self._following(pcpu, vcpu, _INS, size)
        if count:
            content = mapping.device.read_string(port - mapping.base, size, count)  # type: ignore[attr-defined]  # a StringPort
            self._vm.memory.store(gpa, content)
            self._advance(pcpu, vcpu, K.PORT_IN, "rdi", len(content), size)

    def write(self, pcpu: PCpu, vcpu: Processor, mapping: Mapping, port: int, size: int) -> None:
        """The first element of an OUT or OUTS has been written."""
        gpa, count = self._following(pcpu, vcpu, _OUTS, size)
        if count:
            content = self._vm.memory.read(gpa, count * size)
            taken = mapping.device.write_string(port - mapping.base, size, content)  # type: ignore[attr-defined]  # likewise
            self._advance(pcpu, vcpu, K.PORT_OUT, "rsi", taken, size)

    def _following(self, pcpu: PCpu, vcpu: Processor, opcodes: tuple[int, int], size: int) -> tuple[int, int]:
        """Where the following elements are in guest-physical memory, and how many can be moved at once."""
        report, vm = pcpu.report, self._vm
        if self._watched or report.step or vm.tables.execute or vcpu.breakpoints is not NONE:
            return 0, 0
        length = pcpu.decode()
        if (
            not length
            or report.d_opcode not in opcodes
            or not report.d_repeat
            or not pcpu.goes_upwards
            or vcpu.registers.get("rflags") & RFLAGS_TF
        ):
            return 0, 0
        writes = opcodes is _INS
        width, get = report.d_address_size, vcpu.registers.get
        mask = (1 << 8 * width) - 1
        count, index = get("rcx") & mask, get("rdi" if writes else "rsi") & mask
        linear = index
        if vcpu.mode != 64:
            linear = vcpu.registers.segment("es" if writes else "ds").base + index & 0xFFFFFFFF
        room = min(PAGE_SIZE - (linear & PAGE_MASK), mask + 1 - index)
        time = 0 if report.armed else report.next - report.now
        count = min(count, room // size, time // (PORT_NS + length)) - 1
        if count <= 0 or not (writes or _PREFIXES.issuperset(vcpu.read(vcpu.linear_rip, length - 1))):
            return 0, 0
        gpa, vector, _ = pcpu.walk(linear, _WRITE if writes else _READ, _PEEK | (_USER if vcpu.cpl == 3 else 0))
        gpa &= vm.tables.a20
        if vector >= 0 or not vm.memory.is_plain(gpa):
            return 0, 0
        return gpa + size, count

    def _advance(self, pcpu: PCpu, vcpu: Processor, kind: K, index: str, moved: int, size: int) -> None:
        """Leave the registers as they are before the last of the elements that have been moved."""
        width, registers = pcpu.report.d_address_size, vcpu.registers
        for name, by in ((index, moved), ("rcx", -(moved // size))):
            value = registers.get(name)
            mask = (1 << 8 * width) - 1
            low = value + by & mask
            registers.set(name, low if width == 4 else value & ~mask | low)
        pcpu.report.now += (PORT_NS + pcpu.report.d_length) * (moved // size)
        pcpu.report.count_more(kind, moved // size)
