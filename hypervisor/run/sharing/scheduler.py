"""Which VM runs next on a pCPU that is free, and for how long: the policy of a host, as a small class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable
from weakref import WeakSet

from hypervisor.run.sharing.share import Share

SLICE_S = 0.02
"""Host seconds for which a VM keeps its pCPU while another one waits."""


class Candidate(Protocol):
    """A VM (`hypervisor.VM`), as far as a host knows what it schedules. A policy may ask it for more."""

    name: str

    @property
    def share(self) -> Share:
        """What it is to get."""
        ...


class Slice(NamedTuple):
    """What a scheduler answers: this VM, for so many host seconds.

    They are seconds in which the VM holds up its pCPU: of the CPU clock of the pCPU's thread, and those for which a
    handler of the VM's sleeps there. While nobody waits the VM keeps its pCPU beyond them; when somebody does, it
    leaves at its next opportunity.
    """

    vm: Candidate
    seconds: float


class Scheduler(Protocol):
    """Chooses among VMs. ``hv.Host(scheduler=...)`` takes one; `RoundRobin` is what hosts have otherwise.

    All is called with the host's lock held, from any of its threads, one call at a time: answer soon, and call nothing
    of a VM or the host. Whatever it answers, no guest can tell: under the virtual clock each runs as if it were alone.
    One that raises, or chooses a VM that does not wait, ends the run that had waited longest, and names itself there.

    A VM that may not run at present, for its cap, is to a scheduler one that waits for something.
    """

    def choose(self, ready: Sequence[Candidate]) -> Slice:
        """Which of these VMs, which wait for a pCPU, those that came first before the others; there is one at least.
        (One that was on the free pCPU last may come before those that would have to move there: `at_home.first`.)
        """
        ...

    def wakes(self, vm: Candidate, running: Sequence[Candidate]) -> Candidate | Slice | None:
        """A VM wants a pCPU: its run begins, or what it waited for has come. Which one of those that run now, where it
        may run, is to make room at its next opportunity, though its slice is not over, or how long its slice is now;
        None if that can wait. (Where a pCPU is free nobody has to.)
        """
        ...

    def used(self, vm: Candidate, seconds: float) -> None:
        """A VM leaves its pCPU after so many host seconds, and wants to go on: others waited."""
        ...

    def blocks(self, vm: Candidate, seconds: float) -> None:
        """A VM leaves its pCPU after so many host seconds, and wants none now: it waits, is paused, or has ended. (With
        0 seconds it had none, and does not wait for one any longer.)
        """
        ...


@runtime_checkable
class Hosted(Protocol):
    """A scheduler that is told of its host."""

    def begin(self, pcpus: int, clock: Callable[[], float]) -> None:
        """Before all else: how many pCPUs there are, and the clock of the time that all of them pass, in seconds."""
        ...


@runtime_checkable
class Promising(Protocol):
    """A scheduler that keeps reservations (`Share.budget`)."""

    def admit(self, promised: Sequence[Share], share: Share, pcpus: int) -> None:
        """Raise `ConfigError` if this one cannot be promised beside those that are, on so many pCPUs."""
        ...


@runtime_checkable
class Charging(Protocol):
    """A scheduler that wants to know what VMs cost in all."""

    def held(self, vm: Candidate, seconds: float) -> None:
        """Before `Scheduler.used` or `Scheduler.blocks`: for how many host seconds the pCPU was the VM's, with the ways
        to its guest and back, which others have not.
        """
        ...


@runtime_checkable
class Watching(Protocol):
    """A scheduler that wants to know how far those have come that run."""

    def watch(self, had: Callable[[Candidate], float]) -> None:
        """Before all else: what says for how many host seconds a VM has held up its pCPU in the slice that goes on, 0
        for one that has none. On a host whose processors are others', too, that is not the time that has passed.
        """
        ...


@runtime_checkable
class Placing(Protocol):
    """A scheduler that wants VMs to stay where they were: another pCPU translates all their code anew."""

    def place(self, stays: Callable[[Candidate], bool]) -> None:
        """Before all else: what says, within `Scheduler.choose`, whether a VM that waits would stay there."""
        ...


LONGEST, ROUND, CALM = 4, 24, 20
"""Where all compute a slice is so many `SLICE_S` at most, and a round of all that wait; there have been so many slices
before in which nobody woke.
"""


class RoundRobin:
    """First come, first served, each for `SLICE_S`. Where nobody has woken for some slices, as all compute, they are
    longer, four times if few wait: each begins with cold caches. As soon as one wakes they are short again.
    """

    def __init__(self) -> None:
        self._slices = 0
        """How many there have been since one woke."""
        self._long: WeakSet[Candidate] = WeakSet()
        """Those that run in long ones."""

    def choose(self, ready: Sequence[Candidate]) -> Slice:
        """The first of those that wait."""
        vm = ready[0]
        self._slices += 1
        long = min(LONGEST, ROUND // len(ready)) if self._slices > CALM else 1
        if long <= 1:
            self._long.discard(vm)
            return Slice(vm, SLICE_S)
        self._long.add(vm)
        return Slice(vm, long * SLICE_S)

    def wakes(self, vm: Candidate, running: Sequence[Candidate]) -> Slice | None:
        """It is behind those who wait; and one that runs has had a slice when it has had a short one."""
        self._slices = 0
        one = next((one for one in running if one in self._long), None)
        if one is None:
            return None
        self._long.discard(one)
        return Slice(one, SLICE_S)

    def used(self, vm: Candidate, seconds: float) -> None:
        """It is behind those who wait."""

    def blocks(self, vm: Candidate, seconds: float) -> None:
        """It is forgotten."""


__all__ = [
    "SLICE_S",
    "Candidate",
    "Charging",
    "Hosted",
    "Placing",
    "Promising",
    "RoundRobin",
    "Scheduler",
    "Slice",
    "Watching",
]
