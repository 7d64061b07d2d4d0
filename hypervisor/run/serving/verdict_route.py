"""The one route from an exit to what its verdict does: of exits of the engine, interrupts, and accesses that are served
in the middle of their instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from hypervisor.arch.exits import ExitKind as K
from hypervisor.run.serving import completion
from hypervisor.run.serving.completion import Effect
from hypervisor.run.serving.interception import apply
from hypervisor.run.serving.records import fill
from hypervisor.traps.verdicts import HANDLED, PASS, Inject, Stop
from hypervisor.vcpu.operands import OperandFault

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.machine import Machine
    from hypervisor.vcpu.exit import Exit
    from hypervisor.vcpu.processor import Processor

_INTERRUPT = K.INTERRUPT


class Route:
    """For one run: who asks the handlers about an exit, and says what their verdict does to the processor."""

    def __init__(self, vm: Machine, stop: Callable[[Stop], None]) -> None:
        """``stop`` ends the run, as a handler wants."""
        self._vm, self._traps, self._stop = vm, vm.traps, stop
        self._handled, self._passed = list(completion.HANDLED), list(completion.PASSED)
        self._handled[K.DR_WRITE] = self._debug_register_written
        self._handled[K.MEMORY] = self._passed[K.MEMORY] = self._fetch

    def effect(self, vcpu: Processor, exit: Exit, handled: Effect, passed: Effect) -> Effect:
        """Ask the handlers; what their verdict does, which is ``handled`` or ``passed`` for those two."""
        verdict = self._traps.dispatch.decide(vcpu, exit)
        if verdict is HANDLED:
            return handled
        if verdict is PASS:
            return passed
        if isinstance(verdict, Stop):
            self._stop(verdict)
            # an interrupt has been acknowledged, so it is delivered before the run ends
            return passed if exit.kind is _INTERRUPT else completion.stopped
        return partial(completion.inject, verdict) if isinstance(verdict, Inject) else completion.retried

    def serve(self, pcpu: PCpu, vcpu: Processor, kind: int) -> int:
        """Carry out an exit that the engine has told; the kind of a further exit that this causes, or 0."""
        dispatch = self._traps.dispatch
        try:
            exit = fill(vcpu, pcpu, kind)
            effect = self.effect(vcpu, exit, self._handled[kind], self._passed[kind])
            if kind in dispatch.shown and effect is not completion.stopped:
                dispatch.decided(vcpu, exit)
            return effect(pcpu, vcpu, exit)
        except OperandFault as fault:
            vcpu.set("cr2", fault.address)
            return pcpu.exception(fault.vector, fault.error)

    def _debug_register_written(self, pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
        further = completion.HANDLED[K.DR_WRITE](pcpu, vcpu, exit)
        apply(self._vm, pcpu)  # a breakpoint may have been armed
        return further

    def _fetch(self, pcpu: PCpu, vcpu: Processor, exit: Exit) -> int:
        """Run an instruction in a watched page, of which the handlers have been told."""
        pages = (pcpu.report.fault_address >> 12, exit.gpa >> 12)
        with self._vm.memory.fetching(pages), self._vm.tables.fetching():
            pcpu.memory.flush()
            further = pcpu.step()
        pcpu.memory.flush()
        return 0 if further == K.STEPPED else further


__all__ = ["Route"]
