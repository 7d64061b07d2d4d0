"""What a machine remembers beside its processors, its devices and its memory, as a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.engine.report import MAX_EVENTS, RING_WORDS
from hypervisor.errors import ConfigError
from hypervisor.state import blob, flag, names, numbers, record, time_ns, words

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine

_RANDOM_WORDS = 625
"""Of a Mersenne twister: its 624 words, and which of them comes next."""
_RANDOM_VERSION = 3
MAX_COUNTS = 1 << 13
"""Different things that are counted."""
MAX_NOTES, MAX_NOTE = 1 << 12, 1 << 12


@record
class MachineOwnState:
    """``a20`` is whether address line 20 is let through; ``now`` the wall clock's time, if that is the machine's;
    ``random`` the state of its random numbers; ``exits``, ``unclaimed``, ``notes`` and ``events`` what is told of its
    run. What the host caused is counted by the host, and not here.
    """

    a20: bool = flag(True)
    now: int = time_ns()
    random: list[int] = numbers(_RANDOM_WORDS, 0, 0xFFFFFFFF, exact=True)
    exits: dict[str, int] = words(MAX_COUNTS)
    unclaimed: dict[str, int] = words(MAX_COUNTS)
    notes: list[str] = names(MAX_NOTES, MAX_NOTE)
    events: bytes = blob(8 * (1 + RING_WORDS * MAX_EVENTS))
    reset_pending: bool = flag()


def _in_utf8(text: str) -> str:
    """A text that may quote a path of the host's, with bytes that are none."""
    return text.encode("utf-8", "replace").decode("utf-8")


class MachineOwn:
    """These as a part of a machine's state. Only while it is on no pCPU."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm

    def state(self) -> MachineOwnState:
        """All of it."""
        vm = self._vm
        return MachineOwnState(
            a20=vm.tables.a20 == -1,
            now=vm.clock.now_ns if vm.clock.wall else 0,
            random=list(vm.random.getstate()[1]),
            exits=dict(sorted(vm.stats.items())),  # which are counted when the host looks
            unclaimed=dict(sorted(vm.unclaimed.items())),
            notes=[_in_utf8(note[:MAX_NOTE]) for note in vm.notes[:MAX_NOTES]],
            events=vm.place.events(),
            reset_pending=vm.reset_pending,
        )

    def restore(self, state: MachineOwnState) -> None:
        """Go on from ``state``. Raises `ConfigError` if it is not one of a machine."""
        self._vm.random.at = None
        self.restore_again(state)

    def restore_again(self, state: MachineOwnState) -> None:
        """As `restore`, of a state that nobody changes, as a snapshot's is: its random numbers are known again."""
        vm = self._vm
        events = memoryview(state.events if len(state.events) % 8 == 0 else b"").cast("q")
        if not events or events[0] < 0 or len(events) != 1 + RING_WORDS * min(events[0], MAX_EVENTS):
            raise ConfigError("machine: this state cannot be restored: its events are no ring of events.")
        if state.now and not vm.clock.wall:
            raise ConfigError("machine: this state is of a machine with the wall clock, and this one's is virtual.")
        if state.random[-1] >= _RANDOM_WORDS:
            raise ConfigError("machine: this state cannot be restored: its random numbers have no next word.")
        vm.set_a20(state.a20)
        if vm.clock.wall:
            vm.clock.go_on_at(state.now)
        if vm.random.at is not state.random:
            vm.random.setstate((_RANDOM_VERSION, tuple(state.random), None))
            vm.random.at = state.random
        for counter, values in ((vm.stats, state.exits), (vm.unclaimed, state.unclaimed)):
            counter.clear()
            dict.update(counter, values)  # as `Counter.update` does when it is empty, but not before it has asked
        vm.notes[:] = state.notes
        vm.place.put_back_events(state.events)
        vm.reset_pending = state.reset_pending
