"""A guest that writes anything anywhere in PCI configuration: nothing may fail, and a reset brings the board back."""

from __future__ import annotations

import random

import pytest

import hypervisor as hv
from hypervisor.run.serving.routing import Routing

REGISTERS = (0x04, 0x10, 0x14, 0x18, 0x20, 0x30, 0x40, 0x59, 0x5A, 0x5C, 0x5E, 0x60, 0x62, 0x80, 0x90, 0xD2)
VALUES = (0, 0xFFFFFFFF, 0x1, 0x7, 0x33333333, 0x601, 0xA0000, 0xB8000, 0xF0000, 0xFD000000, 0xFEC00000, 0xFEE00000)


def look(vm: hv.VM) -> list[object]:
    """What can be seen of the board: windows, and bytes at interesting places."""
    places = [vm.devices[name].places for name in ("piix3-ide", "piix4-pm", "vga-pci")]
    return [*places, *(vm.memory.read(at, 16) for at in (0xE0000, 0xF0000, 0xFFFF0, 0xFFFFFFF0))]


@pytest.mark.parametrize("firmware", [None, bytes(range(256)) * 1024])
@pytest.mark.parametrize("seed", range(2))
def test_configuration_bears_anything(firmware: bytes | None, seed: int) -> None:
    rng = random.Random(seed)
    with hv.Host("4M") as host:
        vm = host.create_vm(memory="4M", firmware=firmware)
        routing, slots = Routing(vm), list(vm.devices["pci"].functions)
        before = look(vm)

        def write(port: int, size: int, value: int) -> None:
            routing.port_write(port, size, value, vm.ports.find(port))

        for _ in range(4000):
            device, function = rng.choice(slots)
            register = rng.choice(REGISTERS) if rng.random() < 0.8 else rng.randrange(256)
            value = rng.choice(VALUES) if rng.random() < 0.7 else rng.getrandbits(32)
            size = rng.choice((1, 2, 4))
            write(0xCF8, 4, 1 << 31 | device << 11 | function << 8 | register & 0xFC)
            write(0xCFC, size, value & (1 << 8 * size) - 1)
            port = rng.choice((0xCFC, 0x600, 0xC000, value & 0xFFFF))
            assert 0 <= routing.port_read(port, size, vm.ports.find(port)) < 1 << 8 * size
            address = rng.choice((0xA0000, 0xC0000, 0xE8000, 0xFD000000, value & ~0xFFF))
            routing.memory_write(address, 4, 0x12345678)
            routing.memory_read(address, 4)
        vm.reset()
        assert look(vm)[:3] == before[:3]
        if firmware is not None:
            assert look(vm) == before
