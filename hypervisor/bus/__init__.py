"""What a device may know: its offsets, an interrupt line, a clock, and a view of guest memory.

Nothing else. A device never learns where the board put it and never sees a CPU register.
"""

from hypervisor.bus.clock import Clock, Timer
from hypervisor.bus.device import ApicMsrs, ApicPort, Comparable, Device, InterruptController, StringPort
from hypervisor.bus.disk_limits import UNLIMITED, DiskLimits, PaceState
from hypervisor.bus.dma import Dma
from hypervisor.bus.line import Line, SharedLine, SwitchedLine
from hypervisor.bus.medium import Geometry, Medium
from hypervisor.bus.space import AddressSpace, Mapping
from hypervisor.bus.timed_register import TimedRegister

__all__ = [
    "UNLIMITED",
    "AddressSpace",
    "ApicMsrs",
    "ApicPort",
    "Clock",
    "Comparable",
    "Device",
    "DiskLimits",
    "Dma",
    "Geometry",
    "InterruptController",
    "Line",
    "Mapping",
    "Medium",
    "PaceState",
    "SharedLine",
    "StringPort",
    "SwitchedLine",
    "TimedRegister",
    "Timer",
]
