"""RDRAND and RDSEED from the VM's seed: a guest never sees the host's randomness, and runs repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.core import HANDLED, VM

if TYPE_CHECKING:
    from hypervisor.core import Exit, Vcpu, Verdict


def answer(vcpu: Vcpu, exit: Exit) -> Verdict:
    """The next number of the VM's generator."""
    exit.value = vcpu.vm.random.getrandbits(8 * exit.size)
    return HANDLED


def install(vm: VM) -> None:
    """Register both handlers."""
    vm.traps.rdrand(answer, name="builtin.rdrand", rank="builtin")
    vm.traps.rdseed(answer, name="builtin.rdseed", rank="builtin")
