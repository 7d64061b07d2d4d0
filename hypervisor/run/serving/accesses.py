"""Ports, device memory and watched memory: what happens in the middle of an instruction.

The engine calls in place, with the instruction half done. A device or a handler answers and the instruction completes
natively; a verdict that does not let it complete makes the engine leave the guest before the instruction, and
`InPlace.finish` has its effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from hypervisor.arch.exits import ExitKind as K
from hypervisor.engine.tables import GPA_MASK
from hypervisor.run.serving import completion
from hypervisor.run.serving.completion import Effect
from hypervisor.run.serving.routing import Routing
from hypervisor.run.serving.strings import Strings
from hypervisor.run.serving.verdict_route import Route
from hypervisor.traps.dispatch import Dispatch
from hypervisor.vcpu import breakpoints
from hypervisor.vcpu.exit import Exit
from hypervisor.vcpu.widths import fitting

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.machine import Machine
    from hypervisor.vcpu.processor import Processor

_OUT_OPCODES = (0xE6, 0xE7, 0xEE, 0xEF)
_PORT_IN, _PORT_OUT, _MMIO_WRITE = int(K.PORT_IN), int(K.PORT_OUT), int(K.MMIO_WRITE)
_NAMES = {int(kind): kind.name.lower() for kind in (K.MMIO_READ, K.MMIO_WRITE)}
_READS = frozenset((K.PORT_IN, K.MMIO_READ))
_NOBODY = Dispatch()
_HALF_DONE = "a port or memory access is in the middle of its instruction"


class Stoppable(Protocol):
    """The run that an access may end (`hypervisor.run.ending.run_end.RunEnd`)."""

    @property
    def finished(self) -> bool:
        """Whether something has ended it."""
        ...

    def fail(self, error: BaseException) -> None:
        """A handler or a device raised."""
        ...


def _performed(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    """What `hv.PASS` does to an access: it is made, where it is."""
    return 0


def _answered(pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
    """What `hv.HANDLED` does to one: the exit's value is what was read; nothing is written to a device."""
    return 0


class InPlace:
    """The callback that the engine makes for one run."""

    def __init__(
        self, vm: Machine, run: Stoppable, route: Route, vcpu: Processor, follow: Callable[[PCpu], None]
    ) -> None:
        """``follow`` is called where the engine has given turns: another vCPU may be running."""
        self._run, self._route, self._follow = run, route, follow
        self._vm = vm
        self._place = vm.place
        self._records = [Exit(one) for one in vm.vcpus]
        self.select(vcpu)
        self._routing = Routing(vm)
        self._find, self._is_memory = vm.mmio.find, self._routing.is_memory
        self._dispatch = _NOBODY
        self.listen()
        self._after: Effect | None = None
        """What is to be done when the guest has been left."""
        self._asked: K | None = None
        self._stepping = False
        self._hits = 0
        self._wrote = (0, -1)
        """RIP and time of the last instruction that wrote where breakpoints are."""

    def listen(self) -> None:
        """Handlers may have come or gone."""
        dispatch = self._vm.traps.seal()
        if dispatch is self._dispatch:
            return
        self._dispatch = dispatch
        self._heard = {kind for kind, table in dispatch.tables.items() if table.heard}
        self._plain = not self._heard & {K.MMIO_READ, K.MMIO_WRITE, K.MEMORY}
        self._strings = Strings(self._vm, self._heard)

    def select(self, vcpu: Processor) -> None:
        """Another vCPU runs from now on."""
        self._vcpu = vcpu
        self._exit = self._records[vcpu.number]

    def __call__(self, kind: int) -> int:
        """Serve an access; 0 to let the instruction complete, 1 to have the guest left."""
        pcpu = self._place.pcpu
        if pcpu is None:
            return 1
        report = pcpu.report
        address, size = report.info_0, report.info_1
        if report.number != self._vcpu.number:
            self._follow(pcpu)
        try:
            if kind == _PORT_IN or kind == _PORT_OUT:
                if self._vcpu.breakpoints.ports and self._breaks(address, size):
                    return 1
                if kind in self._heard:
                    return self._port(pcpu, K(kind), address, size)
                mapping = self._vm.ports.find(address)
                if kind == _PORT_OUT:
                    self._routing.port_write(address, size, report.info_2 & 0xFFFFFFFF, mapping)
                    if mapping is not None and mapping.strings == address:
                        self._strings.write(pcpu, self._vcpu, mapping, address, size)
                    return self._left_after_out()
                report.info_3 = self._routing.port_read(address, size, mapping)
                if mapping is not None and mapping.strings == address:
                    self._strings.read(pcpu, self._vcpu, mapping, address, size)
                return 0
            gpa = address & GPA_MASK
            if (
                self._plain and self._vcpu.breakpoints is breakpoints.NONE
            ):  # the usual case: a device, and nobody watches
                mapping = self._find(gpa)
                whole = self._routing.no_device(gpa, size) if mapping is None else gpa + size <= mapping.end
                if whole and not self._is_memory(gpa):
                    if mapping is None:
                        _answer(pcpu, self._routing.unclaimed(_NAMES[kind], gpa, size), size)
                    elif kind == _MMIO_WRITE:
                        mapping.device.write(gpa - mapping.base, size, report.info_2 & (1 << 8 * size) - 1)
                    else:
                        _answer(pcpu, mapping.device.read(gpa - mapping.base, size), size)
                    return 0
            return self._memory(pcpu, K(kind), gpa, size, self._vm.tables.virtual_of(address))
        except BaseException as error:  # must not cross the engine's frames; it ends this VM
            self._run.fail(error)
            return 1

    # --- ports and memory ---------------------------------------------------------------------------------------------

    def _port(self, pcpu: PCpu, kind: K, port: int, size: int) -> int:
        exit = self._begin(pcpu, kind, size)
        exit.port = port
        find, read, write = self._vm.ports.find, self._routing.port_read, self._routing.port_write
        left = self._decide(
            pcpu, exit, lambda: read(port, size, find(port)), lambda value: write(port, size, value, find(port))
        )
        return left or (self._left_after_out() if kind is K.PORT_OUT else 0)

    def _breaks(self, port: int, size: int) -> bool:
        """Whether an access hits breakpoints of the guest's, and must be stepped first."""
        hits = self._vcpu.breakpoints.port_hits(self._vcpu, port, size)
        if hits and not self._stepping:
            self._after = self._step_over
            return True
        self._hits |= hits
        return False

    def _memory(self, pcpu: PCpu, kind: K, gpa: int, size: int, gva: int | None) -> int:
        hits = self._vcpu.breakpoints.hits(gva, size, "r" if kind in _READS else "w")
        if not self._stepping and (hits or (kind == _MMIO_WRITE and self._first_of_a_hit(pcpu, gva, size))):
            self._after = self._step_over  # before any part of the operand is written: it is executed again
            return 1
        self._hits |= hits
        read, write = self._routing.memory_read, self._routing.memory_write
        if kind in self._heard and not self._routing.is_memory(gpa):
            exit = self._begin(pcpu, kind, size)
        elif K.MEMORY in self._heard:
            exit = self._begin(pcpu, kind, size)
            exit.kind, exit.gva, exit.access = K.MEMORY, gva, "w" if exit.write else "r"
        elif kind in _READS:
            _answer(pcpu, read(gpa, size), size)
            return 0
        else:
            write(gpa, size, pcpu.report.info_2 & (1 << 8 * size) - 1)
            return 0
        exit.gpa = gpa
        return self._decide(pcpu, exit, lambda: read(gpa, size), lambda value: write(gpa, size, value))

    def _first_of_a_hit(self, pcpu: PCpu, gva: int | None, size: int) -> bool:
        """Whether a write is the first part of an operand of which another part may hit a breakpoint."""
        if self._vcpu.breakpoints is breakpoints.NONE:
            return False
        instruction = (self._vcpu.rip, pcpu.report.now)
        first, self._wrote = instruction != self._wrote, instruction
        return first and self._vcpu.breakpoints.comes_near(gva, size)

    def _begin(self, pcpu: PCpu, kind: K, size: int) -> Exit:
        exit = self._exit.begin(kind, self._vcpu.rip, 0)
        exit.size, exit.write = size, kind not in _READS
        if exit.write:
            exit.value = pcpu.report.info_2 & (1 << 8 * size) - 1
        return exit

    def _decide(self, pcpu: PCpu, exit: Exit, read: Callable[[], int], write: Callable[[int], None]) -> int:
        """Ask the handlers, then do what is left to do; 1 to have the guest left before the instruction."""
        vcpu, dispatch = self._vcpu, self._dispatch
        vcpu.locked, vcpu.registers.flags_inside = _HALF_DONE, pcpu.flags
        try:
            effect = self._route.effect(vcpu, exit, handled=_answered, passed=_performed)
            if self._run.finished:
                return 1
            if effect is not _performed and effect is not _answered:
                self._after = effect
                return 1
            if exit.write:
                if effect is _performed or exit.kind is K.MEMORY:
                    write(_whole(exit))
            else:
                if effect is _performed or exit.value is None:
                    exit.value = read()
                _answer(pcpu, _whole(exit), exit.size)
            dispatch.decided(vcpu, exit)
        finally:
            vcpu.locked, vcpu.registers.flags_inside = None, None
        return 0

    def _left_after_out(self) -> int:
        """After an OUT that ended the run or reset the VM: leave right after it, if it is a simple one."""
        if not (self._run.finished or self._vm.reset_pending):
            return 0
        self._after = self._complete_out
        return 1

    # --- after the guest was left -------------------------------------------------------------------------------------

    def finish(self, pcpu: PCpu) -> int:
        """The guest was left in the middle of an instruction: do what is to be done; a further exit's kind, or 0."""
        after, self._after = self._after, None
        self._asked, self._vcpu.asked = self._vcpu.asked, None
        return 0 if after is None else after(pcpu, self._vcpu, self._exit)

    def _complete_out(self, pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
        length = pcpu.decode()
        return pcpu.complete(length) if length and pcpu.report.d_opcode in _OUT_OPCODES else 0

    def _step_over(self, pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
        """Run an instruction whose access hits breakpoints to its end, then tell the guest."""
        self._stepping, self._hits = True, 0
        try:
            before = breakpoints.exceptions(pcpu)
            further = completion.step_natively(pcpu, vcpu, self._asked)
        finally:
            self._stepping = False
        if not self._hits:
            return 0 if further == K.STEPPED else further
        return breakpoints.after_access(pcpu, vcpu, self._hits, further, before)


def _whole(exit: Exit) -> int:
    if type(exit.value) is not int or exit.value >> 8 * exit.size:
        return fitting(f"exit.value of {exit.kind.name.lower()} ({exit.size} bytes)", exit.value, 8 * exit.size)
    return exit.value


def _answer(pcpu: PCpu, value: int, size: int) -> None:
    value &= (1 << 8 * size) - 1
    pcpu.report.info_3 = value - (1 << 64) if value >> 63 else value
