"""RDTSC, RDTSCP and RDPMC (AMD64 APM volume 3): the clock, and counters that are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch import msr
from hypervisor.arch.vectors import GP
from hypervisor.traps.verdicts import HANDLED, inject

if TYPE_CHECKING:
    from hypervisor.traps.registry import TrapRegistry
    from hypervisor.traps.verdicts import Verdict
    from hypervisor.vcpu.exit import Exit
    from hypervisor.vcpu.processor import Processor


def time_stamp(vcpu: Processor, exit: Exit) -> Verdict:
    """The VM's clock with the guest's offset, in nanoseconds."""
    exit.value = vcpu.msr[msr.TSC]
    return HANDLED


def performance_counter(vcpu: Processor, exit: Exit) -> Verdict:
    """There are no counters: every number is an invalid one."""
    return inject(GP, 0)


def install(traps: TrapRegistry) -> None:
    """Register the handlers."""
    traps.rdtsc(time_stamp, name="builtin.rdtsc", rank="builtin")
    traps.rdtscp(time_stamp, name="builtin.rdtscp", rank="builtin")
    traps.rdpmc(performance_counter, name="builtin.rdpmc", rank="builtin")
