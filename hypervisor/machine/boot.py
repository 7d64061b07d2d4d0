"""Booting: an image, a board and options become a VM that is ready to run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hypervisor import loaders, traps
from hypervisor.arch import cpuid
from hypervisor.core import HANDLED, VM, CoreHost
from hypervisor.core.plugins import PluginSet
from hypervisor.engine.state import Segment, Table
from hypervisor.errors import ConfigError, ImageError
from hypervisor.machine import pci_setup
from hypervisor.machine.board import Board
from hypervisor.machine.isa_pc import PC
from hypervisor.traps import bios
from hypervisor.traps.bios_keys import KeyQueue
from hypervisor.units import MIB, page_up, parse_size

MAX_IMAGE = 4 << 30

_log = logging.getLogger("hypervisor.bios")


class Host(CoreHost):
    """An emulated machine with physical CPUs and memory, on which VMs are created.

    ``hv.Host(memory="1G", cpus=2)``; use it as a context manager or `close` it.
    """

    def create_vm(
        self,
        image: str | os.PathLike[str] | bytes | None = None,
        *,
        memory: str | int = "64M",
        append: str = "",
        initrd: str | os.PathLike[str] | bytes | None = None,
        modules: Sequence[Any] = (),
        cpus: int = 1,
        clock: str = "virtual",
        seed: int = 0,
        plugins: Iterable[object] = (),
        strict: bool = False,
        format: str | None = None,
        at: int | None = None,
        entry: int | None = None,
        mode: int | None = None,
        board: Board | None = None,
        reboot: bool = False,
        firmware: str | os.PathLike[str] | bytes | None = None,
        name: str | None = None,
    ) -> VM:
        """A VM with a board and, if ``image`` is given, a guest loaded into it.

        ``image`` is a path, the name of a shipped guest (see ``hypervisor guests``) or the image's bytes; ``memory`` a
        size such as ``"64M"``; ``cpus`` the number of virtual CPUs, 1 to 8; ``append`` the kernel
        command line; ``modules`` pairs of (path, arguments) for multiboot; ``clock`` ``"virtual"`` (reproducible,
        default) or ``"wall"``; ``seed`` that of the guest's random numbers; ``strict`` stops at the first access that
        nothing answers; ``format``, ``at``, ``entry``, ``mode`` override the image's detection; ``reboot`` goes on
        after a reset; ``firmware`` is a ROM to start with (a file, its bytes, or ``"seabios"``), which boots from the
        machine's disks. Raises `ConfigError`, `ImageError`, `PluginError`.
        """
        self.check_open()
        data, label = (b"", "no image") if image is None else read_image(image)
        attached = [_module(module) for module in modules]
        ramdisk = None if initrd is None else _contents("initrd", initrd)
        vm = VM(self, memory, clock=clock, seed=seed, name=name or label, strict=strict, cpus=cpus)
        try:
            vm.plugins = PluginSet(plugins)
            parts = _board(board).build(vm)
            traps.install(vm)
            install_cpuid(vm)
            if firmware is not None:
                vm.reload = _install_firmware(vm, parts, firmware, image)
            elif image is not None:
                pci_setup.set_up(parts)
                vm.symbols.add(_shipped_symbols(image))
                spec = loaders.BootSpec(
                    name=label,
                    memory_size=vm.memory.size,
                    memory_map=loaders.default_memory_map(vm.memory.size),
                    append=append,
                    initrd=ramdisk,
                    modules=attached,
                    format=format,
                    at=at,
                    entry=entry,
                    mode=mode,
                )
                _load(vm, data, spec)
                vm.reload = lambda: _reload(vm, parts, data, spec)
            else:
                pci_setup.set_up(parts)
                vm.reload = lambda: pci_setup.set_up(parts)
            vm.reboot = reboot
            vm.plugins.attach(vm)
        except BaseException:
            vm.close()
            raise
        return vm


def boot(image: str | os.PathLike[str] | bytes | None = None, memory: str | int = "64M", **options: Any) -> VM:
    """Boot an image on a host of its own; closing the VM closes the host. Options as `Host.create_vm` takes them."""
    size = page_up(parse_size(memory))
    host = Host(size, 1)
    try:
        vm = host.create_vm(image, memory=size, **options)
    except BaseException:
        host.close()
        raise
    vm.owns_host = True
    return vm


def read_image(image: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    """An image's bytes and the name to call it by: a file, a shipped guest, or bytes as they are."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image), "image"
    path = _path("image", image)
    if isinstance(image, str) and os.sep not in image and not path.exists():
        from hypervisor import guests

        if image in guests.names():
            return guests.shipped(image).image, image
        known = ", ".join(guests.names())
        raise ImageError(f"{image}: there is no such file, and no shipped guest of that name ({known}).")
    return _contents("image", image), str(image)


def _path(what: str, value: object) -> Path:
    if not isinstance(value, (str, os.PathLike)):
        raise ConfigError(f"{what}={value!r}: give a path, or the contents as bytes.")
    return Path(value)


def _contents(what: str, file: str | os.PathLike[str] | bytes) -> bytes:
    """The bytes of a file; bytes are themselves. Raises `ImageError` for what cannot be read."""
    if isinstance(file, (bytes, bytearray, memoryview)):
        return bytes(file)
    path = _path(what, file)
    try:
        if path.is_dir():
            raise ImageError(f"{file} is a directory; give a file.")
        if path.is_char_device():
            raise ImageError(f"{file} is a device without an end; give a file.")
        if path.stat().st_size > MAX_IMAGE:
            raise ImageError(f"{file} is larger than {MAX_IMAGE // MIB} MiB; no guest's {what} is.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"{file}: there is no such file; check the path of the {what}.") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _board(board: Board | None) -> Board:
    if board is None:
        return PC
    if not isinstance(board, Board):
        raise ConfigError(f"board={board!r}: give a hypervisor.Board, such as hv.pc() with parts changed.")
    return board


def _shipped_symbols(image: str | os.PathLike[str] | bytes) -> dict[str, int]:
    """The symbols of a shipped guest: its image is flat, and cannot carry them."""
    if not isinstance(image, str) or Path(image).exists():
        return {}
    from hypervisor import guests

    return guests.shipped(image).symbols


def _module(module: Any) -> tuple[str, str, bytes]:
    """(name, arguments, contents) of what the caller gave: a path, (path, arguments) or (name, arguments, contents)."""
    if isinstance(module, (str, os.PathLike)):
        return str(module), "", _contents("module", module)
    if isinstance(module, (tuple, list)) and len(module) == 2:
        return str(module[0]), module[1], _contents("module", module[0])
    if isinstance(module, (tuple, list)) and len(module) == 3 and isinstance(module[2], bytes):
        return module[0], module[1], module[2]
    raise ConfigError(f"{module!r} is not a module: give a path, or (path, arguments).")


def _load(vm: VM, data: bytes, spec: loaders.BootSpec) -> None:
    """Write the image into guest memory and put the first vCPU at its entry."""
    entry = loaders.load(data, spec, vm.memory)
    vcpu = vm.vcpu
    vcpu.reset()
    registers = vcpu.registers
    for name, value in entry.regs.items():
        registers.set(name, value)
    for name, segment in entry.segments.items():
        registers.set_segment(name, Segment(*segment))
    registers.set_table("gdtr", Table(*entry.gdtr))
    registers.set_table("idtr", Table(*entry.idtr))
    registers.set("cr3", entry.cr3)
    registers.set("cr4", entry.cr4)
    registers.set("efer", entry.efer)
    registers.set("cr0", entry.cr0)
    vm.symbols.add(entry.symbols)
    if entry.disk is not None:
        _firmware(vm, entry.disk, spec)


def _install_firmware(vm: VM, parts: dict[str, Any], firmware: Any, image: Any) -> Callable[[], None]:
    from hypervisor.machine.firmware import install

    if image is not None:
        raise ConfigError("firmware= boots from the machine's disks: leave the image out.")
    return install(vm, parts, firmware)


def _reload(vm: VM, parts: dict[str, Any], data: bytes, spec: loaders.BootSpec) -> None:
    """After a reset: what firmware does, and the image again."""
    pci_setup.set_up(parts)
    _load(vm, data, spec)


class _Ports:
    """The board's ports as the BIOS reaches them."""

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


def _firmware(vm: VM, disk: bytes, spec: loaders.BootSpec) -> None:
    """Give a boot sector its BIOS; after a reset, power it on again."""
    if vm.firmware is not None:
        vm.firmware.power_on(spec.memory_map, _Ports(vm))
        return
    keys = KeyQueue()
    if vm.console is not None:
        vm.console.keys = keys
    tty = vm.bios_tty.write if vm.bios_tty is not None else lambda data: None

    def note(sentence: str) -> None:
        vm.notes.append(sentence)
        _log.warning(sentence)

    vm.firmware = bios.install(vm, disk, keys, tty, memory_map=spec.memory_map, ports=_Ports(vm), log=note)


@cache
def _cpuid_rows(vcpus: int, number: int) -> list[tuple[int, int, int, int, int, int]]:
    rows = []
    for (leaf, subleaf), answer in cpuid.leaves(vcpus, number, apic=False).items():
        rows.append((leaf, subleaf if leaf in cpuid.SUBLEAVES else -1, answer.eax, answer.ebx, answer.ecx, answer.edx))
    return rows


def install_cpuid(vm: VM) -> None:
    """The built-in CPUID, for exits that a handler listens to; the engine answers the others from the same table."""
    vm.tables.set_cpuid([_cpuid_rows(vm.cpus, number) for number in range(vm.cpus)])
    tables = [cpuid.leaves(vm.cpus, number, apic=False) for number in range(vm.cpus)]

    def answer(vcpu: Any, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        found = cpuid.answer(tables[vcpu.number], leaf, subleaf)
        if leaf != cpuid.LEAF_FEATURES:
            return found
        return found._replace(ecx=found.ecx | (vcpu.cr4 >> 18 & 1) << 27)  # OSXSAVE follows CR4

    vm.builtin_cpuid = answer
    vm.traps.cpuid(lambda vcpu, exit: HANDLED, name="builtin.cpuid", rank="builtin")
