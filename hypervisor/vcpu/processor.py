"""A virtual CPU by itself: registers by name, memory through the guest's page tables, and what other processors and the
board do to it. `hypervisor.Vcpu` is one of a VM's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from operator import attrgetter
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from hypervisor.arch import segments
from hypervisor.arch.cpuid import SIGNATURE
from hypervisor.arch.exits import ExitKind
from hypervisor.arch.flags import CR0_RESET, DR6_RESET, DR7_RESET, RFLAGS_FIXED, RFLAGS_IF
from hypervisor.arch.segments import Segment, Table
from hypervisor.bus import ApicPort, Clock, InterruptController, Line
from hypervisor.engine.pcpu import PCpu
from hypervisor.engine.shared_words.scheduling import VcpuWords
from hypervisor.engine.state import GPR
from hypervisor.engine.vcpu_state import VcpuState
from hypervisor.errors import GuestFault
from hypervisor.memory import GuestMemory
from hypervisor.units import PAGE_MASK, PAGE_SIZE, by_pages
from hypervisor.vcpu.breakpoints import NONE, Breakpoints
from hypervisor.vcpu.exit import Exit
from hypervisor.vcpu.msrs import MsrBank
from hypervisor.vcpu.register_file import Registers
from hypervisor.vcpu.typed_access import TypedAccess

T = TypeVar("T")
_MASK64 = (1 << 64) - 1
_USER, _IMPLICIT, _PEEK = 1, 2, 8

RESET_SEGMENT = Segment(0, 0, 0xFFFF, segments.DATA16)


class Located(Protocol):
    """Where the vCPUs of one VM are."""

    @property
    def pcpu(self) -> PCpu | None:
        """The pCPU that runs them at the moment."""
        ...

    @property
    def here(self) -> bool:
        """Whether this thread has them on that at the moment."""
        ...

    def held(self) -> AbstractContextManager[PCpu]:
        """A pCPU with them on it during a ``with`` block."""
        ...


class Schedule(Protocol):
    """Who gives the vCPUs of one VM their turns."""

    inside: bool
    """Whether the current one is running."""

    @property
    def current(self) -> Processor:
        """The one whose turn it is."""
        ...

    def happens(self, pcpu: PCpu | None, vcpu: Processor) -> None:
        """Something happens to a vCPU that may wake it."""
        ...


class Surroundings(NamedTuple):
    """What the vCPUs of one VM have in common, and reach. ``tell`` tells the VM's logs of an event: a category, a text
    and the vCPU.
    """

    memory: GuestMemory
    clock: Clock
    place: Located
    turns: Schedule
    tell: Callable[[str, str, Processor], None]


class _Shared(property, Generic[T]):
    """An attribute that is one of a vCPU's `VcpuWords`, to which ``path`` leads. Reading it calls no Python."""

    def __init__(self, path: str) -> None:
        owner, _, name = path.partition(".")
        super().__init__(attrgetter(path), lambda self, value: setattr(getattr(self, owner), name, value))

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: type | None = None) -> T: ...  # type: ignore[override]  # known type

        def __set__(self, instance: object, value: T) -> None: ...


class _Intr(Line):
    """A vCPU's interrupt input. Its level is a word that the engine knows, too."""

    __slots__ = ("_words",)

    def __init__(self, words: VcpuWords, name: str, listener: Callable[[bool], None]) -> None:
        self._words = words
        super().__init__(name, listener)

    _level = _Shared[bool]("_words.intr")

    def set(self, level: bool) -> None:
        """As of any line, whose listener is the vCPU; it is driven several times for each interrupt."""
        words = self._words
        if level is not words.intr:
            words.intr = level
            if self._listener is not None:
                self._listener(level)
                for listener in self._others:
                    listener(level)


class _Exits(dict[int, Exit]):
    """A vCPU's records by the kind of exit, each made when it is first asked for."""

    def __init__(self, vcpu: Processor) -> None:
        self._vcpu = vcpu

    def __missing__(self, kind: int) -> Exit:
        made = self[kind] = Exit(self._vcpu, ExitKind(kind))
        return made


def _no_cpuid(vcpu: Processor, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    return 0, 0, 0, 0


class Processor(Registers, TypedAccess):
    """One virtual CPU.

    Registers are attributes by their usual names (``rax``, ``eax``, ``al``, ``rip``, ``rflags``, ``cr0``, ``efer``,
    ``dr7``, ...); segment registers have their hidden parts (``vcpu.cs.base``). Writing asks for the width alone: what
    an instruction would refuse is stored. Raises `ConfigError` for a value that is too wide, and `TrapError` where
    registers cannot be written now: in an observer, in the middle of an instruction, from a thread that does not run
    the VM while another does.
    """

    __slots__ = (
        "__weakref__", "_controller", "_place", "_task_gate", "_tell", "_turns", "apic", "asked", "breakpoints",
        "builtin_cpuid", "exit", "exits", "init_pending", "intr", "memory", "msr", "number", "started",
        "startup_vector", "state", "words",
    )  # fmt: skip

    halted = _Shared[bool]("words.halted")
    waiting = _Shared[bool]("words.waiting")
    """Whether it waits for a startup IPI, as all but the first do after a reset."""
    nmi_pending = _Shared[bool]("words.nmi_pending")
    position = _Shared[int]("words.position")
    """How far into the VM's virtual time it has come, in nanoseconds, while it is not on a pCPU."""
    event_at = _Shared[int]("words.event_at")
    """When the last thing happened that may wake it."""
    spinning = _Shared[bool]("words.spinning")
    """Whether all that it did in its last turn was to wait for another vCPU."""
    skipped = _Shared[bool]("words.skipped")
    """Whether its last turn ended in a jump to itself."""
    looked_at = _Shared[int]("words.looked_at")
    """The position at which somebody looked last whether it jumps to itself."""

    read_instruction: ClassVar[Callable[[Processor, int], bytes]] = staticmethod(lambda vcpu, address: b"")
    """Reads one instruction at a linear address: the disassembler, which lives above."""

    def __init__(self, number: int, state: VcpuState, around: Surroundings) -> None:
        super().__init__(state.registers)
        self.memory, clock, self._place, self._turns, self._tell = around
        self.number = number
        self.state = state
        self.words = state.words
        self.msr = MsrBank(self, number, clock)
        self.builtin_cpuid: Callable[[Processor, int, int], tuple[int, int, int, int]] = _no_cpuid
        """What CPUID answers unless a handler says otherwise: (EAX, EBX, ECX, EDX) of a leaf and subleaf."""
        self.breakpoints: Breakpoints = NONE
        """The guest's own breakpoints that the engine looks for while this vCPU runs."""
        self.exits = _Exits(self)
        self.exit = self.exits[0]
        self.intr: Line = _Intr(state.words, "INTR" if number == 0 else f"INTR{number}", self._intr_changed)
        """The interrupt input; whoever drives it is usually the `interrupt_controller` as well."""
        self.interrupt_controller = None
        self.nmi_pending = False
        self.task_gate = None
        self.asked: ExitKind | None = None
        self.halted = False
        self.waiting = number > 0
        self.started: tuple[int, bytes] | None = None
        """Where its last startup IPI sent it (guest-physical), and the first bytes that were there then."""
        self.init_pending = False
        self.startup_vector: int | None = None
        """The startup IPI that came behind that INIT."""
        self.apic: ApicPort | None = None
        """The local APIC, as CR8 and the MSR APIC_BASE reach it; None on a board without."""

    @property
    def interrupt_controller(self) -> InterruptController | None:
        """Who is asked for a vector when INTR is high."""
        return self._controller

    @interrupt_controller.setter
    def interrupt_controller(self, controller: InterruptController | None) -> None:
        self._controller = controller
        self.words.own_apic = False

    @property
    def task_gate(self) -> tuple[int, int, int] | None:
        """The event (vector, error code, kind) that comes before its next instruction, through a task gate."""
        return self._task_gate

    @task_gate.setter
    def task_gate(self, event: tuple[int, int, int] | None) -> None:
        self._task_gate = event
        self.words.task_gate = event is not None

    # --- what other processors and the board do to it -----------------------------------------------------------------

    @property
    def activity(self) -> str:
        """``"running"``, ``"halted"`` or ``"waiting-for-startup"``."""
        return "waiting-for-startup" if self.waiting else "halted" if self.halted else "running"

    def _happens(self) -> None:
        self._turns.happens(self._place.pcpu, self)

    def _intr_changed(self, level: bool) -> None:
        pcpu = self._place.pcpu
        if pcpu is not None:
            pcpu.request_interrupt(self.number, level)
        if level:
            self._happens()

    def nmi(self) -> None:
        """Pulse the NMI line: it is taken at the next block, or after the IRET of the NMI that is being handled."""
        self.nmi_pending = True
        self._happens()
        pcpu = self._place.pcpu
        if pcpu is not None:
            pcpu.kick()

    def init(self) -> None:
        """Assert INIT: the processor is reset, all but the model-specific registers and the FPU (APM volume 2, table
        14-1). The first vCPU then starts at the reset vector, any other waits for `startup`.
        """
        turns = self._turns
        self._happens()
        if turns.inside and turns.current is self:  # in the middle of its own instruction
            self.init_pending, self.startup_vector = True, None
            pcpu = self._place.pcpu
            if pcpu is not None:
                pcpu.kick()
            return
        self.take_init()

    def startup(self, vector: int) -> None:
        """A startup IPI: in real mode at ``vector`` * 4096 (APM volume 2, 16.5), if it waits for one; else nothing.

        Raises ValueError unless the vector is 0 to 255.
        """
        if not 0 <= vector <= 0xFF:
            raise ValueError(f"startup({vector:#x}): a vector is 0 to 0xff, the number of a page below 1 MiB.")
        if self.init_pending:
            self.startup_vector = vector
        elif self.waiting:
            self.registers.set_segment("cs", Segment(vector << 8, vector << 12, 0xFFFF, segments.CODE16))
            self.registers.set("rip", 0)
            self._tell("reset", f"start-up IPI {vector:#x}", self)
            self._happens()
            self.waiting = False
            page, memory = vector << 12, self.memory
            self.started = page, memory.read(page, 2) if page < memory.size else b""
            self.position = max(self.position, self.event_at)

    def take_init(self) -> None:
        """Carry out an INIT that came in the middle of an instruction of its own."""
        self.init_pending = False
        self._tell("reset", "INIT", self)
        self.reset(keep=True)
        if self.startup_vector is not None:
            vector, self.startup_vector = self.startup_vector, None
            self.startup(vector)

    def wakes(self) -> bool:
        """Whether it has something to do; one that sleeps is woken by what has happened to it."""
        words = self.words
        if words.waiting:
            return False
        if not words.halted:
            return True
        registers = self.registers
        interrupted = words.intr and registers.get("rflags") & RFLAGS_IF
        if interrupted or (words.nmi_pending and not registers.nmi_blocked):
            words.halted = False
            words.position = max(words.position, words.event_at)
            return True
        return False

    def reset(self, keep: bool = False) -> None:
        """The state after power-on or reset (AMD64 APM volume 2, table 14-1); after INIT with ``keep``."""
        registers = self.registers
        for name in GPR:
            registers.set(name, 0)
        registers.set("rdx", SIGNATURE)
        for name in ("es", "ss", "ds", "fs", "gs"):
            registers.set_segment(name, RESET_SEGMENT)
        registers.set_segment("cs", Segment(0xF000, 0xFFFF0000, 0xFFFF, segments.CODE16))
        registers.set_segment("ldtr", Segment(0, 0, 0xFFFF, segments.LDT))
        registers.set_segment("tr", Segment(0, 0, 0xFFFF, segments.BUSY_TSS))
        registers.set_table("gdtr", Table(0, 0xFFFF))
        registers.set_table("idtr", Table(0, 0xFFFF))
        for name, value in (
            ("rip", 0xFFF0), ("rflags", RFLAGS_FIXED), ("efer", 0),
            ("cr0", CR0_RESET), ("cr2", 0), ("cr3", 0), ("cr4", 0),
            ("dr0", 0), ("dr1", 0), ("dr2", 0), ("dr3", 0), ("dr6", DR6_RESET), ("dr7", DR7_RESET),
        ):  # fmt: skip
            registers.set(name, value)
        registers.nmi_blocked = False
        self.nmi_pending = False
        self.task_gate = None
        self.halted = False
        self.waiting, self.started = self.number > 0, None
        if keep:
            return
        for name, value in (
            ("xcr0", 1), ("star", 0), ("lstar", 0), ("cstar", 0), ("fmask", 0), ("kernel_gs_base", 0),
            ("sysenter_cs", 0), ("sysenter_esp", 0), ("sysenter_eip", 0), ("tsc_aux", 0), ("pat", 0x0007040600070406),
        ):  # fmt: skip
            registers.set(name, value)
        registers.tsc_offset = 0
        registers.set_x87(control=0x37F, status=0, tags=0xFFFF, mxcsr=0x1F80)  # as FNINIT, which firmware does
        self.msr.reset()
        self.init_pending, self.startup_vector = False, None

    # --- memory -------------------------------------------------------------------------------------------------------

    def translate(self, gva: int) -> int:
        """The guest-physical address of a linear address, through the guest's page tables and without side effects.

        Raises `GuestFault` where they do not map it.
        """
        place = self._place
        if place.here and place.pcpu is not None:  # as for all that a run does, at each timer too
            gpa, vector, error = self._walk(place.pcpu, gva)
        else:
            with place.held() as pcpu:
                gpa, vector, error = self._walk(pcpu, gva)
        if vector >= 0:
            raise GuestFault(
                f"{gva & _MASK64:#x} is not mapped by the guest's page tables (CR3 {self.cr3:#x}, error {error:#x})."
            )
        return gpa

    def _walk(self, pcpu: PCpu, gva: int) -> tuple[int, int, int]:
        found = pcpu.walk(gva, 0, _PEEK | _IMPLICIT | 4, self.state)
        if found[1] >= 0:  # SMAP and the like do not bind the host: ask as a fetch, then as the user
            found = pcpu.walk(gva, 0, _PEEK | _USER, self.state)
        return found

    def read(self, gva: int, size: int) -> bytes:
        """``size`` bytes at a linear address. Raises `GuestFault` where it is not mapped."""
        memory = self.memory
        if 0 < size <= PAGE_SIZE - (gva & PAGE_MASK):  # as most are
            return memory.read(self.translate(gva), size)
        return b"".join([memory.read(self.translate(at), length) for at, length in by_pages(gva, size)])

    def write(self, gva: int, data: bytes) -> None:
        """Store bytes at a linear address, read-only pages included. Raises `GuestFault` where it is not mapped, and
        where no memory is that can be written.
        """
        done = 0
        for at, length in by_pages(gva, len(data)):
            self.memory.write(self.translate(at), data[done : done + length])
            done += length

    def instruction_at(self, rip: int, length: int = 0) -> bytes:
        """The bytes of the instruction at CS:``rip``; ``length`` if it is known. Empty where it cannot be read."""
        linear = rip if self.mode == 64 else (self.cs.base + rip) & 0xFFFFFFFF
        try:
            return self.read(linear, length) if length else type(self).read_instruction(self, linear)
        except GuestFault:
            return b""


__all__ = ["Located", "Processor", "Schedule", "Surroundings"]
