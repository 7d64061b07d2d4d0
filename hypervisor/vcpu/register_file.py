"""The registers of a vCPU as attributes and by name."""

from __future__ import annotations

from threading import get_ident
from typing import Any

from hypervisor.arch.flags import CR0_PE, RFLAGS_VM
from hypervisor.arch.segments import Segment, Table
from hypervisor.engine.state import GPR, State
from hypervisor.errors import ConfigError, TrapError
from hypervisor.spelling import hint
from hypervisor.vcpu.widths import fitting

_MASK64 = (1 << 64) - 1
_SEGMENTS = frozenset(("es", "cs", "ss", "ds", "fs", "gs"))
"""Segment registers that a selector is moved into."""


class _Named:
    """An attribute that is called as its register is."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name


class _Whole(_Named):
    """A whole 64-bit register."""

    def __get__(self, vcpu: Registers, owner: type) -> int:
        return vcpu.registers.get(self.name)

    def __set__(self, vcpu: Registers, value: int) -> None:
        if vcpu.locked is not None or vcpu.thread not in (0, get_ident()):
            vcpu.check_lock(self.name)
        if type(value) is not int or not 0 <= value <= _MASK64:
            value = fitting(self.name, value, 64)
        vcpu.registers.set(self.name, value)


class _Part(_Named):
    """A part of a register: EAX (writes clear the upper half, as instructions do), AX, AL, AH."""

    def __init__(self, whole: str, bits: int, shift: int = 0) -> None:
        self.whole, self.bits, self.shift = whole, bits, shift
        self.mask = ((1 << bits) - 1) << shift

    def __get__(self, vcpu: Registers, owner: type) -> int:
        return (vcpu.registers.get(self.whole) & self.mask) >> self.shift

    def __set__(self, vcpu: Registers, value: int) -> None:
        if vcpu.locked is not None or vcpu.thread not in (0, get_ident()):
            vcpu.check_lock(self.name)
        old = 0 if self.bits == 32 else vcpu.registers.get(self.whole) & ~self.mask
        vcpu.registers.set(self.whole, old | fitting(self.name, value, self.bits) << self.shift)


_WIDTHS = {"selector": 16, "base": 64, "limit": 32, "attributes": 12}
"""Bits of the parts of a segment register, as the VMCB has them, and of those of GDTR and IDTR."""


def _checked(name: str, value: Any, kind: type[Any]) -> Any:
    """A segment register's or a table's parts, if they are that. Raises `ConfigError`."""
    if not isinstance(value, kind):
        raise ConfigError(f"{name} = {value!r}: give a {kind.__name__}, such as vcpu.{name}._replace(base=0x1000).")
    widths = {**_WIDTHS, "limit": 16} if kind is Table else _WIDTHS
    return kind(*(fitting(f"{name}.{field}", part, widths[field]) for field, part in value._asdict().items()))


class _Segment(_Named):
    """A segment register with its hidden part."""

    def __get__(self, vcpu: Registers, owner: type) -> Segment:
        return vcpu.registers.segment(self.name)

    def __set__(self, vcpu: Registers, value: Segment) -> None:
        vcpu.check_lock(self.name)
        vcpu.registers.set_segment(self.name, _checked(self.name, value, Segment))


class _Table(_Named):
    """GDTR or IDTR."""

    def __get__(self, vcpu: Registers, owner: type) -> Table:
        return vcpu.registers.table(self.name)

    def __set__(self, vcpu: Registers, value: Table) -> None:
        vcpu.check_lock(self.name)
        vcpu.registers.set_table(self.name, _checked(self.name, value, Table))


class _Xmm(_Named):
    """An SSE register, 128 bits."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __get__(self, vcpu: Registers, owner: type) -> int:
        return vcpu.registers.xmm(self.number)

    def __set__(self, vcpu: Registers, value: int) -> None:
        vcpu.check_lock(self.name)
        vcpu.registers.set_xmm(self.number, fitting(self.name, value, 128))


class Registers:
    """Registers as attributes by their usual names; segment registers have their hidden parts (``vcpu.cs.base``).

    Writing asks for the width alone: what an instruction would refuse is stored. A misspelt attribute is an error in
    Python's words, since `__getattr__` and `__setattr__` would make each access to a real one slower (35 and 200 ns).
    """

    __slots__ = ("locked", "registers", "thread")

    def __init__(self, registers: State) -> None:
        self.registers = registers
        self.locked: str | None = None
        """Why registers cannot be written at the moment, None if they can."""
        self.thread = 0
        """The thread whose run of the VM they belong to, by its number; 0 between runs."""

    rax = _Whole()
    rcx = _Whole()
    rdx = _Whole()
    rbx = _Whole()
    rsp = _Whole()
    rbp = _Whole()
    rsi = _Whole()
    rdi = _Whole()
    r8 = _Whole()
    r9 = _Whole()
    r10 = _Whole()
    r11 = _Whole()
    r12 = _Whole()
    r13 = _Whole()
    r14 = _Whole()
    r15 = _Whole()
    rip = _Whole()
    rflags = _Whole()
    efer = _Whole()
    cr0 = _Whole()
    cr2 = _Whole()
    cr3 = _Whole()
    cr4 = _Whole()
    cr8 = _Whole()
    dr0 = _Whole()
    dr1 = _Whole()
    dr2 = _Whole()
    dr3 = _Whole()
    dr6 = _Whole()
    dr7 = _Whole()

    eflags = _Part("rflags", 32)
    eip = _Part("rip", 32)
    ip = _Part("rip", 16)
    eax = _Part("rax", 32)
    ax = _Part("rax", 16)
    al = _Part("rax", 8)
    ah = _Part("rax", 8, shift=8)
    ebx = _Part("rbx", 32)
    bx = _Part("rbx", 16)
    bl = _Part("rbx", 8)
    bh = _Part("rbx", 8, shift=8)
    ecx = _Part("rcx", 32)
    cx = _Part("rcx", 16)
    cl = _Part("rcx", 8)
    ch = _Part("rcx", 8, shift=8)
    edx = _Part("rdx", 32)
    dx = _Part("rdx", 16)
    dl = _Part("rdx", 8)
    dh = _Part("rdx", 8, shift=8)
    esp = _Part("rsp", 32)
    sp = _Part("rsp", 16)
    spl = _Part("rsp", 8)
    ebp = _Part("rbp", 32)
    bp = _Part("rbp", 16)
    bpl = _Part("rbp", 8)
    esi = _Part("rsi", 32)
    si = _Part("rsi", 16)
    sil = _Part("rsi", 8)
    edi = _Part("rdi", 32)
    di = _Part("rdi", 16)
    dil = _Part("rdi", 8)
    r8d = _Part("r8", 32)
    r8w = _Part("r8", 16)
    r8b = _Part("r8", 8)
    r9d = _Part("r9", 32)
    r9w = _Part("r9", 16)
    r9b = _Part("r9", 8)
    r10d = _Part("r10", 32)
    r10w = _Part("r10", 16)
    r10b = _Part("r10", 8)
    r11d = _Part("r11", 32)
    r11w = _Part("r11", 16)
    r11b = _Part("r11", 8)
    r12d = _Part("r12", 32)
    r12w = _Part("r12", 16)
    r12b = _Part("r12", 8)
    r13d = _Part("r13", 32)
    r13w = _Part("r13", 16)
    r13b = _Part("r13", 8)
    r14d = _Part("r14", 32)
    r14w = _Part("r14", 16)
    r14b = _Part("r14", 8)
    r15d = _Part("r15", 32)
    r15w = _Part("r15", 16)
    r15b = _Part("r15", 8)

    es = _Segment()
    cs = _Segment()
    ss = _Segment()
    ds = _Segment()
    fs = _Segment()
    gs = _Segment()
    ldtr = _Segment()
    tr = _Segment()

    gdtr = _Table()
    idtr = _Table()

    xmm0 = _Xmm(0)
    xmm1 = _Xmm(1)
    xmm2 = _Xmm(2)
    xmm3 = _Xmm(3)
    xmm4 = _Xmm(4)
    xmm5 = _Xmm(5)
    xmm6 = _Xmm(6)
    xmm7 = _Xmm(7)
    xmm8 = _Xmm(8)
    xmm9 = _Xmm(9)
    xmm10 = _Xmm(10)
    xmm11 = _Xmm(11)
    xmm12 = _Xmm(12)
    xmm13 = _Xmm(13)
    xmm14 = _Xmm(14)
    xmm15 = _Xmm(15)

    def get(self, name: str) -> int:
        """A register by name, 64 bits or its width."""
        if State.knows(name):
            return self.registers.get(name)
        try:
            value = getattr(self, name)
        except AttributeError:
            raise _no_register(name) from None
        return value.selector if isinstance(value, Segment) else int(value)

    def set(self, name: str, value: int) -> None:
        """Write a register by name. A segment register written in real mode or virtual-8086 mode gets its base too."""
        self.check_lock(name)
        if State.knows(name):
            self.registers.set(name, fitting(name, value, 64))
        elif name in _SEGMENTS:
            value = fitting(name, value, 16)
            old = self.registers.segment(name)
            real = not self.cr0 & CR0_PE or self.rflags & RFLAGS_VM
            self.registers.set_segment(
                name, old._replace(selector=value, base=value << 4) if real else old._replace(selector=value)
            )
        elif name in _PARTS:
            setattr(self, name, value)
        else:
            raise _no_register(name)

    def check_lock(self, name: str) -> None:
        """Raise `TrapError` where a register must not be written."""
        if self.locked is not None:
            raise TrapError(f"{name} cannot be written now: {self.locked}.")
        if self.thread and self.thread != get_ident():
            raise TrapError(
                f"{name} cannot be written now: the VM runs in another thread. Write it in a handler, or between runs."
            )

    @property
    def cpl(self) -> int:
        """Current privilege level, 0 to 3."""
        return self.registers.cpl

    @property
    def mode(self) -> int:
        """Width of the code that runs: 16, 32 or 64."""
        return self.registers.mode

    @property
    def linear_rip(self) -> int:
        """CS:RIP as a linear address."""
        if self.mode == 64:
            return self.rip
        return (self.cs.base + self.rip) & 0xFFFFFFFF

    def dump(self) -> dict[str, int]:
        """All general registers, RIP and RFLAGS, with the 32-bit names too."""
        values = {name: self.registers.get(name) for name in (*GPR, "rip", "rflags")}
        values |= {name: getattr(self, name) for name in _PARTS}
        return values


_PARTS = {name: register for name, register in vars(Registers).items() if isinstance(register, _Part)}
_NAMES = tuple(name for name, register in vars(Registers).items() if isinstance(register, _Named))


def _no_register(name: str) -> AttributeError:
    return AttributeError(f"a vCPU has no register {name!r}.{hint(name, _NAMES)}")
