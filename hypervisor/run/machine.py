"""The parts of one VM, wired: what its runs work on. `hypervisor.VM` is one that users hold.

Whatever runs, serves or watches a guest takes this object, so it knows nothing of those: the run that it has is a
protocol here, and what a board puts into it is added above.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

from hypervisor.arch.address_map import ram_ranges
from hypervisor.bus import AddressSpace, Device, Dma
from hypervisor.engine.report import MAX_EVENTS
from hypervisor.engine.tables import GuestTables
from hypervisor.errors import ConfigError
from hypervisor.memory import GuestMemory
from hypervisor.outcome.crash_record import Crash
from hypervisor.outcome.result import Fault, Reason, RunResult
from hypervisor.run import outside
from hypervisor.run.inbox import Inbox
from hypervisor.run.settled import Settled
from hypervisor.run.sharing.placing import Place
from hypervisor.run.sharing.sharer import Sharer
from hypervisor.run.sharing.turns import Turns
from hypervisor.run.vm_clock import VmClock
from hypervisor.symbols.symbol_table import SymbolTable
from hypervisor.traps import history
from hypervisor.traps.builtin.random_numbers import MachineRandom
from hypervisor.traps.plugins.plugin_set import PluginSet
from hypervisor.traps.registry import TrapRegistry
from hypervisor.units import GIB, PAGE_SIZE
from hypervisor.vcpu.breakpoints import Breakpoints
from hypervisor.vcpu.processor import Processor, Surroundings

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.ending.conditions import Until
    from hypervisor.run.host import CoreHost
    from hypervisor.run.pace import Pace
    from hypervisor.run.pausing import Debugger
    from hypervisor.run.run_protocol import Run

MAX_UNCLAIMED = 4096
"""Different accesses without an answer that are counted one by one."""

NOBODY = -1
"""Instead of a thread: no thread may write registers, as the VM is in a run that waits."""

_log = logging.getLogger("hypervisor.unclaimed")


class Machine(Settled, Sharer, ABC):
    """Memory, vCPUs, time, devices and trap handlers of one VM, and what they do to each other."""

    reporter: ClassVar[Callable[[Machine, str, Sequence[Fault], Sequence[history.Event]], Crash] | None] = None
    """Makes the crash report: called with the VM, the message, the chain of faults and the last events."""

    adviser: ClassVar[Callable[[Machine], str]] = staticmethod(lambda vm: "")
    """Names a likely mistake of a guest that only waits: called with the VM at the end of such a run."""

    vcpus: Sequence[Processor]

    def __init__(
        self, host: CoreHost, size: int, *, wall: bool, seed: int, name: str, strict: bool, cpus: int, spare: bool
    ) -> None:
        """``size`` bytes of memory, of the host's ``spare`` frames if it goes on from another machine; ``cpus`` vCPUs.
        Raises `ConfigError` when the host has not enough memory left."""
        self.host = host
        self.name = name
        self.strict = strict
        self.seed = seed
        self.random = MachineRandom(seed)
        self._init_run()
        ram = ram_ranges(size)
        pages = max(sum(ram[-1]), 4 * GIB) // PAGE_SIZE
        self.memory = GuestMemory(host.memory, ram, pages, self, spare=spare)
        self.tables = GuestTables(self.memory.pages, name)
        self.turns = Turns()
        self.memory.where = self.place = Place(name, host, self.tables, self.turns, self.stats, self.host_events)
        self.clock = self.place.clock = VmClock(wall, self.tables, self.place, self.turns, self.deadline_changed)
        if wall:
            self.tables.wall_base = self.clock.base_ns
        self.inbox = Inbox(self.clock, self.turns, self.look)
        """Where what comes from outside enters the machine."""
        outside.connect(self)
        self.ports = AddressSpace("I/O ports", 1 << 16)
        self.mmio = AddressSpace("guest-physical addresses", 1 << 40)
        self.ports.timed_changed = self._show_timed
        self.mmio.timed_changed = lambda: self.ports.follow(self._show_timed)
        self.devices: dict[str, Device] = {}
        self.symbols = SymbolTable()
        self.traps = TrapRegistry(self.symbols, self.memory, self.check_open)
        self.plugins = PluginSet()
        around = Surroundings(self.memory, self.clock, self.place, self.turns, self.tell)
        self.vcpus = [self._make_vcpu(number, around) for number in range(cpus)]
        self.turns.seat(self.vcpus)
        self.tables.seat([vcpu.words for vcpu in self.vcpus], self.turns)
        if not spare:  # else all that a reset sets is put back
            for vcpu in self.vcpus:
                vcpu.reset()

    def _make_vcpu(self, number: int, around: Surroundings) -> Processor:
        return Processor(number, self.host.pcpus[0].new_vcpu(number), around)

    def _init_run(self) -> None:
        """What runs change, and what they are told."""
        self.runner: Run | None = None
        self.debugger: Debugger | None = None
        self.pace: Pace | None = None
        """What says how far it may run, if others' time depends on it."""
        self.reboot = False
        """Whether a run goes on after a reset."""
        self.reload: Callable[[], None] | None = None
        """Brings the guest to its first instruction again, after a reset of the devices and vCPUs."""
        self.on_reset: list[Callable[[], None]] = []
        """Called behind that."""
        self.on_restore: list[Callable[[], None]] = []
        """Called behind what puts a state back: what follows from it and lies elsewhere."""
        self.on_close: list[Callable[[], None]] = []
        """Called when the VM is closed: files of the host are given back."""
        self.watchers: list[Callable[[], None]] = []
        """Called on the VM's thread whenever Python looks in between two blocks. What they do to the guest is no part
        of a recording; `inbox` is for that."""
        self.input_open = False
        """Whether input may come at any time, so that a guest that waits is not idle."""
        self.result: RunResult | None = None
        """Of the last run."""
        self.stats: Counter[str] = Counter()
        """Exits by kind."""
        self.host_events: Counter[str] = Counter()
        """What the host caused: TLB fills and the like."""
        self.unclaimed: Counter[str] = Counter()
        """Accesses that nothing answered."""
        self.notes: list[str] = []
        """Sentences about what the guest asked for and did not get, each once."""
        self.listeners: list[Callable[[str, str, Processor], None]] = []
        """Logs, told of what no trap shows: called with a category, a text and the vCPU."""
        self.has_run = False
        self.reset_pending = False
        """Whether the VM is reset as soon as the guest, or the run, lets go of it."""
        self.closed = False
        self._abandoned = ""
        self._claimant: object | None = None
        """Who runs the VM, or does what is done between runs."""
        self._resetting = threading.Lock()
        """Held where the VM is reset between runs, and where a claim begins."""

    @abstractmethod
    def run(self, until: Until = None, timeout: float | None = None, virtual_timeout: float | None = None) -> RunResult:
        """See `hypervisor.VM.run`."""

    # --- parts --------------------------------------------------------------------------------------------------------

    @property
    def cpus(self) -> int:
        """How many virtual CPUs there are."""
        return len(self.vcpus)

    @property
    def vcpu(self) -> Processor:
        """The first virtual CPU, which boots."""
        return self.vcpus[0]

    @property
    def current(self) -> Processor:
        """The vCPU that runs, and whose instruction handlers and devices are serving; the last one between runs."""
        return self.turns.current

    @property
    def breakpoints(self) -> Breakpoints:
        """The guest's breakpoints that the engine looks for at the moment."""
        return self.vcpus[0].breakpoints

    def check_open(self) -> None:
        """Raises `ConfigError` when the VM has been closed."""
        if self.closed:
            raise ConfigError(self._abandoned or f"The VM {self.name} is closed; boot another one.")

    @property
    def dma(self) -> Dma:
        """Guest-physical memory as devices see it: stores to what is no memory go nowhere."""
        return self.memory.dma

    def placed(self) -> AbstractContextManager[PCpu]:
        """A pCPU with this VM on it during a ``with`` block: the one that runs it, else any for a moment."""
        return self.place.held()

    def running(self, on: bool) -> None:
        """Note that a run has begun, or goes on, or that it has ended, or stands still."""
        self.traps.used_by(self.runner if on else None)
        self.in_thread(NOBODY if on else 0)

    def in_thread(self, thread: int) -> None:
        """Note which thread executes the run, by its number, or `NOBODY`; 0 between runs."""
        for vcpu in self.vcpus:
            vcpu.thread = thread

    # --- one at a time ------------------------------------------------------------------------------------------------

    def claim(self, who: object) -> None:
        """Nobody else runs the VM, or does what is done between runs, until `release`. Raises `ConfigError`."""
        self.check_open()
        with self._resetting:
            if self._claimant is None:
                self._claimant = who
        if self._claimant is not who:
            self.check_open()
            raise ConfigError(
                f"The VM {self.name} is running already: one run at a time, and a handler answers with a verdict "
                "instead of running it."
            )

    def abandon(self, why: str) -> None:
        """The machine is another process's, as this sentence says, and no longer here."""
        self.closed = self.place.closed = True
        self.runner = None
        self._abandoned = why

    def claimed_by(self, who: object) -> bool:
        """Whether it is the one."""
        return self._claimant is who

    def release(self, who: object) -> None:
        """Undo `claim`, if ``who`` has it."""
        if self._claimant is who:
            self.runner = None
            self._claimant = None
            self._reset_if_pending()

    # --- what shows where ---------------------------------------------------------------------------------------------

    def check_mappable(self, gpa: int, size: int, name: str) -> None:
        """Raise `ConfigError` where memory cannot be shown."""
        visible = self.memory.pages.pages * PAGE_SIZE
        if not 0 <= gpa < gpa + size <= visible:
            raise ConfigError(
                f"{name}: {gpa:#x}-{gpa + size - 1:#x} lies beyond the {visible // GIB} GiB of "
                "guest-physical addresses that can be memory."
            )

    def set_a20(self, on: bool) -> None:
        """Let address line 20 through (on) or hold it low."""
        value = -1 if on else ~(1 << 20)
        if value != self.tables.a20:
            self.tables.a20 = value
            pcpu = self.place.pcpu
            if pcpu is not None:
                pcpu.report.a20 = value
                pcpu.memory.flush()

    def _show_timed(self) -> None:
        """Let the engine serve the registers that only time changes where they are now."""
        self.tables.set_timed(self.ports.timed(), self.mmio.timed())

    def serve_apics_at(self, page: int) -> None:
        """Let the engine serve the vCPUs' local APICs at this guest-physical page; -1: nowhere."""
        self.tables.apic_base = page
        pcpu = self.place.pcpu
        if pcpu is not None:
            pcpu.report.apic_base = page

    # --- what devices and handlers call -------------------------------------------------------------------------------

    def _finish(self, reason: Reason, message: str, status: int | None = None) -> None:
        if self.runner is not None:
            self.runner.finish(reason, message, status)

    def power_off(self) -> None:
        """The guest switched the machine off."""
        self._finish(Reason.POWERED_OFF, "the guest powered off")

    def request_reset(self) -> None:
        """The guest asked for a reset."""
        if self.reboot and self.runner is not None:
            self.reset()
            return
        self._finish(Reason.RESET, "the guest asked for a reset")

    def debug_exit(self, status: int) -> None:
        """The guest wrote to the debug-exit port."""
        self._finish(Reason.DEBUG_EXIT, f"the guest left through the debug-exit port with status {status}", status)

    def note_unclaimed(self, what: str, size: int) -> None:
        """The guest asked for something that nothing answers: count and log it; a strict VM stops."""
        unclaimed = self.unclaimed
        key = what if what in unclaimed or len(unclaimed) < MAX_UNCLAIMED else "others"
        unclaimed[key] += 1
        self.host_events["unclaimed"] += 1
        if _log.isEnabledFor(logging.DEBUG):  # it costs as much as the rest
            _log.debug("%s: %s (%d bytes): nothing answers there", self.name, what, size)
        if self.strict:
            self._finish(Reason.STOPPED, f"{what} ({size} bytes): nothing answers there, and --strict was given")

    def tell(self, category: str, text: str, vcpu: Processor | None = None) -> None:
        """Tell the logs, if there are any, of an event that no trap shows."""
        for listener in self.listeners:
            listener(category, text, vcpu or self.current)

    def events(self, count: int = MAX_EVENTS) -> list[history.Event]:
        """The last exits, exceptions and interrupts (up to 1,024), oldest first; see `hypervisor.traps.history`."""
        return history.last_events(self.place.events(), count)

    # --- what other threads ask for -----------------------------------------------------------------------------------

    @property
    def inside(self) -> bool:
        """Whether this thread executes the machine's run: a handler, a device, a condition of the run."""
        runner = self.runner
        return runner is not None and runner.here and not runner.attended

    def nmi(self, number: int = 0) -> None:
        """Pulse a vCPU's NMI line; see `Processor.nmi`. Between runs, and from any other thread, it is a message
        (`inbox`), and the line is pulsed when the machine has come to its time.
        """
        if not 0 <= number < self.cpus:
            raise ConfigError(f"nmi({number}): the VM {self.name} has vCPUs 0 to {self.cpus - 1}.")
        if self.inside:
            self.vcpus[number].nmi()
        else:
            self.inbox.put(outside.NMI_PIN, bytes((number,)))

    def request_stop(self, text: str = "stopped by the host", urgent: bool = False) -> None:
        """End the run soon, with reason ``stopped``. A handler that does not return is waited for, unless this is
        ``urgent``: then an exception ends it, if one reaches it. May be called from any thread.
        """
        runner = self.runner
        if runner is None:
            return
        if urgent:
            runner.end_now(text)
        else:
            runner.finish_from_outside(Reason.STOPPED, text)

    def request_pause(self) -> None:
        """Let the debugger attend soon, if there is one and the VM runs. May be called from any thread."""
        runner = self.runner
        if runner is not None and self.debugger is not None:
            runner.pause_soon()

    def look(self) -> None:
        """Have the run look at its inputs soon. May be called from any thread."""
        runner = self.runner
        if runner is not None:
            runner.look()

    @property
    def busy_in(self) -> str:
        """Whose code holds up the guest at this moment, as a sentence needs it (``"handler 'log' of plugin 'Audit'"``);
        empty while the guest itself runs, and between runs. May be asked from any thread.
        """
        runner = self.runner
        return "" if runner is None else runner.busy_in()

    # --- time ---------------------------------------------------------------------------------------------------------

    def spend(self, ns: int) -> None:
        """Let the instruction that a handler serves take ``ns`` of virtual time more.

        For services that take the host longer than an instruction's usual time, so that a guest that calls them in a
        loop cannot hold up a virtual timeout. Timers that are due meanwhile fire behind it. Under the wall clock
        services take the time that they take.
        """
        pcpu = self.place.pcpu
        if pcpu is not None and not self.clock.wall:
            pcpu.report.now += ns

    def deadline_changed(self) -> None:
        """A timer was set: the engine may have to stop earlier."""
        pcpu = self.place.pcpu
        if pcpu is None:
            return
        if self.clock.wall:
            self.clock.due_changed(pcpu)
            pcpu.report.deadline = 0  # the engine looks for it
            if self.runner is not None:
                self.runner.alarm_changed()
            return
        earliest = self.clock.timers.next_ns()
        if earliest is not None:
            self.turns.end_at(pcpu, earliest)

    # --- reset --------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Reset every device and vCPU, as the reset line does; memory keeps its contents. The run goes on.

        While the VM runs, in a handler or from another thread, this only asks for it: what the guest is doing is
        finished (the instruction, its handlers and their verdicts), and the reset comes before its next block, or when
        the run ends, if that comes first. From another thread it is a message (`inbox`), so it comes when all vCPUs
        have come to the same time. Asking again until then changes nothing.
        """
        runner = self.runner
        if runner is not None and runner.attended:
            self._reset_by_hand()
            return
        if runner is not None and runner.here:
            self.reset_pending = True
            runner.look()
        else:
            self.inbox.put(outside.RESET, b"")
        self._reset_if_pending()

    def _reset_by_hand(self) -> None:
        with self.placed():
            self.inbox.note(outside.RESET, b"")
            with self.inbox.unheard():
                self.reset_now()

    def _reset_if_pending(self) -> None:
        """Reset the VM if that was asked for, unless a run that has begun, or another thread, does."""
        while (
            self._claimant is None
            and (self.reset_pending or self.inbox.waiting(outside.RESET))
            and self._resetting.acquire(blocking=False)
        ):
            try:
                if self._claimant is None:
                    if self.inbox.take_back(outside.RESET) and not self.reset_pending:
                        self._reset_by_hand()
                    else:
                        with self.inbox.unheard():
                            self.reset_now()
            finally:
                self._resetting.release()

    def reset_now(self) -> None:
        """Carry out a reset between two blocks, for `reset`."""
        self.reset_pending = False
        for device in dict.fromkeys(self.devices.values()):
            device.reset()
        self.set_a20(True)
        self.tell("reset", "reset")
        with self.placed() as pcpu:
            for vcpu in self.vcpus:
                vcpu.reset()
            self.turns.reset(pcpu)
            if self.reload is not None:
                self.reload()
        for action in self.on_reset:
            action()
        self.plugins.reset()


__all__ = ["Machine", "Run"]
