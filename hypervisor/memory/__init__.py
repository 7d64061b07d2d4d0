"""Host frames and guest-physical memory."""

from hypervisor.memory.frames import FrameKernels, HostMemory
from hypervisor.memory.frozen_map import FrozenMap
from hypervisor.memory.guest_memory import GuestMemory
from hypervisor.memory.layers import Hole, Region

__all__ = ["FrameKernels", "FrozenMap", "GuestMemory", "Hole", "HostMemory", "Region"]
