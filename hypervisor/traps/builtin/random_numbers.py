"""RDRAND and RDSEED from the VM's seed: a guest never sees the host's randomness, and runs repeat."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from hypervisor.traps.verdicts import HANDLED

if TYPE_CHECKING:
    from hypervisor.traps.registry import TrapRegistry
    from hypervisor.traps.verdicts import Verdict
    from hypervisor.vcpu.exit import Exit
    from hypervisor.vcpu.processor import Processor


def install(traps: TrapRegistry, random: Random) -> None:
    """Register both handlers; they take the next number of the VM's generator."""

    def answer(vcpu: Processor, exit: Exit) -> Verdict:
        exit.value = random.getrandbits(8 * exit.size)
        return HANDLED

    traps.rdrand(answer, name="builtin.rdrand", rank="builtin")
    traps.rdseed(answer, name="builtin.rdseed", rank="builtin")
