"""The vCPUs of one VM take turns on its pCPU, in slices of virtual time.

Each vCPU has its own progress, ``position``: how far into the VM's time it has come. The one that is furthest behind
runs next, until the slice is over, a timer is due, or it sleeps or spins; so vCPUs that run one after the other look
parallel to the guest. The VM's time is the position of the last one: a timer fires when every vCPU that runs has come
to it. What this decides depends on the guest's progress alone, so a run repeats, whoever shares the pCPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from hypervisor.engine.shared_words.scheduling import IDLE_NS, IDLE_TURNS, SPINS, SPINS_AGAIN, TurnWords
from hypervisor.errors import ConfigError
from hypervisor.run.ending.idling import idles
from hypervisor.state import flag, number, record, time_ns
from hypervisor.units import FOREVER_NS

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.engine.report import Report
    from hypervisor.vcpu.processor import Processor

SLICE_NS = 200_000
"""The longest turn, in virtual nanoseconds, of a vCPU while others have something to do."""


@record
class TurnsState:
    """The attributes of `Turns`; ``current`` is the number of a vCPU."""

    time: int = time_ns()
    floor: int = time_ns()
    end: int = time_ns()
    current: int = number(0, 255)
    alone: bool = flag(True)
    new: bool = flag(True)
    idle_turns: int = number(0, 1 << 62)


class Turns(TurnWords):
    """Whose turn it is. All times are virtual nanoseconds of the VM's clock (under the wall clock: of progress).

    It lies where the engine sees it: `hypervisor.engine.kernels.vmexit.turn_taking` gives turns by the same rules, as
    long as Python has nothing to do between them.
    """

    vcpus: Sequence[Processor]
    current: Processor
    """Whose turn it is, or was last."""

    def __init__(self) -> None:
        super().__init__(slice_ns=SLICE_NS, leave_at=FOREVER_NS, alone=True, new=True)
        self.by_engine = True
        """Whether the engine may give turns at all; what a guest does is the same without."""
        self._known: list[Processor] | None = None
        """Who is awake, from `advance` to the next event."""

    def seat(self, vcpus: Sequence[Processor]) -> None:
        """Take the VM's vCPUs, which do not change; the first one begins."""
        self.vcpus = vcpus
        self.several = len(vcpus) > 1
        self.current = vcpus[0]

    def state(self) -> TurnsState:
        """Whose turn it is, and how far everybody has come; one vCPU alone has no turns. While they are on no pCPU."""
        if not self.several:
            return TurnsState(time=self.time)
        return TurnsState(self.time, self.floor, self.end, self.current.number, self.alone, self.new, self.idle_turns)

    def restore(self, state: TurnsState) -> None:
        """Go on from ``state``. Raises `ConfigError` for one of a VM with other vCPUs."""
        if state.current >= len(self.vcpus):
            raise ConfigError(
                f"turns: vCPU {state.current} has its turn in this state, and there are {len(self.vcpus)}."
            )
        self.time, self.floor, self.end = state.time, state.floor, state.end
        self.current = self.vcpus[state.current]
        self.alone, self.new, self.idle_turns = state.alone, state.new, state.idle_turns
        self._known = None
        self.inside = False

    def advance(self, pcpu: PCpu) -> None:
        """Note how far the current vCPU has come; between turns, how far they all have."""
        report, current = pcpu.report, self.current
        now = report.now
        current.words.position = now
        if current.init_pending:
            current.take_init()
        if not self.several:
            self.time = now
            return
        current.skipped = report.skipped == 1
        if now > self.floor:
            self.floor = now
        self._known = None
        if self._goes_on(self.end):
            return
        self._known = awake = self._awake()
        self._resume(report)
        time = min([vcpu.position for vcpu in awake]) if awake else self.floor
        if time > self.time:
            self.time = time

    def _resume(self, report: Report) -> None:
        """The current vCPU may have been woken: it goes on from when that happened."""
        report.now = max(report.now, self.current.position)

    def _goes_on(self, end: int) -> bool:
        """Whether the current turn has not ended. Nobody else is looked at then: who looks in, and when, is the host's
        business and must not matter.
        """
        current = self.current
        return self.several and current.position < end and not current.halted and not current.waiting

    def _awake(self) -> list[Processor]:
        return [vcpu for vcpu in self.vcpus if not (vcpu.halted or vcpu.waiting) or vcpu.wakes()]

    def sleep_until(self, pcpu: PCpu, time: int) -> None:
        """No vCPU is awake: nothing happens until ``time``."""
        report = pcpu.report
        if time > report.now:
            report.now = self.current.position = time
        self.floor = max(self.floor, time)

    def reset(self, pcpu: PCpu) -> None:
        """All vCPUs were reset, which happens to all of them at the same time; the clock goes on."""
        for vcpu in self.vcpus:
            vcpu.position = max(vcpu.position, self.time)
            vcpu.spinning = False
        report = pcpu.report
        report.now = self.current.position = max(report.now, self.current.position)
        self.time = max(self.time, min([vcpu.position for vcpu in self._awake()]))
        self._known = None
        self.new = True
        self.idle_turns = self.end = 0

    def choose(self, horizon: int) -> Processor | None:
        """Whose turn it is now, None if all sleep. A turn that has not ended goes on; nothing runs past ``horizon``."""
        if not self.several:
            return self._only(horizon)
        self.horizon = horizon
        end = min(self.end, horizon)
        if self._goes_on(end):
            self.end = end
            return self.current
        awake = self._known
        if awake is None:
            awake = self._awake()
        if not awake:
            self.end = 0
            return None
        if self.end:  # the last turn was not given up
            self.current.spinning = False
            self.idle_turns = 0
        self.new = True
        self.alone = len(awake) == 1
        if self.alone:
            self.end = horizon
            return awake[0]
        chosen = min(awake, key=_position)
        self.end = min(horizon, chosen.position + self.slice_ns)
        if all([vcpu.skipped for vcpu in awake]) and all(idles(vcpu) for vcpu in awake):
            self.end = horizon  # until then nothing can happen that one does to another
        return chosen

    def _only(self, horizon: int) -> Processor | None:
        """The same where there is one vCPU: its turn, if it is awake."""
        current = self.current
        awake = current.wakes()
        self.end = horizon if awake else 0
        return current if awake else None

    def enter(self, pcpu: PCpu, vcpu: Processor) -> None:
        """Put a vCPU on the pCPU, in place of the one that had its turn there."""
        self.current = vcpu
        pcpu.load(vcpu.state)
        report = pcpu.report
        report.now = vcpu.position
        report.floor = self.floor if self.several else 0
        report.intr = int(vcpu.intr.level)
        report.armed = 0
        report.block_end = 0

    def leave(self, now: int) -> None:
        """The current vCPU leaves its pCPU, as far as it has come: what `advance` would note when it looks next."""
        self.current.position = now
        if self.several:
            self.floor = max(self.floor, now)
        else:
            self.time = now

    def begin(self, pcpu: PCpu) -> None:
        """The current vCPU is about to run until its turn ends."""
        report = pcpu.report
        report.now = max(report.now, self.current.position)  # it may have been woken since
        report.next = report.deadline = min(self.end, self.leave_at)
        if self.new:
            self.new = False
            if not self.several:  # nobody to give way to
                return
            spins = 0 if self.alone else SPINS_AGAIN if self.current.spinning else SPINS
            report.spins = report.spins_left = spins
            report.spun_at = report.now
            report.worked = report.skipped = 0

    def follow(self, pcpu: PCpu) -> Processor:
        """Whose turn it is after the engine has run, which may have given some."""
        self.in_engine = False
        number = pcpu.report.number
        if number != self.current.number:
            self.current = self.vcpus[number]
            pcpu.follow(self.current.state)
        return self.current

    def give_way(self, pcpu: PCpu) -> None:
        """The current vCPU waits for another one: those behind it come first, and then one at least."""
        current = self.current
        current.position = pcpu.report.now
        current.spinning = not pcpu.report.worked
        if not current.spinning:
            self.idle_turns = 0
        others = [vcpu for vcpu in self._awake() if vcpu is not current]
        if others:
            busy = [vcpu.position for vcpu in others if not vcpu.spinning]
            if busy:
                goal = min(busy) + 1
            else:
                self.idle_turns += 1
                goal = min([vcpu.position for vcpu in others]) + min(self.idle_turns, IDLE_TURNS) * IDLE_NS
            pcpu.report.now = current.position = max(current.position, goal)
        self.end = 0

    def skip(self, pcpu: PCpu) -> None:
        """The current vCPU does nothing for the rest of its turn."""
        pcpu.report.now = self.current.position = max(pcpu.report.now, self.end)

    @property
    def all_spin(self) -> bool:
        """Whether all that are awake have done nothing but spin for some turns."""
        return self.idle_turns > IDLE_TURNS

    def rest(self) -> bool:
        """Whether no vCPU besides the current one has anything to do: those that are awake are idle, too."""
        return all(idles(vcpu) for vcpu in self._awake() if vcpu is not self.current)

    def end_at(self, pcpu: PCpu, time: int) -> None:
        """The current turn ends no later than ``time``."""
        report = pcpu.report
        if time < self.end:
            self.end = time
        if time < report.next:
            report.next = time
            if time < report.deadline:
                report.deadline = time

    def happens(self, pcpu: PCpu | None, vcpu: Processor) -> None:
        """Something happens to a vCPU (an interrupt, an NMI, INIT, its start): it may wake, and wants a turn then."""
        self._known = None
        if not self.several:
            return
        if not self.inside or pcpu is None:
            vcpu.event_at = self.time
            if vcpu is not self.current:  # under the wall clock a turn may have been given without an end
                self.end = min(self.end, self.current.position + self.slice_ns)
            return
        now = pcpu.report.now
        vcpu.event_at = now
        if vcpu is not self.current:
            pcpu.report.spins = SPINS
            self.end_at(pcpu, now + self.slice_ns)


_position = attrgetter("position")  # of equal ones, min takes the first


__all__ = ["SLICE_NS", "Turns"]
