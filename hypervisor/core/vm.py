"""A VM: a guest and its resources. How it runs is in `hypervisor.core.runner`.

The file is long because this is the object that users hold: each thing that can be asked of a machine has its name
here, most of them a few lines that lead to the module that does it.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from hypervisor.arch.address_map import ram_ranges
from hypervisor.bus import AddressSpace, Device, Dma, Line
from hypervisor.core import breakpoints, expecting, history
from hypervisor.core.attributes import Settled
from hypervisor.core.clock import VmClock
from hypervisor.core.crash import Crash
from hypervisor.core.device_memory import MemoryBlock, hole
from hypervisor.core.expecting import EXPECT_S, Match, Source
from hypervisor.core.own_thread import away_from_signals
from hypervisor.core.placing import Place
from hypervisor.core.plugins import PluginSet
from hypervisor.core.result import Reason, RunResult
from hypervisor.core.streams import SerialPorts
from hypervisor.core.symbols import SymbolTable
from hypervisor.core.traps import TrapRegistry
from hypervisor.core.turns import Turns
from hypervisor.core.vcpu import Vcpu
from hypervisor.engine import block as b
from hypervisor.engine.tables import GuestTables
from hypervisor.errors import ConfigError, DeviceError
from hypervisor.memory import GuestMemory, Region
from hypervisor.units import GIB, PAGE_SIZE, Hpa, by_pages, page_up, parse_size

if TYPE_CHECKING:
    from hypervisor.core.host import CoreHost
    from hypervisor.core.log import Log
    from hypervisor.core.pausing import Debugger
    from hypervisor.core.runner import Runner
    from hypervisor.engine.pcpu import PCpu

T = TypeVar("T")

MAX_MEMORY = 64 * GIB
MAX_CPUS = 8
MAX_UNCLAIMED = 4096
"""Different accesses without an answer that are counted one by one."""

_log = logging.getLogger("hypervisor.unclaimed")


def _ram(host: CoreHost, size: int, owner: VM) -> GuestMemory:
    """RAM from 0 up; what does not fit below the PCI hole begins at 4 GiB."""
    extent = host.memory.allocate(size, owner)
    regions, hpa = [], extent.hpa
    for start, length in ram_ranges(size):
        regions.append(Region(start, length, hpa))
        hpa = Hpa(hpa + length)
    return GuestMemory(host.memory, extent, regions)


def _no_cpuid(vcpu: Vcpu, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    return 0, 0, 0, 0


class VM(Settled):
    """A virtual machine. Create one with `hypervisor.boot` or ``Host.create_vm``."""

    reporter: Callable[[VM, str, Any, Any], Crash] | None = None
    """Makes the crash report: called with the VM, the message, the chain of faults and the last events."""

    adviser: Callable[[VM], str] = staticmethod(lambda vm: "")
    """Names a likely mistake of a guest that only waits: called with the VM at the end of such a run."""

    debugger_for: Callable[[VM, int, bool], Any]
    """Makes the gdb server, which lives above the core: called with the VM, a port, and whether the guest waits."""

    instruction_at: Callable[[Vcpu, int], bytes] = staticmethod(lambda vcpu, address: b"")
    """Reads one instruction at a linear address: the disassembler, which lives above the core."""

    def __init__(
        self,
        host: CoreHost,
        memory: str | int = "64M",
        clock: str = "virtual",
        seed: int = 0,
        name: str = "vm",
        strict: bool = False,
        cpus: int = 1,
    ) -> None:
        """See ``Host.create_vm``. Raises `ConfigError` when the host has not enough memory left or an option is
        unknown.
        """
        if clock not in ("virtual", "wall"):
            raise ConfigError(f"clock={clock!r}: choose 'virtual' or 'wall'.")
        if not isinstance(seed, int):
            raise ConfigError(f"seed={seed!r}: a whole number is needed.")
        if not isinstance(cpus, int) or isinstance(cpus, bool) or not 1 <= cpus <= MAX_CPUS:
            raise ConfigError(f"cpus={cpus!r}: a VM has 1 to {MAX_CPUS} virtual CPUs.")
        size = page_up(parse_size(memory))
        if size > MAX_MEMORY:
            raise ConfigError(f"{memory}: a VM has at most {MAX_MEMORY // GIB} GiB of memory.")
        self.began = time.monotonic()
        """When its creation began, which loading an image is part of: of the host's monotonic clock, in seconds."""
        self.host = host
        self.name = name
        self.strict = strict
        self.seed = seed
        self.random = random.Random(seed)
        try:
            self._init_parts(size, clock == "wall", cpus)
        except BaseException:
            if self in host.vms:
                host.vms.remove(self)
            host.memory.release_all(self)
            raise

    def _init_parts(self, size: int, wall: bool, cpus: int) -> None:
        """What takes something of the host's; in the end the VM belongs to it, and is to be closed."""
        self.memory = _ram(self.host, size, self)
        self.memory.written = self._memory_written
        self.blocks: list[MemoryBlock] = []
        """Memory beside RAM, which is closed with the VM."""
        self.tables = GuestTables(max(self.memory.ram_ranges[-1][1], 4 * GIB) // PAGE_SIZE, self.name)
        for region in self.memory.regions:
            self.tables.map_range(*region)
        self.clock = VmClock(self, wall)
        if self.clock.wall:
            self.tables.wall_base = self.clock.base_ns
        self.ports = AddressSpace("I/O ports", 1 << 16)
        self.mmio = AddressSpace("guest-physical addresses", 1 << 40)
        self.devices: dict[str, Device] = {}
        self.symbols = SymbolTable()
        self.traps = TrapRegistry(self)
        self.breakpoints = breakpoints.NONE
        self.plugins = PluginSet()
        self._init_board()
        self._init_run()
        self.place = Place(self)
        self.vcpus = [Vcpu(self, number, self.host.pcpus[0].new_vcpu(number)) for number in range(cpus)]
        self.turns = Turns(self.vcpus)
        for vcpu in self.vcpus:
            vcpu.reset()
        self.settle()
        self.host.vms.append(self)

    def _init_board(self) -> None:
        """What a board fills in."""
        self.irq_lines: Callable[[int], Line] | None = None
        self.console: Any = None
        self.serial = SerialPorts()
        self.debugcon: Any = None
        self.bios_tty: Any = None
        self.keyboard: Any = None
        self.mouse: Any = None
        self.speaker: Any = None
        self.screen: Any = None
        self.searched: list[Source] = []
        """Where ``until="text"`` and `expect` look: the streams and screens of the board."""
        self.media: Any = None
        """What is in the machine's drives; the board's disk controllers are built around it."""
        self.firmware: Any = None
        self.builtin_cpuid: Callable[[Vcpu, int, int], tuple[int, int, int, int]] = _no_cpuid
        """What CPUID answers unless a handler says otherwise: (EAX, EBX, ECX, EDX) of a leaf and subleaf."""
        self.reload: Callable[[], None] | None = None
        """Brings the guest to its first instruction again, after a reset of the devices and vCPUs."""
        self.on_reset: list[Callable[[], None]] = []
        """Called behind that."""
        self.on_close: list[Callable[[], None]] = []
        """Called when the VM is closed: files of the host are given back."""
        self.owns_host = False
        """Whether closing the VM closes its host."""

    def _init_run(self) -> None:
        """What runs change, and what they are told."""
        self.runner: Runner | None = None
        self.debugger: Debugger | None = None
        self.reboot = False
        """Whether a run goes on after a reset."""
        self.inputs: list[Callable[[], None]] = []
        """Called on the VM's thread whenever Python looks in: where what came from outside enters the guest."""
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
        self.listeners: list[Callable[[str, str, Vcpu], None]] = []
        """Logs, told of what no trap shows: called with a category, a text and the vCPU."""
        self.has_run = False
        self.reset_pending = False
        """Whether the VM is reset as soon as the guest, or the run, lets go of it."""
        self.closed = False
        self._claim = threading.Lock()
        self._resetting = threading.Lock()
        """Held where the VM is reset between runs, and where a claim begins."""

    # --- parts --------------------------------------------------------------------------------------------------------

    @property
    def vcpu(self) -> Vcpu:
        """The first virtual CPU, which boots."""
        return self.vcpus[0]

    @property
    def cpus(self) -> int:
        """How many virtual CPUs there are."""
        return len(self.vcpus)

    @property
    def current(self) -> Vcpu:
        """The vCPU that runs, and whose instruction handlers and devices are serving; the last one between runs."""
        return self.turns.current

    def check_open(self) -> None:
        """Raises `ConfigError` when the VM has been closed."""
        if self.closed:
            raise ConfigError(f"The VM {self.name} is closed; boot another one.")

    def attach(
        self,
        device: Any,
        ports: range | None = None,
        mmio: range | None = None,
        irq: int | None = None,
        replace: bool = False,
        base: int | None = None,
    ) -> Any:
        """Give the VM a device, before its first run: an instance, or a class or function called with what it asks for.

        ``ports`` and ``mmio`` are half-open ranges where it answers; ``irq`` connects its ``line`` to that input of the
        interrupt controller. A factory's parameters named ``line``, ``clock``, ``memory`` and ``vm`` are filled in.
        Overlap with another device is a `DeviceError` unless ``replace`` is given. Returns the device.
        """
        from hypervisor.core.attach import build

        self.check_open()
        if self.has_run:
            raise DeviceError("Devices are attached before the VM's first run.")
        line = None if irq is None else self.irq_line(irq)
        made = build(self, device, line)
        if ports is None and mmio is None:
            raise DeviceError(f"{made.name}: say where it answers, with ports=range(...) or mmio=range(...).")
        if ports is not None:
            self.ports.attach(made, ports, replace=replace, base=base)
        if mmio is not None:
            self.mmio.attach(made, mmio, replace=replace, base=base)
            if self.memory.ram_within(mmio.start, len(mmio)):
                self.hide_memory(range(mmio.start & ~(PAGE_SIZE - 1), page_up(mmio.stop)))
        self.devices[made.name] = made
        return made

    @property
    def dma(self) -> Dma:
        """Guest-physical memory as devices see it: stores to what is no memory go nowhere."""
        return self.memory.dma

    # --- memory beside RAM --------------------------------------------------------------------------------------------

    def add_memory(self, gpa: int | None, size: int, name: str = "memory", writable: bool = True) -> MemoryBlock:
        """Zeroed memory that is not RAM (a frame buffer, a ROM), shown at ``gpa`` over what lies there.

        With ``gpa=None`` it shows nowhere until it is mapped. Raises `ConfigError`.
        """
        self.check_open()
        block = MemoryBlock(self, page_up(size), name, writable)
        self.blocks.append(block)
        if self.place.last is not None:  # these frames may have been a VM's that has run code in them there
            with self.placed() as pcpu:
                pcpu.forget_code()
        if gpa is not None:
            block.map(gpa)
        return block

    def hide_memory(self, where: range) -> None:
        """Let accesses to whole pages go to the devices there, or to nothing, instead of memory."""
        layer = hole(where)
        self.memory.cover(layer)
        self.memory_moved(layer.gpa, layer.size)

    def show_memory(self, where: range) -> None:
        """Undo `hide_memory` of the same range."""
        layer = hole(where)
        self.memory.uncover(layer)
        self.memory_moved(layer.gpa, layer.size)

    def check_mappable(self, gpa: int, size: int, name: str) -> None:
        """Raise `ConfigError` where memory cannot be shown."""
        if not 0 <= gpa < gpa + size <= self.tables.pages * PAGE_SIZE:
            raise ConfigError(
                f"{name}: {gpa:#x}-{gpa + size - 1:#x} lies beyond the {self.tables.pages * PAGE_SIZE // GIB} GiB of "
                "guest-physical addresses that can be memory."
            )

    def memory_moved(self, gpa: int, size: int) -> None:
        """Other memory shows in this range from now on: bring the engine's map up to date."""
        self._memory_written(gpa, size)
        self.tables.remap(gpa, size, self.memory.within(gpa, size))
        if self.place.last is not None:
            with self.placed() as pcpu:
                pcpu.flush()

    def irq_line(self, number: int) -> Line:
        """The board's interrupt line of this number."""
        if self.irq_lines is None:
            raise DeviceError(f"irq={number}: this VM's board has no interrupt controller.")
        try:
            return self.irq_lines(number)
        except (ValueError, IndexError, KeyError) as error:
            raise DeviceError(f"irq={number!r}: the board has no such interrupt line ({error}).") from error

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

    def request_stop(self, text: str = "stopped by the host") -> None:
        """End the run soon, with reason ``stopped``. May be called from any thread."""
        runner = self.runner
        if runner is not None:
            runner.finish_from_outside(Reason.STOPPED, text)

    @property
    def busy_in(self) -> str:
        """Whose code holds up the guest at this moment, as a sentence needs it (``"handler 'log' of plugin 'Audit'"``);
        empty while the guest itself runs, and between runs. May be asked from any thread.
        """
        runner = self.runner
        return "" if runner is None else runner.busy_in()

    def request_pause(self) -> None:
        """Let the debugger attend soon, if there is one and the VM runs. May be called from any thread."""
        runner = self.runner
        if runner is not None and self.debugger is not None:
            runner.pause_soon()

    def gdb(self, port: int = 0, wait: bool = False) -> Any:
        """Let gdb debug the guest: ``target remote :PORT``, from this machine only, whenever the VM runs.

        ``port`` 0 is any free one; ``wait`` holds the next run until a gdb has come and lets it go on. Returns the
        server, whose ``port`` says where it listens; ``close`` it, or the VM. Raises `ConfigError` if there is one
        already or the port cannot be had.
        """
        with self._claimed():
            if self.debugger is not None:
                raise ConfigError(f"The VM {self.name} has a debugger already; close it first.")
            self.debugger = type(self).debugger_for(self, port, wait)
        return self.debugger

    def look(self) -> None:
        """Have the run look at its inputs soon. May be called from any thread."""
        runner = self.runner
        if runner is not None:
            runner.look()

    def set_a20(self, on: bool) -> None:
        """Let address line 20 through (on) or hold it low."""
        value = -1 if on else ~(1 << 20)
        if value != self.tables.a20:
            self.tables.a20 = value
            pcpu = self.place.pcpu
            if pcpu is not None:
                pcpu.words[b.A20 >> 3] = value
                pcpu.flush()

    def nmi(self) -> None:
        """Pulse the first vCPU's NMI line; see `Vcpu.nmi`."""
        self.vcpus[0].nmi()

    # --- time ---------------------------------------------------------------------------------------------------------

    def spend(self, ns: int) -> None:
        """Let the instruction that a handler serves take ``ns`` of virtual time more.

        For services that take the host longer than an instruction's usual time, so that a guest that calls them in a
        loop cannot hold up a virtual timeout. Timers that are due meanwhile fire behind it. Under the wall clock
        services take the time that they take.
        """
        pcpu = self.place.pcpu
        if pcpu is not None and not self.clock.wall:
            pcpu.words[b.NOW >> 3] += ns

    def deadline_changed(self) -> None:
        """A timer was asked for: the engine may have to stop earlier."""
        pcpu = self.place.pcpu
        if pcpu is None:
            return
        if self.clock.wall:
            self.clock.due_changed(pcpu)
            if self.runner is not None:
                self.runner.alarm_changed()
            return
        earliest = self.clock.timers.next_ns()
        if earliest is not None:
            self.turns.end_at(pcpu, earliest)

    def placed(self) -> AbstractContextManager[PCpu]:
        """A pCPU with this VM on it during a ``with`` block: the one that runs it, else any for a moment."""
        return self.place.held()

    def _memory_written(self, gpa: int, size: int) -> None:
        if self.place.last is None:  # nothing has been translated yet
            return
        for start, length in by_pages(gpa, size):
            if start >> 12 < self.tables.pages and self.tables.map[start >> 12] & b.MAP_CODE:
                with self.placed() as pcpu:
                    pcpu.written(start, length)

    def log(self, *what: str, to: Any = None) -> Log:
        """Write a line for each event from now on: virtual time, what it was with its value, RIP and symbol.

        ``what`` names categories (``"int"``, ``"exits"``, ``"faults"``, ``"io"``, ``"bios"``, ``"reset"``; several may
        be joined by commas), all if none is named. ``to`` is a path, a function that takes a line, or None for stderr.
        Returns the log, whose ``close`` ends it. Between runs only. Raises `ConfigError`.
        """
        from hypervisor.core.log import Log

        self.check_open()
        return Log(self, what, to)

    def tell(self, category: str, text: str, vcpu: Vcpu | None = None) -> None:
        """Tell the logs, if there are any, of an event that no trap shows."""
        for listener in self.listeners:
            listener(category, text, vcpu or self.current)

    def events(self, count: int = history.MAX_EVENTS) -> list[history.Event]:
        """The last exits, exceptions and interrupts (up to 1,024), oldest first; see `hypervisor.core.history`."""
        return history.last_events(self, count)

    @property
    def host_memory_bytes(self) -> int:
        """Host memory that the VM's frames take now, in bytes."""
        from hypervisor.core.usage import resident_bytes

        extent = self.memory.extent
        return resident_bytes(self.host.memory.map, extent.hpa, extent.size)

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self, until: Any = None, timeout: float | None = None, virtual_timeout: float | None = None) -> RunResult:
        """Run until something ends it, and say what.

        ``until`` is a text (or compiled regular expression) on any stream or on the screen, a condition of one of them
        such as ``vm.serial[1].contains("text")``, `hypervisor.after` (seconds of virtual time) or a predicate without
        arguments, asked whenever the guest has exited. A text counts once: the next wait wants it anew. ``timeout`` is
        in host seconds from now on (an image has been loaded by then), ``virtual_timeout`` in guest seconds. Never
        raises for what a guest does.
        """
        from hypervisor.core.runner import Runner

        for what, seconds in (("timeout", timeout), ("virtual_timeout", virtual_timeout)):
            if seconds is not None and not (isinstance(seconds, (int, float)) and seconds > 0):
                raise ConfigError(f"{what}={seconds!r}: give a number of seconds greater than zero.")

        def run() -> RunResult:
            with self._claimed():
                self.runner = Runner(self, until, timeout, virtual_timeout)
                self.has_run = True
                self.result = self.runner.run()
            return self.result

        return self._away(run)

    def expect(
        self, regex: str | re.Pattern[str], timeout: float | None = EXPECT_S, virtual_timeout: float | None = None
    ) -> Match:
        """Run until text that matches ``regex`` comes on any stream or on the screen; see ``vm.serial[0].expect``."""
        wait = expecting.any_source(self, expecting.compiled(regex))
        return expecting.expect(self, self.searched, wait, timeout, virtual_timeout)

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """The block runs the VM, and nobody else does at the same time."""
        self.check_open()
        with self._resetting:
            claimed = self._claim.acquire(blocking=False)
        if not claimed:
            self.check_open()
            raise ConfigError(
                f"The VM {self.name} is running already: it runs in one thread at a time, and a handler answers with a "
                "verdict instead of running it."
            )
        try:
            yield
        finally:
            self.runner = None
            self._claim.release()
            self._reset_if_pending()

    def step(self, count: int, vcpu: Vcpu | None = None) -> int:
        """See `Vcpu.step`; the first vCPU unless another is given."""
        from hypervisor.core.runner import Runner

        if not isinstance(count, int) or count < 0:
            raise ConfigError(f"step({count!r}): give a number of instructions.")
        if self.runner is not None and self.runner.paused:
            return self.runner.step_paused(count, vcpu or self.vcpu)

        def step() -> int:
            with self._claimed():
                self.runner = Runner(self, None, None, None)
                self.has_run = True
                return self.runner.step(count, vcpu or self.vcpu)

        return self._away(step)

    def _away(self, function: Callable[[], T]) -> T:
        """What ``function``, a run, returns; see `hypervisor.core.own_thread`."""
        try:
            return away_from_signals(function, self._interrupted)
        except BaseException as error:
            if busy := self.busy_in:  # it was not waited for any longer
                error.add_note(f"{busy} of the VM {self.name} has not returned; it cannot be run or closed before.")
            raise

    def _interrupted(self, error: BaseException) -> None:
        """A signal's handler raised while the main thread waited for a run."""
        runner = self.runner
        if runner is not None:
            runner.finish_from_outside(Reason.STOPPED, f"{type(error).__name__} while the guest ran")

    def reset(self) -> None:
        """Reset every device and vCPU, as the reset line does; memory keeps its contents. The run goes on.

        While the VM runs, in a handler or from another thread, this only asks for it: what the guest is doing is
        finished (the instruction, its handlers and their verdicts), and the reset comes before its next block, or when
        the run ends, if that comes first. Asking again until then changes nothing.
        """
        runner = self.runner
        if runner is not None and runner.attended:
            self.reset_now()
            return
        self.reset_pending = True
        if runner is not None:
            runner.look()
        self._reset_if_pending()

    def _reset_if_pending(self) -> None:
        """Reset the VM if that was asked for, unless a run that has begun, or another thread, does."""
        while self.reset_pending and not self._claim.locked() and self._resetting.acquire(blocking=False):
            try:
                if not self._claim.locked():
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

    def close(self) -> None:
        """Detach plugins and give memory back. Closing twice is harmless."""
        if self not in self.host.vms:
            return
        if not self.closed:
            with self._resetting:
                self.closed = self._claim.acquire(blocking=False)  # it is never given back
            if not self.closed:
                raise ConfigError(f"The VM {self.name} is running; end its run before closing it.")
        self.host.queue.wake(self)
        if self.debugger is not None:
            self.debugger.close()
        try:
            self.plugins.detach()
        finally:
            self.place.give_up()
            while self.blocks:
                self.blocks.pop().close()
            while self.on_close:
                self.on_close.pop(0)()
            self.memory.close()
            self.host.memory.release_all(self)
            self.host.vms.remove(self)
            if self.owns_host:
                self.host.close()

    def __enter__(self) -> VM:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
