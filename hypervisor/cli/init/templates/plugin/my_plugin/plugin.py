"""The plugin: it attaches the device and tells the guest, through CPUID, that the die is there."""

from __future__ import annotations

import hypervisor as hv
from my_plugin.device import DiceDevice

LEAF = 0x4000_0100
"""Our CPUID leaf, in the range that processors leave to hypervisors."""

SIGNATURE = b"RollTheDice!"
"""Twelve characters, in EBX, ECX, EDX, as hypervisors sign leaf 40000000h."""


class MyPlugin:
    """Options: ``port``, where the die's two registers begin; ``sides``, 1 to 255."""

    api = 1  # the version of hv.API that this is written for
    stateless = True  # what changes is in the device

    def __init__(self, port: int = 0x300, sides: int = 6) -> None:
        if not 1 <= sides <= 255:
            raise hv.ConfigError(f"a die with {sides} sides cannot be read as a byte; choose 1 to 255.")
        self.port = port
        self.sides = sides

    def attach(self, vm: hv.VM) -> None:
        """Called once, before the guest runs."""
        # From the VM's own generator: the same --seed gives the same game.
        device = DiceDevice(self.sides, seed=vm.random.getrandbits(32))
        vm.attach(device, ports=range(self.port, self.port + 2))

        @vm.traps.cpuid(leaf=LEAF)
        def die_leaf(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            exit.eax = self.port
            exit.ebx, exit.ecx, exit.edx = (int.from_bytes(SIGNATURE[i : i + 4], "little") for i in (0, 4, 8))
            return hv.HANDLED
