"""The built-in BIOS on a board: the ports, drives, keys and streams that its services use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hypervisor.console.guest_console import KEYS
from hypervisor.errors import ConfigError
from hypervisor.firmware.bios.bios import Bios, install
from hypervisor.firmware.bios.input.typeahead import KeyQueue
from hypervisor.units import GIB, MIB, PAGE_SIZE

if TYPE_CHECKING:
    from hypervisor.firmware.bios.disk.drive_numbers import Drives
    from hypervisor.vm.vm import VM

LAST_PARAGRAPH = bytes.fromhex("ea f0ff 00f0").ljust(16, b"\0")
"""Where a processor starts after an INIT, 16 bytes below 4 GiB: a jump to F000:FFF0."""

LEAST_MEMORY = MIB

_log = logging.getLogger("hypervisor.bios")


class BoardPorts:
    """The board's I/O ports, as `hypervisor.firmware.bios.call.Ports`. Where no device is, reads are all ones."""

    def __init__(self, vm: VM) -> None:
        self._vm = vm

    def read(self, port: int, size: int) -> int:
        """IN."""
        mapping = self._vm.ports.find(port)
        return (1 << 8 * size) - 1 if mapping is None else mapping.device.read(port - mapping.base, size)

    def write(self, port: int, size: int, value: int) -> None:
        """OUT."""
        mapping = self._vm.ports.find(port)
        if mapping is not None:
            mapping.device.write(port - mapping.base, size, value)


def start(
    vm: VM,
    drives: Callable[[], Drives],
    boot_order: str,
    memory_map: Sequence[tuple[int, int, int]],
    *,
    power: bool = True,
) -> Bios:
    """Give boot code its BIOS; after a reset, power it on again. ``drives`` makes what INT 13h reads, ``memory_map`` is
    what E820 tells. Without ``power`` it is there and nothing else: the machine goes on from another one. Returns it.
    """
    if vm.memory.size < LEAST_MEMORY:
        raise ConfigError("The BIOS lies below 1 MiB: give the guest at least 1M of memory (--memory).")
    if isinstance(vm.firmware, Bios):
        vm.firmware.power_on(memory_map, BoardPorts(vm))
        return vm.firmware
    rom = vm.add_memory(None, PAGE_SIZE, "reset-vector", writable=False)
    if power:
        rom.write(PAGE_SIZE - len(LAST_PARAGRAPH), LAST_PARAGRAPH)
    rom.map(4 * GIB - PAGE_SIZE)
    keys = KeyQueue()
    if vm.console is not None:
        vm.console.keys = keys
        vm.inbox.connect(KEYS, keys.type)

    def note(sentence: str) -> None:
        vm.notes.append(sentence)
        _log.warning(sentence)

    vm.firmware = built = install(
        vm,
        drives(),
        keys,
        vm.bios_tty.write if vm.bios_tty is not None else lambda data: None,
        memory_map=memory_map,
        ports=BoardPorts(vm),
        log=note,
        boot_order=boot_order,
        power=power,
    )
    return built
