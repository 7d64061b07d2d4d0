"""A VM as users hold it: making it, giving it devices, running it, ending it.

What it is made of is in `hypervisor.run.machine`, how it runs in `hypervisor.run.runner`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from hypervisor.bus import Device, Line
from hypervisor.console import expecting
from hypervisor.console.expecting import EXPECT_S, Match
from hypervisor.errors import ConfigError, DeviceError
from hypervisor.units import PAGE_SIZE, page_up
from hypervisor.vcpu.processor import Surroundings
from hypervisor.vm.config import DEFAULT, MachineConfig
from hypervisor.vm.device_memory import MemoryBlock, hole
from hypervisor.vm.furnished import Furnished
from hypervisor.vm.running import Runs
from hypervisor.vm.vcpu import Vcpu
from hypervisor.vm.watching.coverage import Coverage

if TYPE_CHECKING:
    from hypervisor.run.host import CoreHost
    from hypervisor.run.pausing import DebugServer
    from hypervisor.vm.figures import VmFigures
    from hypervisor.vm.machine_state import MachineState
    from hypervisor.vm.saved.save_progress import Progress
    from hypervisor.vm.snapshot import Snapshot
    from hypervisor.vm.watching.log import Destination, Log

D = TypeVar("D", bound=Device)


class VM(Runs, Furnished):
    """A virtual machine. Create one with `hypervisor.boot` or ``Host.create_vm``."""

    debugger_for: ClassVar[Callable[[VM, int, bool], DebugServer]]
    """Makes the gdb server, which lives above: called with the VM, a port, and whether the guest waits."""

    vcpus: list[Vcpu]

    def __init__(
        self,
        host: CoreHost,
        config: MachineConfig = DEFAULT,
        name: str | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        """The parts that every machine of this configuration has, without its board and its guest; see `build`.

        ``name`` is what messages call it, by default what the configuration says; ``snapshot`` is what it goes on from,
        if it does. Raises `ConfigError` when the host has not enough memory left.
        """
        self.began = time.monotonic()
        """When its creation began, which loading an image is part of: of the host's monotonic clock, in seconds."""
        try:
            super().__init__(
                host,
                config.size,
                wall=config.clock == "wall",
                seed=config.seed,
                name=name or config.name or "vm",
                strict=config.strict,
                cpus=config.cpus,
                spare=snapshot is not None,
            )
            self.shares_frames = config.sharing
            """Whether its frames may become those of other VMs that hold the same (`hypervisor.run.frame_sharing`)."""
            self.config = config
            """What it was made from."""
            self.family: object = object() if snapshot is None else snapshot.family
            """What it has in common with its snapshots, and all that go on from them."""
            self.goes_on = snapshot is not None
            """Whether it becomes a machine that has been running, so that nothing need be put into its memory."""
            self.made_of: object = None
            """What was read of the host's files when it was built, of the room above."""
            self.coverage = Coverage(self.tables, self.vcpus, self.symbols, self._standing_still)
            """Which of its blocks the guest executes."""
            self._init_board()
            self.settle()
            host.vms.append(self)
        except BaseException:
            if self in host.vms:
                host.vms.remove(self)
            host.memory.release_all(self)
            raise

    def _make_vcpu(self, number: int, around: Surroundings) -> Vcpu:
        return Vcpu(self, number, self.host.pcpus[0].new_vcpu(number), around)

    # --- parts --------------------------------------------------------------------------------------------------------

    @property
    def vcpu(self) -> Vcpu:
        """The first virtual CPU, which boots."""
        return self.vcpus[0]

    @property
    def current(self) -> Vcpu:
        """The vCPU that runs, and whose instruction handlers and devices are serving; the last one between runs."""
        return cast(Vcpu, self.turns.current)

    def attach(
        self,
        device: D | Callable[..., D],
        ports: range | None = None,
        mmio: range | None = None,
        irq: int | None = None,
        replace: bool = False,
        base: int | None = None,
    ) -> D:
        """Give the VM a device, before its first run: an instance, or a class or function called with what it asks for.

        ``ports`` and ``mmio`` are half-open ranges where it answers; ``irq`` connects its ``line`` to that input of the
        interrupt controller. A factory's parameters named ``line``, ``clock``, ``memory`` and ``vm`` are filled in.
        Overlap with another device is a `DeviceError` unless ``replace`` is given. Returns the device.
        """
        from hypervisor.vm.attach import build

        self.check_open()
        if self.has_run:
            raise DeviceError("Devices are attached before the VM's first run.")
        line = None if irq is None else self.irq_line(irq)
        made = cast(D, build(self, device, line))
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

    def irq_line(self, number: int) -> Line:
        """The board's interrupt line of this number."""
        if self.irq_lines is None:
            raise DeviceError(f"irq={number}: this VM's board has no interrupt controller.")
        try:
            return self.irq_lines(number)
        except (ValueError, IndexError, KeyError) as error:
            raise DeviceError(f"irq={number!r}: the board has no such interrupt line ({error}).") from error

    def add_memory(self, gpa: int | None, size: int, name: str = "memory", writable: bool = True) -> MemoryBlock:
        """Zeroed memory that is not RAM (a frame buffer, a ROM), shown at ``gpa`` over RAM, and over what was added
        before.

        With ``gpa=None`` it shows nowhere until it is mapped. Raises `ConfigError`.
        """
        self.check_open()
        block = MemoryBlock(self, page_up(size), name, writable)
        self.blocks.append(block)
        if gpa is not None:
            block.map(gpa)
        return block

    def hide_memory(self, where: range) -> None:
        """Let accesses to whole pages go to the devices there, or to nothing, instead of RAM."""
        self.memory.cover(hole(where))

    def show_memory(self, where: range) -> None:
        """Undo `hide_memory` of the same range."""
        self.memory.uncover(hole(where))

    # --- looking at it --------

    def gdb(self, port: int = 0, wait: bool = False) -> DebugServer:
        """Let gdb debug the guest: ``target remote :PORT``, from this machine only, whenever the VM runs.

        ``port`` 0 is any free one; ``wait`` holds the next run until a gdb has come and lets it go on. Returns the
        server, whose ``port`` says where it listens; ``close`` it, or the VM. Raises `ConfigError` if there is one
        already or the port cannot be had.
        """
        claimant = object()
        self.claim(claimant)
        try:
            if self.debugger is not None:
                raise ConfigError(f"The VM {self.name} has a debugger already; close it first.")
            self.debugger = server = type(self).debugger_for(self, port, wait)
        finally:
            self.release(claimant)
        return server

    def log(self, *what: str, to: Destination = None) -> Log:
        """Write a line for each event from now on: virtual time, what it was with its value, RIP and symbol.

        ``what`` names categories (``"int"``, ``"exits"``, ``"faults"``, ``"io"``, ``"bios"``, ``"reset"``; several may
        be joined by commas), all if none is named. ``to`` is a path, a function that takes a line, or None for stderr.
        Returns the log, whose ``close`` ends it. Between runs only. Raises `ConfigError`.
        """
        from hypervisor.vm.watching.log import Log

        self.check_open()
        return Log(self, what, to)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "running" if self.runner is not None else "not run yet"
        if state == "not run yet" and self.result is not None:
            state = self.result.reason.value
        cpus = f"{self.cpus} vCPU{'s' if self.cpus > 1 else ''}"
        return f"<VM {self.name}: {self.memory.size >> 20} MiB, {cpus}, {state}, {self.now:.6f} s of virtual time>"

    @property
    def now(self) -> float:
        """The VM's virtual time since its power-on, in seconds; ``vm.clock.now_ns`` is the same in nanoseconds."""
        return self.clock.now_ns / 1e9

    @property
    def host_memory_bytes(self) -> int:
        """Host memory that the VM's RAM takes now, in bytes: pages that were stored to."""
        return self.memory.resident_bytes

    def figures(self) -> VmFigures:
        """Where it stands: its time, processors, memory, exits, I/O. From any thread, while it runs, too."""
        from hypervisor.vm.figures import figures_of

        self.check_open()
        return figures_of(self)

    # --- running ------------------------------------------------------------------------------------------------------

    def expect(
        self, regex: str | re.Pattern[str], timeout: float | None = EXPECT_S, virtual_timeout: float | None = None
    ) -> Match:
        """Run until text that matches ``regex`` comes on any stream or on the screen; see ``vm.serial[0].expect``."""
        wait = expecting.any_source(self.searched, expecting.compiled(regex))
        return expecting.expect(self, self.searched, wait, timeout, virtual_timeout)

    # --- state --------------------------------------------------------------------------------------------------------

    def state(self) -> MachineState:
        """All that the machine is at this moment, as a value: put into a machine that was made from the same
        configuration, here or in another process, it goes on in the same way.

        Between runs, or while a run is paused. Raises `ConfigError` while it runs, and `PluginError` for a plugin that
        does not say what it remembers.
        """
        from hypervisor.vm.machine_state import taken

        with self._standing_still(), self.place.standing():
            return taken(self)

    def restore(self, state: MachineState | bytes) -> None:
        """Become the machine whose state this is; as bytes (`MachineState.to_bytes`) it may come from anywhere.

        Between runs, or while a run is paused, which then goes on from there, and to the end that it was begun for:
        its limit is the same virtual time, and it waits for the same text, which is looked for anew. Nobody hears of
        it: no interrupt, no output. What waits to be told to the machine (typed keys, bytes sent) is that of the state,
        too. Raises `ConfigError` or `DeviceError` for a state of another machine or of none; the machine is then what
        it was.
        """
        from hypervisor.vm.machine_state import MachineState, put_back, taken

        self._check_may_go_back()
        with self._standing_still(), self.place.standing():
            before = None
            if isinstance(state, bytes):
                state, before = MachineState.of_bytes(state, self), taken(self)
            try:
                put_back(self, state)
            except BaseException:
                if before is not None:
                    put_back(self, before)
                raise
            self._went_back()

    def snapshot(self) -> Snapshot:
        """The machine at this moment, as a value on the same host, which takes no copy of its memory.

        Between runs, or while a run is paused. Raises `ConfigError` while it runs, when the host has not enough memory
        left, and for a disk whose file the guest writes; and `PluginError` for a plugin that does not say what it
        remembers.
        """
        from hypervisor.vm.snapshot import Snapshot

        with self._standing_still(), self.place.standing():
            return Snapshot(self)

    def fork(self, name: str | None = None, prepare: Callable[[VM], object] | None = None) -> VM:
        """A second machine on the same host that is this one, bit for bit; see `Snapshot.fork`."""
        with self.snapshot() as snapshot:
            return snapshot.fork(name, prepare)

    def revert(self, snapshot: Snapshot) -> int:
        """Become the machine of a snapshot of this one, or of one of its family, by what has changed since; says how
        many pages of memory had. Nobody hears of it, as of `restore`.

        Between runs, or while a run is paused, as `restore`. Raises `ConfigError` for the snapshot of another machine,
        or one that is closed.
        """
        from hypervisor.vm.snapshot import put

        self._check_may_go_back()
        with self._standing_still(), self.place.standing():
            snapshot.check_open()
            if snapshot.family is not self.family:
                raise ConfigError(
                    f"{snapshot!r} is of another machine than {self.name}, which goes back only to what it or one of "
                    "its family was: take a snapshot of this one, or fork that."
                )
            changed = put(self, snapshot, by_changes=True)
            self._went_back()
            return changed

    def _check_may_go_back(self) -> None:
        if self.pace is not None:
            self.pace.check_may_go_back()

    def _went_back(self) -> None:
        self.has_run = True
        if self.runner is not None:
            self.runner.went_back()

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        compress: bool = True,
        embed: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Write the machine into a file, from which `hypervisor.boot` makes one that goes on here.

        Files that it was made from are named in it, with what tells them from others; ``embed`` puts them into it.
        ``progress`` is called with the bytes of memory that it has gone through, and of how many, each 4 MiB.
        Between runs, or while a run is paused. Raises `ConfigError` where it cannot be written, and what `state`
        raises.
        """
        from hypervisor.vm.machine_state import taken
        from hypervisor.vm.saved.saving import Moment, save

        with self._standing_still(), self.place.standing():
            handlers = [handler.name for handler in self.traps.by_hand()]
            moment = Moment(self.config, taken(self).parts, self.clock.now_ns, handlers)
            save(path, {"": moment}, compress=compress, embed=embed, progress=progress)

    def close(self) -> None:
        """End a run in the background, detach plugins and give memory back. Closing twice is harmless. Raises
        `ConfigError` while somebody else runs the VM, `TrapError` if a handler does not let it go (see `stop`).
        """
        if self not in self.host.vms:
            return
        if not self.closed:
            run = self._last_run
            if run is not None and run.in_background and not (run.over or run.here):
                self.stop("the VM is closed")
            with self._resetting:
                if self._claimant is None:
                    self._claimant = self  # it is never given back
            self.closed = self._claimant is self
            if not self.closed:
                raise ConfigError(f"The VM {self.name} is running; end its run before closing it.")
        self.place.closed = True
        self.host.queue.wake(self.place)
        if self.debugger is not None:
            self.debugger.close()
        try:
            self.plugins.detach()
        finally:
            self.place.give_up()
            self.blocks.clear()
            while self.on_close:
                self.on_close.pop(0)()
            self.memory.close()
            self.host.memory.release_all(self)
            self.host.vms.remove(self)
            self.host.sharing.forget_unused()
            if self.owns_host:
                self.host.close_if_empty()

    def __enter__(self) -> VM:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
