"""RDRAND and RDSEED from the VM's seed: a guest never sees the host's randomness, and runs repeat."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from hypervisor.traps.verdicts import HANDLED

if TYPE_CHECKING:
    from hypervisor.traps.registry import TrapRegistry
    from hypervisor.traps.verdicts import Verdict
    from hypervisor.vcpu.exit import Exit
    from hypervisor.vcpu.processor import Processor


class MachineRandom(Random):
    """As `random.Random`. ``at`` is what says where they are (a list of words in a record that nobody changes), until
    one is drawn: to go back there where nothing was drawn costs nothing.
    """

    at: object = None

    def random(self) -> float:
        """The next number from 0 up to 1."""
        self.at = None
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        """The next ``k`` bits."""
        self.at = None
        return super().getrandbits(k)

    def seed(self, *given: Any, **named: Any) -> None:
        """Begin anew."""
        self.at = None
        super().seed(*given, **named)

    def setstate(self, state: Any) -> None:
        """Go on from what `getstate` gave."""
        self.at = None
        super().setstate(state)


def install(traps: TrapRegistry, random: Random) -> None:
    """Register both handlers; they take the next number of the VM's generator."""

    def answer(vcpu: Processor, exit: Exit) -> Verdict:
        exit.value = random.getrandbits(8 * exit.size)
        return HANDLED

    traps.rdrand(answer, name="builtin.rdrand", rank="builtin")
    traps.rdseed(answer, name="builtin.rdseed", rank="builtin")
