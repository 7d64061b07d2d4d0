"""Host frames and guest-physical memory."""

from hypervisor.memory.frames import FrameKernels, HostMemory
from hypervisor.memory.guest_memory import GuestMemory
from hypervisor.memory.layers import Hole, Region

__all__ = ["FrameKernels", "GuestMemory", "Hole", "HostMemory", "Region"]
