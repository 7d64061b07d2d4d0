"""The hypervisor: VMs, vCPUs, time, trap handlers and the run loop."""

from hypervisor.core.exits import Exit
from hypervisor.core.host import CoreHost
from hypervisor.core.result import After, Fault, Reason, RunResult, after
from hypervisor.core.traps import TrapRegistry
from hypervisor.core.vcpu import Vcpu
from hypervisor.core.verdicts import HANDLED, PASS, RETRY, Verdict, inject, stop
from hypervisor.core.vm import VM

__all__ = [
    "HANDLED", "PASS", "RETRY", "VM", "After", "CoreHost", "Exit", "Fault", "Reason", "RunResult", "TrapRegistry",
    "Vcpu", "Verdict", "after", "inject", "stop",
]  # fmt: skip
