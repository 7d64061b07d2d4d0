"""Serving the exits of a run: what the engine tells is done, and whatever that leads to in turn.

What an exit means is decided by handlers; what their verdict does to the processor is the `Route`'s matter. What
no handler decides (the end of a turn, a triple fault, a task gate) is done here, or by who knows about it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.arch.exits import INTERCEPT_BIT
from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import DR7_ENABLES
from hypervisor.arch.vectors import NMI
from hypervisor.engine.costs import COSTS
from hypervisor.engine.state import GPR
from hypervisor.run.serving import completion
from hypervisor.run.serving.accesses import InPlace
from hypervisor.run.serving.interception import apply
from hypervisor.run.serving.verdict_route import Route
from hypervisor.traps.history import EXTERNAL
from hypervisor.vcpu.breakpoints import NONE

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.ending.run_end import RunEnd
    from hypervisor.run.machine import Machine
    from hypervisor.run.rest import Rest
    from hypervisor.vcpu.processor import Processor

_INTERRUPT, _TASK_GATE = K.INTERRUPT, K.TASK_GATE


class ExitServer:
    """For one run: the vCPU whose exits are served, and what is done for each kind."""

    def __init__(self, vm: Machine, ending: RunEnd, rest: Rest) -> None:
        self._vm, self._ending = vm, ending
        self.vcpu = vm.current
        """Whose exits are served: the one that is on the pCPU."""
        self._route = Route(vm, ending.stop)
        self._own: list[Callable[[PCpu], int] | None] = [None] * 128
        """By kind: what is done for what no handler decides."""
        for kind, function in {
            K.DEADLINE: rest.looked_in,
            K.IDLING: rest.idle,
            K.SPINNING: rest.spun,
            K.SHUTDOWN: ending.shut_down,
            K.FAILED: ending.give_up,
            K.INTERRUPT_WINDOW: self._interrupt,
            K.TASK_GATE: self._task_gate,
            K.VERDICT: lambda pcpu: self._access.finish(pcpu),
            K.RAISED: self._raised,
            K.STEPPED: lambda pcpu: 0,
            K.TURN_OVER: lambda pcpu: 0,
        }.items():
            self._own[kind] = function
        self.renew()

    def renew(self) -> None:
        """Handlers may have come and gone."""
        self._access = InPlace(self._vm, self._ending, self._route, self.vcpu, self.follow)

    def on(self, pcpu: PCpu) -> None:
        """Exits of this pCPU are served from now on."""
        self.traps_changed(pcpu)
        pcpu.on_access(self._access)

    def traps_changed(self, pcpu: PCpu) -> None:
        """Handlers may have come or gone: trap for those that there are. What is being served is finished by those
        that it began with.
        """
        apply(self._vm, pcpu)
        self._access.listen()

    def follow(self, pcpu: PCpu) -> None:
        """The engine may have given turns: serve the vCPU whose turn it is now."""
        vcpu = self._vm.turns.follow(pcpu)
        if vcpu is not self.vcpu:
            self.vcpu = vcpu
            self._access.select(vcpu)

    def switch(self, pcpu: PCpu, vcpu: Processor) -> None:
        """Another vCPU has its turn."""
        self._vm.turns.enter(pcpu, vcpu)
        self.vcpu = vcpu
        self._access.select(vcpu)
        if self._vm.breakpoints is not NONE or vcpu.registers.get("dr7") & DR7_ENABLES:
            apply(self._vm, pcpu)

    def serve(self, pcpu: PCpu, kind: int) -> None:
        """Serve an exit, and whatever serving it causes."""
        while kind:
            try:
                own = self._own[kind]
                kind = self._route.serve(pcpu, self.vcpu, kind) if own is None else own(pcpu)
            except BaseException as error:  # whatever a handler raises ends this VM, and only this VM
                self._ending.fail(error)
                return

    # --- events -------------------------------------------------------------------------------------------------------

    def _interrupt(self, pcpu: PCpu) -> int:
        vcpu = self.vcpu
        if not vcpu.intr.level:  # the guest took it back with interrupts off, and the engine noticed only the rise
            return 0
        controller = vcpu.interrupt_controller
        if controller is None:
            vcpu.intr.lower()
            return 0
        vector = controller.acknowledge()
        pcpu.happened(_INTERRUPT)
        if not self._vm.traps.dispatch.hears(_INTERRUPT):  # as on most machines: it needs no record
            return pcpu.event(vector, 0, EXTERNAL, vcpu.rip)
        pcpu.report.info_0 = vector
        return _INTERRUPT

    def take_nmi(self, pcpu: PCpu) -> None:
        """Deliver an NMI; further ones wait until IRET, which is trapped for that (APM volume 2, 8.2.3). Where other
        interrupts wait for the next instruction, it does so, too.
        """
        vcpu = self.vcpu
        if vcpu.registers.interrupt_shadow:
            self._leave_shadow(pcpu)
            return
        vcpu.nmi_pending = False
        vcpu.halted = False
        vcpu.registers.nmi_blocked = True
        pcpu.report.now += COSTS[_INTERRUPT]
        self._vm.tell("int", "NMI", vcpu)
        pcpu.trapping.intercept(INTERCEPT_BIT[K.IRET], True)
        self.serve(pcpu, completion.deliver(pcpu, vcpu, NMI, None))

    def _leave_shadow(self, pcpu: PCpu) -> None:
        """Run the instruction behind STI or a load of SS, which an NMI waits for as other interrupts do: between SS and
        SP there is no stack (APM volume 3, MOV and POP; SDM volume 3A, 6.8.3; behind STI it may, as AMD has it, wait).
        """
        turns = self._vm.turns
        turns.begin(pcpu)
        turns.inside = True
        self.serve(pcpu, pcpu.step())
        self.serve(pcpu, pcpu.complete_deferred())
        turns.inside = False

    def pass_task_gate(self, pcpu: PCpu, event: tuple[int, int, int]) -> None:
        """Switch to the task of an event that waited for this turn."""
        report = pcpu.report
        report.w_vector, report.w_error, report.w_level = event
        self.vcpu.task_gate = None
        self.serve(pcpu, _TASK_GATE)

    def _task_gate(self, pcpu: PCpu) -> int:
        """Switch to another task, as an event's task gate or an instruction asks for.

        The switch may end in another event with a task gate, and so on for ever, without an instruction in between:
        that one waits for the next turn, so that the run looks at its end before each.
        """
        from hypervisor.engine.task_switch import perform

        report = pcpu.report
        further = perform(pcpu, report.w_vector, report.w_error, report.w_level)
        if further != _TASK_GATE:
            return further
        self.vcpu.task_gate = report.w_vector, report.w_error, report.w_level
        return 0

    def _raised(self, pcpu: PCpu) -> int:
        """A compiled handler raised an exception: find out which."""
        report = pcpu.report
        number, first, second, value = report.info_0, report.info_1, report.info_2, report.info_3
        handler = self._vm.traps.compiled()[number - 1]
        assert handler.compiled is not None
        handler.compiled.again([self.vcpu.get(name) for name in GPR], first, second, value)
        return 0


__all__ = ["ExitServer"]
