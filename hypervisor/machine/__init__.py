"""Boards and booting: the one place that knows every device and wires them together."""

from hypervisor.machine.board import Board, Part
from hypervisor.machine.boot import Host, boot
from hypervisor.machine.isa_pc import pc
from hypervisor.machine.media import Disk

__all__ = ["Board", "Disk", "Host", "Part", "boot", "pc"]
