"""A vCPU's state by name: one view that serves the live state inside the engine and a saved copy alike."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hypervisor.arch.flags import RFLAGS_FIXED, RFLAGS_LOADABLE, RFLAGS_VM
from hypervisor.arch.segments import Segment, Table
from hypervisor.engine import block, layout

_MASK32 = 0xFFFFFFFF
_MASK64 = (1 << 64) - 1


GPR = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
"""General-purpose registers in the order of their encoding."""

SEGMENTS = {name: layout.SEGS + layout.SEG_SIZE * n for n, name in enumerate(("es", "cs", "ss", "ds", "fs", "gs"))}
SEGMENTS |= {"ldtr": layout.LDT, "tr": layout.TR}
"""Segment registers and where they lie."""

_WORDS = {name: 8 * n for n, name in enumerate(GPR)} | {
    "rip": layout.EIP, "cr0": layout.CR, "cr2": layout.CR + 16, "cr3": layout.CR + 24, "cr4": layout.CR + 32,
    "cr8": layout.CR + 64, "efer": layout.EFER, "star": layout.STAR, "lstar": layout.LSTAR, "cstar": layout.CSTAR,
    "fmask": layout.FMASK, "kernel_gs_base": layout.KERNEL_GS_BASE, "sysenter_esp": layout.SYSENTER_ESP,
    "sysenter_eip": layout.SYSENTER_EIP, "tsc_aux": layout.TSC_AUX, "pat": layout.PAT, "xcr0": layout.XCR0,
    "dr0": layout.DR, "dr1": layout.DR + 8, "dr2": layout.DR + 16, "dr3": layout.DR + 24, "dr6": layout.DR + 48,
}  # fmt: skip
WHOLE = (*_WORDS, "rflags", "sysenter_cs")
"""What `State.get` takes, but for DR7, which is a word of the block."""
_RIP = layout.EIP >> 3
_DIRTY = (block.DIRTY - block.VCPU) >> 3
_TSS_BUSY = 1 << 9
_TSS_KEPT, _TSS = 0xF68, 0x81
"""What attributes of TR keep, and always have."""
_DERIVED = frozenset(("cr0", "cr3", "cr4", "efer"))


class X87(NamedTuple):
    """Words of the x87 and SSE (APM volume 1, 6.2.2 to 6.2.4 and 4.2.2). ``status`` has TOP in bits 13:11; ``tags`` has
    two bits for each hardware register.
    """

    control: int
    status: int
    tags: int
    mxcsr: int


_EXTRA = {name: n for n, name in enumerate(block.names()[block.VCPU >> 3 : block.VCPU_END >> 3])}
_XMM_AT = [layout.XMM + 64 * n >> 3 for n in range(16)]
_X87_AT = [layout.FPREGS + layout.FPREG_SIZE * n >> 3 for n in range(8)]
"""The words where SSE and x87 registers begin."""
_X87_TOP, _EMPTY = 7 << 11, 3
_X87_SUMMARY, _X87_MASKS = 0x8080, 0x3F  # B and ES follow from the exceptions that are not masked


class X87Words(NamedTuple):
    """The x87 as the CPU state has it: TOP, the status word without it, the control word, a bit for each hardware
    register that is empty, and MXCSR.
    """

    top: int
    status: int
    control: int
    empty: int
    mxcsr: int


class X87Pointers(NamedTuple):
    """What FSTENV and FXSAVE tell of the last instruction (APM volume 1, 6.2.5 and 6.2.6): selector and offset of the
    instruction itself, and of its operand in memory.
    """

    code: int
    instruction: int
    data: int
    operand: int


class Views(NamedTuple):
    """A vCPU's state as memory: its bytes, its words of 64 and of 32 bits, and the block's vCPU words."""

    memory: ctypes.Array[ctypes.c_ubyte]
    words: memoryview
    dwords: memoryview
    extra: memoryview

    @classmethod
    def over(cls, memory: ctypes.Array[ctypes.c_ubyte], extra: memoryview) -> Views:
        """Views of ``STATE_SIZE`` bytes and of the vCPU words."""
        view = memoryview(memory).cast("B")
        return cls(memory, view.cast("Q"), view.cast("I"), extra)


class State:
    """One vCPU's registers, over ``STATE_SIZE`` bytes of memory and the block's vCPU words.

    Only valid outside the engine's loop, where EFLAGS are complete; inside it, `flags_inside` reads them.
    """

    __slots__ = ("_dwords", "_extra", "_memory", "_words", "flags_inside")

    def __init__(self, views: Views) -> None:
        self.look_at(views)
        self.dirty = self.flushes = True
        self.flags_inside: Callable[[], int] | None = None

    def look_at(self, views: Views) -> None:
        """The registers are here from now on: in memory of their own, or on a pCPU."""
        self._memory, self._words, self._dwords, self._extra = views

    @property
    def dirty(self) -> bool:
        """Whether hidden flags must be derived again before the guest goes on."""
        return bool(self._extra[_DIRTY] & block.HIDDEN_FLAGS)

    @dirty.setter
    def dirty(self, dirty: bool) -> None:
        self._extra[_DIRTY] = self._extra[_DIRTY] & ~block.HIDDEN_FLAGS | block.HIDDEN_FLAGS * dirty

    @property
    def flushes(self) -> bool:
        """Whether a register was written that flushes the TLB."""
        return bool(self._extra[_DIRTY] & block.TLB_TOO)

    @flushes.setter
    def flushes(self, flushes: bool) -> None:
        self._extra[_DIRTY] = self._extra[_DIRTY] & ~block.TLB_TOO | block.TLB_TOO * flushes

    def get(self, name: str) -> int:
        """A 64-bit register by its full name."""
        if name == "rflags":
            flags = self._words[layout.EFLAGS >> 3] if self.flags_inside is None else self.flags_inside()
            return flags & RFLAGS_LOADABLE | RFLAGS_FIXED
        if name == "dr7":
            return self._extra[0] | 0x400
        if name == "sysenter_cs":
            return self._dwords[layout.SYSENTER_CS >> 2]
        return self._words[_WORDS[name] >> 3]

    def set(self, name: str, value: int) -> None:
        """Write a 64-bit register as a whole, without the checks that an instruction would make. Reserved bits of
        RFLAGS stay what they are.
        """
        value &= _MASK64
        if name == "rflags":
            if (self._words[layout.EFLAGS >> 3] ^ value) & RFLAGS_VM:
                self.dirty = True
            self._words[layout.EFLAGS >> 3] = value & RFLAGS_LOADABLE | RFLAGS_FIXED
        elif name == "dr7":
            self._extra[0] = value
        elif name == "sysenter_cs":
            self._dwords[layout.SYSENTER_CS >> 2] = value & _MASK32
        else:
            if name in _DERIVED:
                self.dirty = self.flushes = True
            self._words[_WORDS[name] >> 3] = value

    @property
    def rip(self) -> int:
        """RIP."""
        return self._words[_RIP]

    def cpuid_question(self) -> tuple[int, int]:
        """EAX and ECX, which CPUID asks for."""
        return self._words[0] & _MASK32, self._words[1] & _MASK32

    def answer_cpuid(self, eax: int, ebx: int, ecx: int, edx: int) -> None:
        """Write the four registers of CPUID's answer, 32 bits each; upper halves are cleared."""
        words = self._words
        words[0], words[1], words[2], words[3] = eax, ecx, edx, ebx

    def answer_edx_eax(self, value: int) -> None:
        """Write EDX:EAX, upper halves cleared."""
        self._words[0] = value & _MASK32
        self._words[2] = value >> 32 & _MASK32

    @staticmethod
    def knows(name: str) -> bool:
        """Whether `get` takes this name."""
        return name in _WORDS or name in ("rflags", "dr7", "sysenter_cs")

    def segment(self, name: str) -> Segment:
        """A segment register with its hidden part."""
        at = SEGMENTS[name]
        flags = self._dwords[(at + layout.SEG_FLAGS) >> 2] | (_TSS_BUSY if name == "tr" else 0)
        return Segment(
            self._dwords[at >> 2] & 0xFFFF,
            self._words[(at + layout.SEG_BASE) >> 3],
            self._dwords[(at + layout.SEG_LIMIT) >> 2],
            (flags >> 8 & 0xFF) | (flags >> 12 & 0xF00),
        )

    def set_segment(self, name: str, segment: Segment) -> None:
        """Load a segment register with its hidden part, without looking at a descriptor."""
        at = SEGMENTS[name]
        self._dwords[at >> 2] = segment.selector & 0xFFFF
        self._words[(at + layout.SEG_BASE) >> 3] = segment.base & _MASK64
        self._dwords[(at + layout.SEG_LIMIT) >> 2] = segment.limit & 0xFFFFFFFF
        attributes = segment.attributes
        if name == "tr":  # Unicorn aborts the process on a call gate unless this is a present TSS, not busy
            attributes = attributes & _TSS_KEPT | _TSS
        self._dwords[(at + layout.SEG_FLAGS) >> 2] = (attributes & 0xFF) << 8 | (attributes & 0xF00) << 12
        self.dirty = True

    def put_segments(self, segments: Iterable[Any], tables: Iterable[Any]) -> None:
        """Load all segment registers, in the order of `SEGMENTS`, and GDTR and IDTR, as `set_segment` and `set_table`
        do one by one. They have the fields of `Segment` and `Table`, in range.
        """
        words, dwords = self._words, self._dwords
        for at, segment in zip(SEGMENTS.values(), segments, strict=True):
            attributes = segment.attributes
            if at == SEGMENTS["tr"]:
                attributes = attributes & _TSS_KEPT | _TSS
            dwords[at >> 2] = segment.selector
            words[(at + layout.SEG_BASE) >> 3] = segment.base
            dwords[(at + layout.SEG_LIMIT) >> 2] = segment.limit
            dwords[(at + layout.SEG_FLAGS) >> 2] = (attributes & 0xFF) << 8 | (attributes & 0xF00) << 12
        for at, table in zip((layout.GDT, layout.IDT), tables, strict=True):
            words[(at + layout.SEG_BASE) >> 3], dwords[(at + layout.SEG_LIMIT) >> 2] = table.base, table.limit
        self.dirty = True

    def set_base(self, name: str, base: int) -> None:
        """Write a segment's hidden base only, as WRMSR of FS_BASE does."""
        self._words[(SEGMENTS[name] + layout.SEG_BASE) >> 3] = base & _MASK64

    def table(self, name: str) -> Table:
        """``gdtr`` or ``idtr``."""
        at = layout.GDT if name == "gdtr" else layout.IDT
        return Table(self._words[(at + layout.SEG_BASE) >> 3], self._dwords[(at + layout.SEG_LIMIT) >> 2])

    def set_table(self, name: str, table: Table) -> None:
        """Load ``gdtr`` or ``idtr``."""
        at = layout.GDT if name == "gdtr" else layout.IDT
        self._words[(at + layout.SEG_BASE) >> 3] = table.base & _MASK64
        self._dwords[(at + layout.SEG_LIMIT) >> 2] = table.limit & 0xFFFF

    @property
    def cpl(self) -> int:
        """Current privilege level."""
        if not self.get("cr0") & 1:
            return 0
        if self.get("rflags") & RFLAGS_VM:
            return 3
        return self.segment("ss").attributes >> 5 & 3

    @property
    def mode(self) -> int:
        """Width of the code that runs: 16, 32 or 64."""
        attributes = self.segment("cs").attributes
        if self.get("efer") & 0x400 and attributes & 0x200:
            return 64
        if self.get("cr0") & 1 and not self.get("rflags") & RFLAGS_VM and attributes & 0x400:
            return 32
        return 16

    @property
    def interrupt_shadow(self) -> bool:
        """Whether the instruction before was STI or MOV SS, so that interrupts wait one instruction."""
        return bool(self._dwords[layout.HFLAGS >> 2] & layout.HF_INHIBIT_IRQ)

    @interrupt_shadow.setter
    def interrupt_shadow(self, on: bool) -> None:
        flags = self._dwords[layout.HFLAGS >> 2] & ~layout.HF_INHIBIT_IRQ
        self._dwords[layout.HFLAGS >> 2] = flags | (layout.HF_INHIBIT_IRQ if on else 0)

    def word(self, name: str) -> int:
        """One of the block's words for a vCPU, by its name there."""
        return self._extra[_EXTRA[name]]

    def set_word(self, name: str, value: int) -> None:
        """Write one of the block's words for a vCPU."""
        self._extra[_EXTRA[name]] = value

    @property
    def nmi_blocked(self) -> bool:
        """Whether an NMI is being handled (until IRET)."""
        return bool(self._extra[(block.NMI_BLOCKED - block.VCPU) >> 3])

    @nmi_blocked.setter
    def nmi_blocked(self, blocked: bool) -> None:
        self._extra[(block.NMI_BLOCKED - block.VCPU) >> 3] = int(blocked)

    @property
    def tsc_offset(self) -> int:
        """What the guest's TSC is ahead of the VM's clock, in ticks."""
        return self._extra[(block.TSC_OFFSET - block.VCPU) >> 3]

    @tsc_offset.setter
    def tsc_offset(self, ticks: int) -> None:
        self._extra[(block.TSC_OFFSET - block.VCPU) >> 3] = ticks & _MASK64

    def put_words(
        self, registers: Mapping[str, int], extra: Mapping[str, int], xmm: Sequence[int], x87: Sequence[int]
    ) -> None:
        """Write all registers of `WHOLE`, words of the block, and all of the SSE's and the x87's, at once: as `set`,
        `set_word`, `set_xmm` and `set_x87_register` do one by one.
        """
        words = self._words
        for name, at in _WORDS.items():
            words[at >> 3] = registers[name]
        for name in ("rflags", "sysenter_cs"):
            self.set(name, registers[name])
        for name, value in extra.items():
            self._extra[_EXTRA[name]] = value
        for at, value in zip(_XMM_AT, xmm, strict=True):
            words[at], words[at + 1] = value & _MASK64, value >> 64
        for at, value in zip(_X87_AT, x87, strict=True):
            words[at], words[at + 1] = value & _MASK64, value >> 64
        self.dirty = self.flushes = True

    def xmm(self, number: int) -> int:
        """An SSE register, 128 bits."""
        at = (layout.XMM + 64 * number) >> 3
        return self._words[at] | self._words[at + 1] << 64

    def set_xmm(self, number: int, value: int) -> None:
        """Write an SSE register, 128 bits."""
        at = (layout.XMM + 64 * number) >> 3
        self._words[at] = value & _MASK64
        self._words[at + 1] = value >> 64 & _MASK64

    @property
    def x87(self) -> X87:
        """Control, status and tag words of the x87, and MXCSR."""
        top = self._dwords[layout.FPSTT >> 2] & 7
        status = self._words[layout.FPUS >> 3] & 0xFFFF & ~(_X87_TOP | _X87_SUMMARY) | top << 11
        control = self._words[layout.FPUS >> 3] >> 16 & 0xFFFF
        if status & ~control & _X87_MASKS:
            status |= _X87_SUMMARY
        tags = sum(self._tag(n) << 2 * n for n in range(8))
        return X87(control, status, tags, self._dwords[layout.MXCSR >> 2])

    def set_x87(self, **words: int) -> None:
        """Write the words of `X87` that are given. Of a tag only "empty" is kept: the others follow from the value."""
        new = self.x87._replace(**words)
        self._dwords[layout.FPSTT >> 2] = new.status >> 11 & 7
        self._dwords[layout.FPUS >> 2] = new.status & 0xFFFF & ~_X87_TOP | (new.control & 0xFFFF) << 16
        self._dwords[layout.MXCSR >> 2] = new.mxcsr & 0xFFFFFFFF
        for n in range(8):
            self._memory[layout.FPTAGS + n] = int(new.tags >> 2 * n & 3 == _EMPTY)

    def x87_words(self) -> X87Words:
        """The x87's words and MXCSR, as they lie there."""
        words = self._words[layout.FPUS >> 3]
        empty = sum(bool(self._memory[layout.FPTAGS + n]) << n for n in range(8))
        top = self._dwords[layout.FPSTT >> 2] & 7
        return X87Words(top, words & 0xFFFF, words >> 16 & 0xFFFF, empty, self._dwords[layout.MXCSR >> 2])

    def set_x87_words(self, top: int, status: int, control: int, empty: int, mxcsr: int) -> None:
        """Write what `x87_words` says."""
        self._dwords[layout.FPSTT >> 2] = top
        self._dwords[layout.FPUS >> 2] = status | control << 16
        self._memory[layout.FPTAGS : layout.FPTAGS + 8] = [empty >> n & 1 for n in range(8)]
        self._dwords[layout.MXCSR >> 2] = mxcsr

    def x87_pointers(self) -> X87Pointers:
        """Where the last instruction of the x87 lies, and its operand."""
        selectors = self._words[layout.FPCS >> 3]
        return X87Pointers(
            selectors >> 16 & 0xFFFF, self._words[layout.FPIP >> 3] & _MASK64,
            selectors >> 32 & 0xFFFF, self._words[layout.FPDP >> 3] & _MASK64,
        )  # fmt: skip

    def set_x87_pointers(self, code: int, instruction: int, data: int, operand: int) -> None:
        """Write what `x87_pointers` says."""
        self._words[layout.FPCS >> 3] = code << 16 | data << 32
        self._words[layout.FPIP >> 3], self._words[layout.FPDP >> 3] = instruction, operand

    def x87_register(self, number: int) -> int:
        """A hardware register of the x87, 80 bits, wherever TOP is."""
        at = layout.FPREGS + layout.FPREG_SIZE * number
        return self._words[at >> 3] | (self._words[at + 8 >> 3] & 0xFFFF) << 64

    def set_x87_register(self, number: int, value: int) -> None:
        """Write a hardware register of the x87, 80 bits, without marking it as full."""
        at = layout.FPREGS + layout.FPREG_SIZE * number
        self._words[at >> 3] = value & _MASK64
        self._words[at + 8 >> 3] = value >> 64 & 0xFFFF

    def st(self, number: int) -> int:
        """ST(number), 80 bits."""
        return self.x87_register(self._st(number))

    def set_st(self, number: int, value: int) -> None:
        """Write ST(number), 80 bits, without marking it as full."""
        self.set_x87_register(self._st(number), value)

    def _st(self, number: int) -> int:
        return self._dwords[layout.FPSTT >> 2] + number & 7

    def _tag(self, register: int) -> int:
        """Tag of a hardware register: 0 a number, 1 zero, 2 special (infinity, NaN, denormal), 3 empty."""
        if self._memory[layout.FPTAGS + register]:
            return _EMPTY
        at = layout.FPREGS + 16 * register
        mantissa, exponent = self._words[at >> 3], self._words[at + 8 >> 3] & 0x7FFF
        if exponent == 0:
            return 2 if mantissa else 1
        return 0 if exponent != 0x7FFF and mantissa >> 63 else 2
