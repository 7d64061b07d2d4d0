"""Boards and booting: the one place that knows every device and wires them together."""

from hypervisor.machine.boot import Host, boot
from hypervisor.machine.isa_pc import pc
from hypervisor.vm.board import Board, Part
from hypervisor.vm.config import Disk, MachineConfig

__all__ = ["Board", "Disk", "Host", "MachineConfig", "Part", "boot", "pc"]
