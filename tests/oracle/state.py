"""The processor state and the memory that the oracle works on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

CR0_PE, CR0_WP, CR0_PG = 1 << 0, 1 << 16, 1 << 31
CR0_TS = 1 << 3
CR4_PSE, CR4_PAE, CR4_SMEP, CR4_SMAP = 1 << 4, 1 << 5, 1 << 20, 1 << 21
EFER_LME, EFER_LMA, EFER_NXE = 1 << 8, 1 << 10, 1 << 11
TF, IF, NT, RF, VM, AC = 1 << 8, 1 << 9, 1 << 14, 1 << 16, 1 << 17, 1 << 18
IOPL_SHIFT = 12

MAXPHYADDR = 40
"""Physical address bits (CPUID 8000_0008h); page-table bits from here to 51 are reserved."""

SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs")
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
MASK16, MASK32, MASK64 = 0xFFFF, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF


class Attributes:
    """What the attributes of a descriptor, or of a segment register's hidden part, say: the VMCB's 12 bits.

    APM volume 2, 15.5.1 and 4.8: type 3:0, S 4, DPL 6:5, P 7, AVL 8, L 9, D/B 10, G 11.
    """

    attributes: int

    @property
    def type(self) -> int:
        """The four type bits."""
        return self.attributes & 0xF

    @property
    def dpl(self) -> int:
        """Descriptor privilege level."""
        return self.attributes >> 5 & 3

    @property
    def present(self) -> bool:
        """The P bit."""
        return bool(self.attributes & 0x80)

    @property
    def long(self) -> bool:
        """The L bit: 64-bit code."""
        return bool(self.attributes & 0x200)

    @property
    def big(self) -> bool:
        """The D/B bit: 32-bit operands, or a 32-bit stack pointer."""
        return bool(self.attributes & 0x400)


@dataclass(frozen=True)
class Segment(Attributes):
    """A segment register with its hidden part: ``limit`` in bytes."""

    selector: int = 0
    base: int = 0
    limit: int = 0
    attributes: int = 0


@dataclass(frozen=True)
class Table:
    """GDTR or IDTR: linear ``base`` and inclusive ``limit`` in bytes."""

    base: int = 0
    limit: int = 0


@dataclass
class State:
    """What delivery and walks look at. ``regs`` is in encoding order (rax rcx rdx rbx rsp rbp rsi rdi r8..r15).

    ``rip`` is the address of the instruction that caused a fault or is a software interrupt (`deliver` takes its
    length), and of the next instruction for traps and interrupts. ``cpl`` is 3 in virtual-8086 mode, 0 in real mode.
    """

    regs: list[int] = field(default_factory=lambda: [0] * 16)
    rip: int = 0
    rflags: int = 2
    cpl: int = 0
    segs: dict[str, Segment] = field(default_factory=lambda: {name: Segment() for name in SEGMENT_NAMES})
    ldtr: Segment = Segment(0, 0, 0, 0x82)
    tr: Segment = Segment(0, 0, 0xFFFF, 0x8B)
    gdtr: Table = Table()
    idtr: Table = Table()
    cr0: int = 0
    cr2: int = 0
    cr3: int = 0
    cr4: int = 0
    efer: int = 0

    def copy(self) -> State:
        """An independent copy (segments and tables are immutable values)."""
        return replace(self, regs=list(self.regs), segs=dict(self.segs))

    @property
    def protected(self) -> bool:
        """CR0.PE."""
        return bool(self.cr0 & CR0_PE)

    @property
    def paging(self) -> bool:
        """CR0.PG."""
        return bool(self.cr0 & CR0_PG)

    @property
    def long_mode(self) -> bool:
        """EFER.LMA: 64-bit or compatibility mode."""
        return bool(self.efer & EFER_LMA)

    @property
    def v86(self) -> bool:
        """Virtual-8086 mode: protected, and the VM flag."""
        return self.protected and bool(self.rflags & VM)

    @property
    def iopl(self) -> int:
        """I/O privilege level from the flags."""
        return self.rflags >> IOPL_SHIFT & 3


class Memory:
    """Guest-physical memory: reads beyond it return all ones, writes beyond it are dropped."""

    def __init__(self, data: bytes | bytearray | int) -> None:
        """A copy of ``data``, or that many zero bytes."""
        self.data = bytearray(data)

    def read(self, gpa: int, n: int) -> bytes:
        """``n`` bytes at ``gpa``."""
        inside = bytes(self.data[gpa : gpa + n]) if gpa < len(self.data) else b""
        return inside + b"\xff" * (n - len(inside))

    def write(self, gpa: int, data: bytes) -> None:
        """Store ``data`` at ``gpa``."""
        room = max(0, len(self.data) - gpa)
        self.data[gpa : gpa + min(room, len(data))] = data[:room]
