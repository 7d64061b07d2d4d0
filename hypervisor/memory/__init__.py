"""Host frames and guest-physical memory."""

from hypervisor.memory.frames import Extent, HostMemory
from hypervisor.memory.guest_memory import GuestMemory, Hole, Region

__all__ = ["Extent", "GuestMemory", "Hole", "HostMemory", "Region"]
