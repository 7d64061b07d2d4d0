"""Boards and booting: the one place that knows every device and wires them together."""

from hypervisor.machine.board import Board, Part
from hypervisor.machine.boot import Host, boot
from hypervisor.machine.isa_pc import pc

__all__ = ["Board", "Host", "Part", "boot", "pc"]
