"""``vm.speaker``: what the PC speaker played."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from hypervisor.state import real, record, several
from hypervisor.units import NS_PER_S

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine

KEPT = 10_000
"""Events that are kept, the last ones."""


class Tone(NamedTuple):
    """From ``at`` (seconds of the VM's time) on, the speaker plays ``frequency`` Hz; None is silence."""

    at: float
    frequency: float | None


@record
class ToneState:
    """A `Tone`; a frequency of 0 is silence."""

    at: float = real()
    frequency: float = real()


@record
class SpeakerState:
    """The tones that are kept."""

    tones: list[ToneState] = several(ToneState, KEPT)


class Speaker:
    """The PC speaker, as the timer's counter 2 drives it.

    Sound that a guest makes by hand, with bit 1 of port 61h and the timer off, is not recorded.
    """

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.events: deque[Tone] = deque(maxlen=KEPT)
        """Every change, in order; the last `KEPT` of them."""

    def state(self) -> SpeakerState:
        """What was played."""
        return SpeakerState([ToneState(tone.at, tone.frequency or 0.0) for tone in self.events])

    def restore(self, state: SpeakerState) -> None:
        """This was played."""
        self.events.clear()
        self.events.extend(Tone(tone.at, tone.frequency or None) for tone in state.tones)

    def play(self, frequency: float | None) -> None:
        """The tone changes now."""
        self.events.append(Tone(self._vm.clock.now_ns / NS_PER_S, frequency))
