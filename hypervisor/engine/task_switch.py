"""Task switches, by an event through a task gate or by a far JMP, CALL or IRET (AMD64 APM volume 2, 12.3; Intel SDM
volume 3, 8.3). Rare, so plain Python.

Events and CALL nest: the old task stays busy, the new one gets the old one's selector as its link, and NT. A fault
before the commit point belongs to the old task, a fault after it (selectors, stack, EIP) to the new one.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypervisor.arch.exits import ExitKind
from hypervisor.arch.flags import RFLAGS_FIXED, RFLAGS_LOADABLE
from hypervisor.arch.segments import Segment
from hypervisor.arch.table_entries import Descriptor
from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.engine.block import CALLED, JUMPED, RETURNED
from hypervisor.engine.state import GPR, State

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu

_INVALID_TSS, _NOT_PRESENT, _STACK, _PROTECTION, _PAGE_FAULT, _DOUBLE_FAULT = 10, 11, 12, 13, 14, 8
_CONTRIBUTORY = frozenset((0, 10, 11, 12, 13))
_WITH_ERROR = frozenset((8, 10, 11, 12, 13, 14, 17))
_FAULTS = frozenset((0, 5, 6, 7, 10, 11, 12, 13, 14, 16, 17, 19))
_TSS16_AVAILABLE, _LDT, _TSS16_BUSY, _TASK_GATE, _TSS32_AVAILABLE, _TSS32_BUSY = 1, 2, 3, 5, 9, 11
_EVENT = 0
_RF, _NT, _VM, _AC = 1 << 16, 1 << 14, 1 << 17, 1 << 18
_READ, _USER, _IMPLICIT, _OPEN, _PEEK = 0, 1, 2, 4, 8
_TASK_SWITCHED = 1 << 3
_LOCAL_BREAKPOINTS = 0x155
_TRAP_TAKEN, _STEPPED, _TF = 1 << 15, 1 << 14, 1 << 8


@dataclass(frozen=True)
class _Layout:
    """Where a TSS keeps what; ``saved`` is the last byte that a switch away from it writes."""

    word: int
    cr3: int | None
    rip: int
    flags: int
    registers: int
    segments: dict[str, int]
    ldtr: int
    trap: int | None
    limit: int
    saved: int


_TSS32 = _Layout(
    word=4, cr3=0x1C, rip=0x20, flags=0x24, registers=0x28,
    segments={"es": 0x48, "cs": 0x4C, "ss": 0x50, "ds": 0x54, "fs": 0x58, "gs": 0x5C},
    ldtr=0x60, trap=0x64, limit=0x67, saved=0x5F,
)  # fmt: skip
_TSS16 = _Layout(
    word=2, cr3=None, rip=0x0E, flags=0x10, registers=0x12,
    segments={"es": 0x22, "cs": 0x24, "ss": 0x26, "ds": 0x28},
    ldtr=0x2A, trap=None, limit=0x2B, saved=0x29,
)  # fmt: skip


class _FaultError(Exception):
    """The guest's fault that ended the switch."""

    def __init__(self, vector: int, error: int, address: int = 0) -> None:
        super().__init__(vector, error)
        self.vector = vector
        self.error = error
        self.address = address


@dataclass(frozen=True)
class _Descriptor(Descriptor):
    """A descriptor and the linear address that it was read from."""

    address: int

    def loaded(self, selector: int) -> Segment:
        """The segment register after loading."""
        return Segment(selector, self.base, self.limit, self.attributes | (self.type >= 16))


class _Switch:
    """One switch: ``why``, the EXT bit of what faults in it, and the error code that the new task gets."""

    def __init__(self, pcpu: PCpu, registers: State, why: int, ext: int, rf: int = 0, error: int | None = None) -> None:
        self.pcpu = pcpu
        self.registers = registers
        self.why = why
        self.ext = ext
        self.rf = rf
        self.error = error

    @property
    def nests(self) -> bool:
        """Whether the new task is to come back to the old one."""
        return self.why in (_EVENT, CALLED)

    def fault(self, vector: int, selector: int = 0) -> _FaultError:
        """A fault that names a selector."""
        return _FaultError(vector, selector & 0xFFFC | self.ext)

    # --- the guest's memory -----------------------------------------------------------------------------------------

    def read(self, va: int, size: int) -> bytes:
        """Read a descriptor table or TSS. Every page is looked at before the first is touched."""
        for page in {va: None} | {at: None for at in range((va | 0xFFF) + 1, va + size, 4096)}:
            _, vector, error = self.pcpu.walk(page & 0xFFFFFFFF, _READ, _IMPLICIT | _PEEK)
            if vector >= 0:
                raise _FaultError(vector, error, page & 0xFFFFFFFF)
        data = b""
        while len(data) < size:
            step = max(n for n in (1, 2, 4, 8) if n <= size - len(data))
            value = self._kernel("read_bytes", va + len(data) & 0xFFFFFFFF, step)
            data += (value & (1 << 8 * step) - 1).to_bytes(step, "little")
        return data

    def write(self, va: int, size: int, value: int, how: int = _IMPLICIT) -> None:
        """Write one field."""
        value &= (1 << 8 * size) - 1
        self._kernel("write_bytes", va & 0xFFFFFFFF, size, value, how)

    def _kernel(self, name: str, *arguments: int) -> int:
        words = self.pcpu.words
        words[b.N_VECTOR >> 3] = -1
        value = self.pcpu.kernel(name, *arguments)
        if words[b.N_VECTOR >> 3] >= 0:
            raise _FaultError(words[b.N_VECTOR >> 3], words[b.N_ERROR >> 3], words[b.N_ADDRESS >> 3])
        return value

    def descriptor(self, selector: int) -> _Descriptor | None:
        """A descriptor, None beyond its table's limit."""
        table = self.registers.table("gdtr")
        base, limit = table.base, table.limit
        if selector & 4:
            _, base, limit, attributes = self.registers.segment("ldtr")
            if not attributes & 0x80:
                return None
        if (selector & 0xFFF8) + 7 > limit:
            return None
        address = base + (selector & 0xFFF8)
        return _Descriptor(int.from_bytes(self.read(address, 8), "little"), address)

    # --- the switch -------------------------------------------------------------------------------------------------

    def leave_old_task(self, selector: int) -> tuple[_Layout, bytes]:
        """Everything up to the commit point; the new TSS's layout and content."""
        registers = self.registers
        returns = self.why == RETURNED
        wanted = (_TSS16_BUSY, _TSS32_BUSY) if returns else (_TSS16_AVAILABLE, _TSS32_AVAILABLE)
        descriptor = None if selector & 4 or not selector & 0xFFFC else self.descriptor(selector)
        if descriptor is None or descriptor.type not in wanted:
            raise self.fault(_INVALID_TSS if returns else _PROTECTION, selector)
        if not descriptor.present:
            raise self.fault(_NOT_PRESENT, selector)
        new = _TSS32 if descriptor.type & 8 else _TSS16
        if descriptor.limit < new.limit:
            raise self.fault(_INVALID_TSS, selector)
        content = self.read(descriptor.base, new.limit + 1)
        old = registers.segment("tr")
        self._save(old)
        if self.nests:
            self.write(descriptor.base, 2, old.selector)
        elif leaving := self.descriptor(old.selector):
            self.write(leaving.address + 5, 1, leaving.attributes & 0xFF & ~2)
        if not returns:
            self.write(descriptor.address + 5, 1, descriptor.attributes & 0xFF | 2)
        tr = Segment(selector & ~3, descriptor.base, descriptor.limit, descriptor.attributes | 2)
        registers.set_segment("tr", tr)
        return new, content

    def _save(self, tr: Segment) -> None:
        registers = self.registers
        to = _TSS16 if tr.attributes & 0xF in (_TSS16_AVAILABLE, _TSS16_BUSY) else _TSS32
        if tr.limit < to.saved:
            raise self.fault(_INVALID_TSS, tr.selector)
        self.write(tr.base + to.rip, to.word, self.pcpu.words[b.EVENT_RIP >> 3])
        flags = registers.get("rflags")
        if self.why == RETURNED:
            flags &= ~_NT
        self.write(tr.base + to.flags, to.word, flags | self.rf)
        for n, name in enumerate(GPR[:8]):
            self.write(tr.base + to.registers + to.word * n, to.word, registers.get(name))
        for name, at in to.segments.items():
            self.write(tr.base + at, 2, registers.segment(name).selector)

    def enter_new_task(self, new: _Layout, content: bytes) -> None:
        """Load the new task, and push the error code onto its stack."""
        registers = self.registers

        def field(at: int, size: int = new.word) -> int:
            return int.from_bytes(content[at : at + size], "little")

        registers.set("cr0", registers.get("cr0") | _TASK_SWITCHED)
        registers.set("dr7", registers.get("dr7") & ~_LOCAL_BREAKPOINTS)
        if new.cr3 is not None and registers.get("cr0") >> 31:
            registers.set("cr3", field(new.cr3))
        registers.set("rip", field(new.rip))
        flags = field(new.flags) & RFLAGS_LOADABLE | RFLAGS_FIXED | (_NT if self.nests else 0)
        registers.set("rflags", flags)
        for n, name in enumerate(GPR[:8]):
            value = field(new.registers + new.word * n)
            registers.set(name, value | 0xFFFF0000 if new.word == 2 else value)
        selectors = {name: field(at, 2) for name, at in new.segments.items()}
        cpl = 3 if flags & _VM else selectors["cs"] & 3
        for name in ("es", "cs", "ss", "ds", "fs", "gs"):
            # until its descriptor is loaded SS carries the privilege level alone
            registers.set_segment(name, Segment(selectors.get(name, 0), 0, 0, cpl << 5 if name == "ss" else 0))
        self._load_ldt(field(new.ldtr, 2))
        if flags & _VM:
            for name in ("es", "cs", "ss", "ds", "fs", "gs"):
                selector = selectors.get(name, 0)
                registers.set_segment(name, Segment(selector, selector << 4, 0xFFFF, 0xF3))
        else:
            for name in ("cs", "ss", "ds", "es", "fs", "gs"):
                self._load_segment(name, selectors.get(name, 0), cpl)
        if self.error is not None:
            self._push(new.word, self.error, cpl)
        if registers.get("rip") > registers.segment("cs").limit:
            raise self.fault(_PROTECTION)

    def _load_ldt(self, selector: int) -> None:
        self.registers.set_segment("ldtr", Segment(selector, 0, 0, 0))
        if selector & 0xFFFC:
            descriptor = None if selector & 4 else self.descriptor(selector)
            if descriptor is None or descriptor.type != _LDT or not descriptor.present:
                raise self.fault(_INVALID_TSS, selector)
            self.registers.set_segment("ldtr", descriptor.loaded(selector))

    def _load_segment(self, name: str, selector: int, cpl: int) -> None:
        if not selector & 0xFFFC and name not in ("cs", "ss"):
            return
        descriptor = self.descriptor(selector) if selector & 0xFFFC else None
        if descriptor is None or not _suits(name, descriptor, selector & 3, cpl):
            raise self.fault(_INVALID_TSS, selector)
        if not descriptor.present:
            raise self.fault(_STACK if name == "ss" else _NOT_PRESENT, selector)
        if not descriptor.type & 1:
            self.write(descriptor.address + 5, 1, descriptor.attributes & 0xFF | 1)
        self.registers.set_segment(name, descriptor.loaded(selector))

    def _push(self, size: int, value: int, cpl: int) -> None:
        registers = self.registers
        ss, rsp = registers.segment("ss"), registers.get("rsp")
        mask = 0xFFFFFFFF if ss.attributes & 0x400 else 0xFFFF
        offset = rsp - size & mask
        last = offset + size - 1
        if ss.attributes & 0xC == 4:
            inside = offset > ss.limit and last <= mask
        else:
            inside = last <= ss.limit
        if not inside:
            raise self.fault(_STACK)
        how = _USER if cpl == 3 else _OPEN if registers.get("rflags") & _AC else 0
        self.write(ss.base + offset, size, value, how)
        registers.set("rsp", rsp & ~mask | offset)


def _suits(name: str, descriptor: _Descriptor, rpl: int, cpl: int) -> bool:
    """Type and privilege of a segment that a task switch loads (SDM volume 3, table 8-1)."""
    kind, dpl = descriptor.type, descriptor.dpl
    if name == "cs":
        return kind & 0x18 == 0x18 and (dpl <= rpl if descriptor.conforming else dpl == rpl)
    if name == "ss":
        return kind & 0x1A == 0x12 and dpl == cpl == rpl
    readable = kind & 0x18 == 0x10 or kind & 0x1A == 0x1A
    return readable and (descriptor.conforming or (dpl >= cpl and dpl >= rpl))


def _escalate(vector: int, kind: int, fault: _FaultError) -> tuple[int, int] | None:
    """What a fault while delivering an event becomes (APM volume 2, 8.2.9); None for shutdown."""
    if kind == 0:
        if vector == _DOUBLE_FAULT:
            return None
        both = vector in _CONTRIBUTORY and fault.vector in _CONTRIBUTORY
        if both or (vector == _PAGE_FAULT and fault.vector in _CONTRIBUTORY | {_PAGE_FAULT}):
            return _DOUBLE_FAULT, 0
    return fault.vector, fault.error


def _chain(pcpu: PCpu) -> list[int]:
    """The words of the chain of faults so far."""
    count = min(pcpu.words[b.N_COUNT >> 3], b.CHAIN_ENTRIES)
    return list(pcpu.words[b.CHAIN >> 3 : (b.CHAIN >> 3) + 3 * count])


def _set_chain(pcpu: PCpu, chain: list[int]) -> None:
    pcpu.words[b.N_COUNT >> 3] = len(chain) // 3
    for n, value in enumerate(chain[: 3 * b.CHAIN_ENTRIES]):
        pcpu.words[(b.CHAIN >> 3) + n] = value


def perform(pcpu: PCpu, vector: int, error: int, kind: int) -> int:
    """Do the task switch that the run loop or a delivery returned `ExitKind.TASK_GATE` for; an exit kind, or 0.

    The arguments are what the block's W_VECTOR, W_ERROR and W_LEVEL hold; the vCPU is loaded.
    """
    if kind in (JUMPED, CALLED, RETURNED):
        return _by_instruction(pcpu, vector, kind)
    return through_gate(pcpu, vector, error, kind)


def _trap(new: _Layout, content: bytes) -> int:
    """What the T bit of a TSS puts into DR6."""
    return _TRAP_TAKEN if new.trap is not None and content[new.trap] & 1 else 0


def _entered(pcpu: PCpu, registers: State, causes: int) -> int:
    """The new task runs: its T bit, or TF of the old one, may ask for a #DB before its first instruction, of which DR6
    tells the causes.
    """
    pcpu.sync()
    hidden = ctypes.c_uint32.from_address(pcpu.words[b.ENV >> 3] + layout.HFLAGS)
    hidden.value &= ~layout.HF_INHIBIT_IRQ
    if not causes:
        return 0
    registers.set("dr6", registers.get("dr6") | causes)
    return pcpu.exception(1, 0)


def _by_instruction(pcpu: PCpu, selector: int, why: int) -> int:
    """A far JMP or CALL to a TSS or a task gate, or IRET with NT; W_VECTOR holds the selector, the TSS's for IRET."""
    vcpu = pcpu.loaded
    assert vcpu is not None
    registers = vcpu.registers
    switch = _Switch(pcpu, registers, why, ext=0)
    causes = _STEPPED if registers.get("rflags") & _TF else 0
    try:
        if why != RETURNED and (named := switch.descriptor(selector)) and named.type == _TASK_GATE:
            selector = named.raw >> 16 & 0xFFFF
        new, content = switch.leave_old_task(selector)
        causes |= _trap(new, content)
        switch.enter_new_task(new, content)
    except _FaultError as fault:
        pcpu.sync()
        if fault.vector == _PAGE_FAULT:
            registers.set("cr2", fault.address)
        return pcpu.exception(fault.vector, fault.error)
    return _entered(pcpu, registers, causes)


def through_gate(pcpu: PCpu, vector: int, error: int, kind: int) -> int:
    """Take an event through its task gate, and what follows if that faults; an exit kind if that ends badly, else 0."""
    vcpu = pcpu.loaded
    assert vcpu is not None
    registers = vcpu.registers
    while True:
        rf = _RF if kind == 0 and vector in _FAULTS else 0
        coded = error if kind & 3 == 0 and vector in _WITH_ERROR else None
        switch = _Switch(pcpu, registers, _EVENT, 0 if kind & 3 == 1 else 1, rf, coded)
        causes = 0
        try:
            gate = int.from_bytes(switch.read(registers.table("idtr").base + 8 * vector, 8), "little")
            new, content = switch.leave_old_task(gate >> 16 & 0xFFFF)
            causes = _trap(new, content)
            switch.enter_new_task(new, content)
        except _FaultError as met:
            fault = met
        else:
            return _entered(pcpu, registers, causes)
        pcpu.sync()
        if fault.vector == _PAGE_FAULT:
            registers.set("cr2", fault.address)
        chain = _chain(pcpu)
        following = _escalate(vector, kind, fault)
        if following is None or following == (_DOUBLE_FAULT, 0):
            chain += [fault.vector, fault.error, fault.address]
        if following is None:
            _set_chain(pcpu, chain)
            pcpu.words[(b.COUNTS >> 3) + ExitKind.SHUTDOWN] += 1
            return ExitKind.SHUTDOWN
        outcome = pcpu.event(*following, 0, registers.get("rip"))
        _set_chain(pcpu, chain + _chain(pcpu))
        if outcome != ExitKind.TASK_GATE:
            return outcome
        vector, error, kind = (pcpu.words[at >> 3] for at in (b.W_VECTOR, b.W_ERROR, b.W_LEVEL))
