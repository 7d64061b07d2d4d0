"""Schedulers without guests and without threads: what they do with workloads that are data, in no time."""

from hypervisor.testing.simulation.schedule import Schedule
from hypervisor.testing.simulation.simulator import SimulatedVm, Simulation
from hypervisor.testing.simulation.workloads import Busy, Job, Jobs, Periodic, Waking, Workload

__all__ = ["Busy", "Job", "Jobs", "Periodic", "Schedule", "SimulatedVm", "Simulation", "Waking", "Workload"]
