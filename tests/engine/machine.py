"""One pCPU over a small memory, driven raw: what the engine's tests share."""

from __future__ import annotations

import ctypes
from functools import cache

from hypervisor.arch.segments import Segment, Table
from hypervisor.engine import block as b
from hypervisor.engine.frame_kernels import frame_kernels
from hypervisor.engine.pcpu import PCpu
from hypervisor.engine.state import GPR
from hypervisor.engine.tables import GuestTables
from hypervisor.memory import HostMemory
from hypervisor.memory.frames import frame_of
from hypervisor.memory.page_map import PageMap
from tests.oracle import state as oracle

PAGE = 4096


class Machine:
    """A pCPU whose guest sees ``size`` bytes of memory at guest-physical 0."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.host = HostMemory(size, frame_kernels())
        self.pages = PageMap(self.host, size // PAGE)
        self.memory = self.pages.lay_in_one_piece(size // PAGE)
        self.pcpu = PCpu(self.host)
        self.tables = GuestTables(self.pages)
        self.pcpu.bind(self.tables)
        self.vcpu = self.pcpu.new_vcpu()
        self.registers = self.vcpu.registers
        self.pcpu.load(self.vcpu)

    def hpa(self, gpa: int) -> int:
        """Where the frame of a page is in the host's memory."""
        return frame_of(self.pages.word(gpa // PAGE))

    def word(self, offset: int, index: int = 0) -> int:
        """A word of the pCPU's block."""
        return self.pcpu.words[(offset >> 3) + index]

    def put(self, offset: int, value: int) -> None:
        """Write a word of the pCPU's block."""
        self.pcpu.words[offset >> 3] = value

    def fresh(self) -> None:
        """A guest with nothing in it: zero memory, no translated code, a new vCPU, time 0."""
        self.pcpu.unload()
        self.memory[: self.size] = bytes(self.size)
        for page in range(self.size // PAGE):
            self.host.outdate(frame_of(self.pages.word(page)))
        self.vcpu = self.pcpu.new_vcpu()
        self.registers = self.vcpu.registers
        self.pcpu.load(self.vcpu)
        self.pcpu.memory.forget_code()
        for offset in (b.NOW, b.KICK, b.INTR, b.STEP):
            self.put(offset, 0)
        self.put(b.SKIP, -1)
        self.until(1 << 62)

    def until(self, deadline: int) -> None:
        """Stop before the first block at or after this virtual time."""
        self.put(b.NEXT, deadline)
        self.put(b.DEADLINE, deadline)

    def load(self, state: oracle.State) -> None:
        """Give the vCPU the oracle's registers."""
        registers = self.registers
        for name, value in zip(GPR, state.regs, strict=True):
            registers.set(name, value)
        for name in ("rip", "rflags", "cr0", "cr2", "cr3", "cr4", "efer"):
            registers.set(name, getattr(state, name))
        for name, segment in [*state.segs.items(), ("ldtr", state.ldtr), ("tr", state.tr)]:
            registers.set_segment(name, Segment(segment.selector, segment.base, segment.limit, segment.attributes))
        for name in ("gdtr", "idtr"):
            table = getattr(state, name)
            registers.set_table(name, Table(table.base, table.limit))

    def state(self) -> oracle.State:
        """The vCPU's registers in the oracle's form."""
        registers = self.registers
        state = oracle.State(regs=[registers.get(name) for name in GPR], cpl=registers.cpl)
        for name in ("rip", "rflags", "cr0", "cr2", "cr3", "cr4", "efer"):
            setattr(state, name, registers.get(name))
        state.segs = {name: oracle.Segment(*registers.segment(name)) for name in oracle.SEGMENT_NAMES}
        state.ldtr, state.tr = (oracle.Segment(*registers.segment(name)) for name in ("ldtr", "tr"))
        state.gdtr, state.idtr = (oracle.Table(*registers.table(name)) for name in ("gdtr", "idtr"))
        return state

    def hidden_flags(self) -> int:
        """HFLAGS as the CPU has them."""
        from hypervisor.engine import layout

        return ctypes.c_uint32.from_address(self.word(b.ENV) + layout.HFLAGS).value


@cache
def machine(size: int) -> Machine:
    """A machine for all tests of this process that need this much memory."""
    return Machine(size)
