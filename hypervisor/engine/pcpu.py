"""A physical CPU: a Unicorn instance that runs whichever vCPU is loaded, and reports why it stopped.

It is driven by one thread at a time; the only word that another thread may write is the kick. What the instance is made
of, what it traps and what it has of a guest's memory is in `hypervisor.engine.instance`.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hypervisor.arch.exits import ExitKind
from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.engine.instance.engine_memory import EngineMemory
from hypervisor.engine.instance.room import CODE_CACHE
from hypervisor.engine.instance.trapping import Trapping
from hypervisor.engine.instance.unicorn_instance import UnicornInstance
from hypervisor.engine.report import Report
from hypervisor.engine.state import Views
from hypervisor.engine.tables import GuestTables
from hypervisor.engine.vcpu_state import VcpuState
from hypervisor.memory import HostMemory

_COMPLETE, _COUNTS, _COSTS, _NOW = b.COMPLETE >> 3, b.COUNTS >> 3, b.COSTS >> 3, b.NOW >> 3
_REST_END = b.REST_END >> 3
_DIRTY = b.DIRTY >> 3

InPlace = Callable[[int], int]
"""Called in the middle of an instruction with an exit kind; returns 0 to go on, 1 to have the guest left."""


class PCpu:
    """One physical CPU over the host's memory. ``code_cache`` is the room for translated code of each VM, in bytes."""

    def __init__(self, memory: HostMemory, number: int = 0, code_cache: int = CODE_CACHE) -> None:
        self.number = number
        self.owner: object | None = None
        self._nothing = GuestTables()
        self._guests: set[GuestTables] = set()
        """Of VMs whose code may have been translated here."""
        self._instance = instance = UnicornInstance(memory, self._nothing, code_cache)
        self.words, self._at, self._call = instance.words, instance.at, instance.call
        self._run, self._save, self._load = self._call["run"], self._call["save"], self._call["load"]
        self.report = Report.from_buffer(instance.block)
        self.memory = EngineMemory(instance, code_cache)
        """What it has of the guest's memory."""
        self.trapping = Trapping(instance, self.memory)
        """What the guest is left for."""
        self._in_place: object = None
        saved = (ctypes.c_ubyte * layout.STATE_SIZE).from_address(instance.env)
        self._template = bytes(saved)
        first = b.VCPU >> 3
        self._live = Views.over(saved, self.words[first : b.VCPU_END >> 3].cast("B").cast("Q"))
        self._loaded: VcpuState | None = None

    # --- VMs ----------------------------------------------------------------------------------------------------------

    def bind(self, tables: GuestTables) -> None:
        """Use a VM's map and trap tables from now on."""
        if tables is not self._nothing and tables not in self._guests:
            self._guests.add(tables)
            self.memory.expect(len(self._guests))
            self.memory.widen()
        for offset, value in tables.words().items():
            self.words[offset >> 3] = value
        self._instance.keep_apart(bool(self.words[b.EDGES >> 3]), bool(self.words[b.BLOCK_TABLE >> 3]))
        self.trapping.bind(tables)
        self.memory.flush()

    def part(self, tables: GuestTables) -> None:
        """A VM is being closed, whether or not it has been here."""
        self._guests.discard(tables)
        self.memory.expect(len(self._guests))

    def unbind(self) -> None:
        """Use no VM's tables any more. When none is left that has been here, what was translated, and the memory that
        this took, is given back.
        """
        self.bind(self._nothing)
        if not self._guests:
            self.memory.give_back()

    # --- vCPUs --------------------------------------------------------------------------------------------------------

    def new_vcpu(self, number: int = 0) -> VcpuState:
        """A vCPU in guest mode whose registers are still to be set; its number in its VM."""
        return VcpuState(self._template, number)

    @property
    def loaded(self) -> VcpuState | None:
        """The vCPU that would run."""
        return self._loaded

    def load(self, vcpu: VcpuState) -> None:
        """Make this vCPU the one that runs; its registers are then the live ones."""
        if self._loaded is vcpu:
            return
        self.unload()
        vcpu.tlb.unpack()
        self._load(self._at, *vcpu.at)
        self.words[b.ROW >> 3], self.words[b.APIC >> 3] = ctypes.addressof(vcpu.words), vcpu.words.apic_at
        vcpu.registers.look_at(self._live)
        self._loaded = vcpu

    def save(self, state: int, extra: int) -> None:
        """Copy the loaded vCPU's registers and words to these addresses."""
        self._save(self._at, state, extra)

    def reload(self, state: int, extra: int) -> None:
        """Let the loaded vCPU have other registers and words, which are at these addresses; its TLB is behind them."""
        self._load(self._at, state, extra)

    def unload(self) -> None:
        """Save the loaded vCPU back into its own memory."""
        vcpu = self._loaded
        if vcpu is None:
            return
        self._save(self._at, *vcpu.at)
        vcpu.registers.look_at(vcpu.views)
        self.words[b.GUEST_TLB >> 3] = 0
        self._loaded = None

    def follow(self, vcpu: VcpuState) -> None:
        """The engine has put this vCPU on the pCPU by itself."""
        if self._loaded is not None:
            self._loaded.registers.look_at(self._loaded.views)
        vcpu.registers.look_at(self._live)
        self._loaded = vcpu

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run the loaded vCPU until something is to be told; the `ExitKind`. Releases the interpreter lock."""
        if self.words[_DIRTY]:
            self.sync()
        return self._run(self._at)  # type: ignore[no-any-return]  # a ctypes function

    def begin(self) -> None:
        """This thread has the pCPU from now on."""
        self.report.cpu_clock = time.pthread_getcpuclockid(threading.get_ident())

    def let_go(self) -> None:
        """This thread asks for the interpreter lock for something else than this pCPU from now on."""
        self._call["let_go"](self._at)

    @property
    def in_block(self) -> bool:
        """Whether the guest was left in the middle of a block, and what comes from outside waits for its end."""
        return self.words[_REST_END] != 0 and self._call["in_block"](self._at) != 0

    def sync(self) -> None:
        """Derive the hidden flags after registers were written from outside, and flush the guest's TLB if need be."""
        self._call["sync"](self._at)
        registers = None if self._loaded is None else self._loaded.registers
        self._call["flush_guest" if registers is None or registers.flushes else "flush"](self._at)
        self.words[_DIRTY] = 0

    def kick(self) -> None:
        """Make the guest stop at its next block. The one method that any thread may call.

        Unicorn's own request to stop is not for other threads: its helpers of SYSCALL, IN and others skip their
        instruction when they see one (docs/engine.md).
        """
        self.words[b.KICK >> 3] = b.KICKED

    def request_interrupt(self, number: int, level: bool) -> None:
        """Set the level of a vCPU's interrupt request; if it is the loaded one, the guest is left as soon as it can
        take it. From another thread than the one that runs the guest it is a kick, too: words that the block hook
        writes are written by nobody else.
        """
        words = self.words
        loaded = words[b.NUMBER >> 3] == number
        if loaded:
            words[b.INTR >> 3] = int(level)
        if not level:
            return
        if words[b.RUNNING >> 3] and words[b.THREAD >> 3] != threading.get_ident():
            self.kick()
        elif loaded:
            words[b.ARMED >> 3] = 1
            words[b.DEADLINE >> 3] = 0

    def step(self) -> int:
        """Run one instruction (one iteration of a repeated string instruction); `ExitKind.STEPPED` if nothing else came
        up.
        """
        if not self.in_block:  # look first at the block that would begin, so that its rest can be told from the next
            kind, step = self._step(b.STEP_LOOK, 0xFFFFFFFF)
            if kind != ExitKind.STEPPED or step != b.STEP_LOOK:
                return kind
        return self._step(b.STEP_ONE, 1)[0]

    def _step(self, step: int, instructions: int) -> tuple[int, int]:
        """Run with `STEP` at this value, and so many instructions in the first block: the exit, and what `STEP` is."""
        words = self.words
        flags = ctypes.c_uint32.from_address(words[b.CPU >> 3] + layout.CPU_CFLAGS_NEXT_TB)
        words[b.STEP >> 3] = step
        words[b.DEADLINE >> 3] = 0
        flags.value = instructions
        try:
            return self.run(), words[b.STEP >> 3]
        finally:
            words[b.STEP >> 3] = 0
            words[b.DEADLINE >> 3] = words[b.NEXT >> 3]
            flags.value = 0xFFFFFFFF

    def on_access(self, callback: InPlace) -> None:
        """Set what is called in place for ports and device memory. It must not raise."""
        function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(callback)
        self._in_place = function
        # each slice comes here, and `ctypes.cast` makes a circle of references, which the collector has to come for
        self.words[b.F_PYTHON >> 3] = ctypes.c_void_p.from_buffer(function).value or 0

    # --- what is carried out in the processor's place -----------------------------------------------------------------

    def _outside(self, name: str, *arguments: int) -> int:
        """Call a kernel that may itself stop the guest; the exit kind it asks for, 0 for none."""
        if self.words[_DIRTY]:
            self.sync()
        self.words[b.X_KIND >> 3] = 0
        self._call[name](self._at, *arguments)
        return self.words[b.X_KIND >> 3]

    def complete(self, length: int) -> int:
        """The instruction at RIP was carried out by us: go past it. Returns an exit kind if that raised one, else 0."""
        return self._outside("complete", length)

    def spin(self) -> int:
        """A PAUSE was carried out by us: it may end the vCPU's turn. As `complete`."""
        return self._outside("spin")

    def happened(self, kind: ExitKind) -> None:
        """Count what did not come from the engine, and let it take its time."""
        words = self.words
        words[_COUNTS + kind] += 1
        words[_NOW] += words[_COSTS + kind]

    def defer_completion(self, length: int) -> int:
        """As `complete`, but by the next `run`, which is cheaper; always 0."""
        self.words[_COMPLETE] = length
        return 0

    def complete_deferred(self) -> int:
        """Do now what was deferred: whoever looks at RIP must not see it behind. As `complete`, or 0."""
        length = self.words[_COMPLETE]
        if length == 0:
            return 0
        self.words[_COMPLETE] = 0
        return self.complete(length)

    def event(self, vector: int, error: int, kind: int, rip: int) -> int:
        """Deliver an event to the guest (``kind`` as in `events`); an exit kind if that failed, else 0."""
        return self._outside("event", vector, error, kind, b.signed(rip))

    def exception(self, vector: int, error: int) -> int:
        """Raise an exception at RIP, past handlers that listen; an exit kind, else 0."""
        return self._outside("exception", vector, error)

    def enter_syscall(self, length: int) -> int:
        """Carry out SYSCALL."""
        return self._outside("enter_syscall", length)

    def enter_sysenter(self, length: int) -> int:
        """Carry out SYSENTER."""
        return self._outside("enter_sysenter", length)

    # --- looking at the guest -----------------------------------------------------------------------------------------

    @contextmanager
    def _looking_at(self, vcpu: VcpuState) -> Iterator[None]:
        """Kernels see the saved state of a vCPU that is not loaded, and do not change it."""
        env = self.words[b.ENV >> 3]
        self.words[b.ENV >> 3] = ctypes.addressof(vcpu.memory)
        try:
            if vcpu.registers.dirty:
                self._call["sync"](self._at)
            yield
        finally:
            self.words[b.ENV >> 3] = env

    def walk(self, gva: int, access: int, how: int, vcpu: VcpuState | None = None) -> tuple[int, int, int]:
        """Translate through the page tables of the loaded vCPU, or of one that is not: (guest-physical address, -1, 0)
        or (-1, vector, error).
        """
        if vcpu is not None and vcpu is not self._loaded:
            with self._looking_at(vcpu):
                gpa = self._call["walk"](self._at, b.signed(gva), access, how)
        else:
            if self.words[_DIRTY]:
                self.sync()
            gpa = self._call["walk"](self._at, b.signed(gva), access, how)
        vector = self.words[b.W_VECTOR >> 3]
        return (gpa, -1, 0) if vector < 0 else (-1, vector, self.words[b.W_ERROR >> 3])

    def decode(self) -> int:
        """Decode the instruction at RIP into the D words; its length, 0 if unknown."""
        if self.words[_DIRTY]:
            self.sync()
        return int(self._call["decode"](self._at))

    def flags(self) -> int:
        """RFLAGS in the middle of an instruction, where the arithmetic flags are not in the state."""
        return self._instance.flags()

    @property
    def goes_upwards(self) -> bool:
        """Whether DF is clear, in the middle of an instruction, where it is not in RFLAGS."""
        return ctypes.c_int32.from_address(self.words[b.ENV >> 3] + layout.DF).value > 0

    def kernel(self, name: str, *arguments: int) -> int:
        """What a kernel says, called on this pCPU."""
        return int(self._call[name](self._at, *arguments))

    def close(self) -> None:
        """Free the engine. The host's memory must not be closed before."""
        self.unload()
        self._instance.close()
