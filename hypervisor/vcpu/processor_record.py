"""A virtual CPU's state as a record: registers, model-specific registers, and what is happening to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hypervisor.arch.msr import MSRS
from hypervisor.engine import cpu_record
from hypervisor.engine.cpu_record import CpuState
from hypervisor.errors import ConfigError
from hypervisor.state import flag, number, numbers, part, record, time_ns, words

if TYPE_CHECKING:
    from hypervisor.engine.vcpu_state import Image
    from hypervisor.vcpu.processor import Processor

NONE = -1
"""A number that is not there."""
LAST = 10
"""The last kind of an event (`hypervisor.engine.task_switch`)."""


@record
class ProcessorState:
    """``intr`` is the level of the interrupt input; ``msrs`` are the model-specific registers that are nowhere else, by
    their numbers. The rest are the attributes of `hypervisor.vcpu.processor.Processor`.
    """

    cpu: CpuState = part(CpuState)
    msrs: dict[str, int] = words(256)
    intr: bool = flag()
    nmi_pending: bool = flag()
    halted: bool = flag()
    waiting: bool = flag()
    started: list[int] = numbers(3, 0, 0xFF000)
    """Page and bytes."""
    task_gate: list[int] = numbers(3, NONE, 0xFFFFFFFF)
    position: int = time_ns()
    event_at: int = time_ns()
    looked_at: int = time_ns()
    spinning: bool = flag()
    skipped: bool = flag()
    init_pending: bool = flag()
    startup: int = number(NONE, 0xFF, NONE)


_MSRS = {f"{number:#x}": number for number in MSRS}
_PLAIN = ("nmi_pending", "halted", "waiting", "position", "event_at", "looked_at", "spinning", "skipped")


class ProcessorPart:
    """A vCPU as a part of a machine's state. Only while it is on no pCPU."""

    def __init__(self, vcpu: Processor) -> None:
        self._vcpu = vcpu
        self._last: _Last | None = None

    def state(self) -> ProcessorState:
        """All that the vCPU remembers."""
        vcpu = self._vcpu
        return ProcessorState(
            cpu_record.cpu_state(vcpu.registers, vcpu.state.tlb),
            {f"{number:#x}": value for number, value in vcpu.msr.kept().items()},
            vcpu.intr.level,
            started=[] if vcpu.started is None else [vcpu.started[0], *vcpu.started[1]],
            task_gate=list(vcpu.task_gate or ()),
            startup=NONE if vcpu.startup_vector is None else vcpu.startup_vector,
            init_pending=vcpu.init_pending,
            **{name: getattr(vcpu, name) for name in _PLAIN},
        )

    def restore(self, state: ProcessorState) -> None:
        """Go on from ``state``. Raises `ConfigError` if it is not one of such a vCPU."""
        vcpu = self._vcpu
        problem = cpu_record.problem(state.cpu)
        if problem is None and state.msrs.keys() - _MSRS.keys():
            problem = f"there are no model-specific registers {', '.join(sorted(state.msrs.keys() - _MSRS.keys()))}"
        if problem is None and (len(state.task_gate) not in (0, 3) or (state.task_gate and state.task_gate[2] > LAST)):
            problem = f"{state.task_gate} is no event that waits for a task gate"
        if problem is None and any(byte > 0xFF for byte in state.started[1:]):
            problem = "it was started with what are no bytes"
        if problem:
            raise ConfigError(f"vCPU {vcpu.number}: this state cannot be restored: {problem}.")
        cpu_record.put_back(vcpu.registers, vcpu.state.tlb, state.cpu)
        self._put_words(state)
        self._put_beside(state, _msrs_of(state))

    def restore_again(self, state: ProcessorState) -> None:
        """As `restore`, of a state that nobody changes: one that is put back again and again, as a snapshot's is, is
        looked at once.
        """
        vcpu, last = self._vcpu, self._last
        if last is None or last.state is not state or last.image is None:
            again = last is not None and last.state is state
            self.restore(state)
            self._last = _Last(state, _msrs_of(state), vcpu.state.image() if again else None)
            return
        cpu_record.put_back_again(vcpu.state, last.image, state.cpu)
        self._put_beside(state, last.msrs)

    def _put_words(self, state: ProcessorState) -> None:
        """Its own words (`hypervisor.engine.shared_words`)."""
        vcpu = self._vcpu
        for name in _PLAIN:
            setattr(vcpu, name, getattr(state, name))
        vcpu.intr.take(state.intr)

    def _put_beside(self, state: ProcessorState, msrs: dict[int, int]) -> None:
        """What is not in the engine's memory for the vCPU."""
        vcpu = self._vcpu
        vcpu.msr.put_back(msrs)
        vcpu.init_pending = state.init_pending
        vcpu.started = (state.started[0], bytes(state.started[1:])) if state.started else None
        gate = state.task_gate
        vcpu.task_gate = (gate[0], gate[1], gate[2]) if gate else None
        vcpu.startup_vector = None if state.startup == NONE else state.startup


class _Last(NamedTuple):
    """What was put back last, and the vCPU's memory behind that: known from the second time on, as most forks never go
    back.
    """

    state: ProcessorState
    msrs: dict[int, int]
    image: Image | None


def _msrs_of(state: ProcessorState) -> dict[int, int]:
    return {_MSRS[name]: value for name, value in state.msrs.items()}
