"""RDTSC, RDTSCP and RDPMC (AMD64 APM volume 3): the clock, and counters that are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch import msr
from hypervisor.arch.vectors import GP
from hypervisor.core import HANDLED, VM, inject

if TYPE_CHECKING:
    from hypervisor.core import Exit, Vcpu, Verdict


def time_stamp(vcpu: Vcpu, exit: Exit) -> Verdict:
    """The VM's clock with the guest's offset, in nanoseconds."""
    exit.value = vcpu.msr[msr.TSC]
    return HANDLED


def performance_counter(vcpu: Vcpu, exit: Exit) -> Verdict:
    """There are no counters: every number is an invalid one."""
    return inject(GP, 0)


def install(vm: VM) -> None:
    """Register the handlers."""
    vm.traps.rdtsc(time_stamp, name="builtin.rdtsc", rank="builtin")
    vm.traps.rdtscp(time_stamp, name="builtin.rdtscp", rank="builtin")
    vm.traps.rdpmc(performance_counter, name="builtin.rdpmc", rank="builtin")
