"""PCI: configuration mechanism 1, functions whose configuration space is declared as data, and the chips of the board.

Source: PCI Local Bus Specification 3.0. `registers` says what a configuration space consists of, `function` makes one
of it, `bus` is where functions sit. The host bridge (82441FX) and the south bridge (82371SB) are tables of registers.
"""

from hypervisor.devices.pci.bus import PciBus
from hypervisor.devices.pci.config_registers import (
    Bar,
    ConfigRegister,
    Identity,
    Space,
    Window,
    io_bar,
    memory_bar,
    rom_bar,
)
from hypervisor.devices.pci.function import PciFunction

__all__ = [
    "Bar",
    "ConfigRegister",
    "Identity",
    "PciBus",
    "PciFunction",
    "Space",
    "Window",
    "io_bar",
    "memory_bar",
    "rom_bar",
]
