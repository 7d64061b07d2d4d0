"""Booting by firmware: a ROM at the reset vector, and what it wants to know of the machine.

The device that tells it is fw_cfg; SeaBIOS finds it when the host bridge is marked as that of an emulated PC. Its log
goes to port 402h.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypervisor.arch.address_map import ram_ranges
from hypervisor.backends.image_source import open_source
from hypervisor.console.streams import Stream
from hypervisor.devices import fw_cfg
from hypervisor.devices import mc146818 as rtc
from hypervisor.devices.debug_ports import DebugConsole
from hypervisor.devices.fw_cfg import FwCfg
from hypervisor.devices.ide import AtaDisk, IdeChannel
from hypervisor.devices.mc146818 import Mc146818
from hypervisor.devices.pci import PciBus
from hypervisor.devices.pci.i440fx import I440Fx
from hypervisor.errors import ConfigError, ImageError
from hypervisor.firmware.shadow import Shadow
from hypervisor.units import KIB, MIB
from hypervisor.vm.board import Parts

if TYPE_CHECKING:
    from hypervisor.vm.vm import VM

SEABIOS = "seabios"
SEABIOS_FILE, VGA_FILE = "bios-256k.bin", "vgabios-stdvga.bin"
DIRECTORIES = ("/usr/share/seabios", "/usr/share/qemu", "/usr/local/share/qemu", "/opt/homebrew/share/qemu")
"""Where distributions put SeaBIOS and its option ROMs."""
MAX_ROM = 16 * MIB
FW_CFG_PORT, LOG_PORT = 0x510, 0x402
VGA = (0x1234, 0x1111)
BOOT_CODES = {"a": 1, "c": 2, "d": 3}
"""CMOS's numbers for the letters of a boot order."""
PLAIN_SECTORS, LBA_ASSISTED = 1024 * 16 * 63, 1
"""A disk with more sectors than these has its geometry translated for INT 13h."""
LEAST_MEMORY = 4 * MIB
"""Bytes of memory below which SeaBIOS has no room for its tables."""


class Firmware:
    """The firmware of one VM, as ``vm.firmware``."""

    def __init__(self, name: str, log: Stream) -> None:
        self.name = name
        self.log = log
        """What it writes to port 402h: SeaBIOS's log."""

    def parts(self) -> list[tuple[str, Stream]]:
        """What of it has a state, by name."""
        return [("firmware log", self.log)]


def read_firmware(firmware: str | os.PathLike[str] | bytes) -> tuple[str, bytes, Path | None]:
    """Name, ROM image and directory of what the user gave: ``"seabios"``, a file, or bytes.

    Raises `ImageError` when it cannot be read or cannot be a ROM.
    """
    if isinstance(firmware, bytes | bytearray | memoryview):
        name, rom, folder = "firmware", bytes(firmware), None
    elif firmware == SEABIOS and not Path(SEABIOS).exists():
        path = _find(SEABIOS_FILE, map(Path, DIRECTORIES))
        if path is None:
            raise ImageError(
                f"firmware {SEABIOS}: {SEABIOS_FILE} is in none of {', '.join(DIRECTORIES)}. Install SeaBIOS (Debian: "
                "apt-get install seabios), or name the file."
            )
        name, rom, folder = SEABIOS, _read(path), path.parent
    elif isinstance(firmware, str | os.PathLike):
        name, rom, folder = str(firmware), _read(firmware), Path(firmware).parent
    else:
        raise ConfigError(f"firmware={firmware!r}: give a file, '{SEABIOS}', or the ROM's bytes.")
    if not rom or len(rom) % (64 * KIB) or len(rom) > MAX_ROM:
        raise ImageError(
            f"{name}: a firmware ROM has a multiple of 64 KiB and at most {MAX_ROM // MIB} MiB; this has {len(rom)} "
            f"bytes. SeaBIOS is {SEABIOS_FILE} or bios.bin."
        )
    return name, rom, folder


def _read(path: str | os.PathLike[str]) -> bytes:
    if not Path(path).exists():
        raise ImageError(f"{path}: there is no such file; give a firmware ROM, or '{SEABIOS}'.")
    source = open_source(path, "firmware ROM")
    try:
        if source.size > MAX_ROM:
            raise ImageError(f"{path} is larger than {MAX_ROM // MIB} MiB; no firmware ROM is.")
        return source.read(0, source.size)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}.") from error
    finally:
        source.close()


def _find(name: str, folders: Iterable[Path]) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def install(
    vm: VM,
    parts: Parts,
    firmware: str | os.PathLike[str] | bytes,
    tables: Mapping[str, fw_cfg.Contents],
) -> None:
    """Give a VM whose board is built its firmware; a reset starts it again. ``tables`` are files of fw_cfg: the board's
    ACPI tables. Raises `ConfigError` and `ImageError`.
    """
    name, rom, folder = read_firmware(firmware)
    bridge, bus, clock = parts.get("i440fx", I440Fx), parts.get("pci", PciBus), parts.get("rtc", Mc146818)
    if bridge is None or bus is None:
        raise ConfigError(f"firmware {name}: the board has no host bridge 'i440fx' on a bus 'pci', which it needs.")
    if vm.memory.size < LEAST_MEMORY:
        raise ConfigError(f"firmware {name} needs at least {LEAST_MEMORY // MIB}M of memory (--memory).")
    log = Stream("the firmware's log", vm)
    Shadow(vm, bridge, rom)
    files: dict[str, fw_cfg.Contents] = {**_files(vm, bus, folder), **tables}
    _attach(vm, FwCfg(vm.dma, _items(vm), files), range(FW_CFG_PORT, FW_CFG_PORT + fw_cfg.SIZE))
    _attach(vm, DebugConsole(log.write, "firmware-log"), range(LOG_PORT, LOG_PORT + 1))
    if clock is not None:
        clock.preset(_cmos(vm, parts))
    vm.firmware = Firmware(name, log)


def _attach(vm: VM, device: Any, ports: range) -> None:
    vm.ports.attach(device, ports)
    vm.devices[device.name] = device


def _items(vm: VM) -> dict[int, bytes]:
    """What fw_cfg tells by number (QEMU ``include/standard-headers/linux/qemu_fw_cfg.h``)."""
    cpus = vm.cpus.to_bytes(2, "little")
    return {
        fw_cfg.UUID: bytes(16),
        fw_cfg.RAM_SIZE: vm.memory.size.to_bytes(8, "little"),
        fw_cfg.NO_GRAPHICS: bytes(2),
        fw_cfg.CPUS: cpus,
        fw_cfg.MAX_CPUS: cpus,
        fw_cfg.NUMA: bytes(8),
        fw_cfg.BOOT_MENU: bytes(2),
        fw_cfg.ACPI_TABLES: bytes(2),
        fw_cfg.SMBIOS: bytes(2),
        fw_cfg.IRQ0_OVERRIDE: b"\1",  # the timer is on input 2 of an IOAPIC
        fw_cfg.E820: bytes(4),
    }


def _cmos(vm: VM, parts: Parts) -> dict[int, int]:
    """What firmware finds in CMOS: in which order to boot, the translation of disks, and how many processors wait."""
    order = [BOOT_CODES[letter] for letter in vm.media.order] + [0, 0]
    translation = 0
    channels = [parts.get(name, IdeChannel) for name in ("ide0", "ide1")]
    drives = [drive for channel in channels for drive in (channel.drives if channel is not None else (None, None))]
    for number, drive in enumerate(drives):
        if isinstance(drive, AtaDisk) and drive.medium.sectors > PLAIN_SECTORS:
            translation |= LBA_ASSISTED << 2 * number
    return {
        rtc.BOOT_2: order[2] << 4,
        rtc.TRANSLATION: translation,
        rtc.BOOT_1: order[0] | order[1] << 4,
        rtc.MORE_CPUS: vm.cpus - 1,
    }


def _files(vm: VM, bus: PciBus, folder: Path | None) -> dict[str, bytes]:
    files = {"etc/e820": _e820(vm.memory.size)}
    folders = [*([folder] if folder else []), *map(Path, DIRECTORIES)]
    rom = _find(VGA_FILE, folders)
    if rom is not None:
        there = any((f.identity.vendor, f.identity.device) == VGA for f in bus.functions.values())
        files["pci{:04x},{:04x}.rom".format(*VGA) if there else "vgaroms/vgabios.bin"] = _read(rom)
    return files


def _e820(size: int) -> bytes:
    """RAM as fw_cfg tells of it: from 0 on, holes included, for firmware to take its own parts from."""
    return b"".join(struct.pack("<QQI", start, length, 1) for start, length in ram_ranges(size))


__all__ = ["Firmware", "install", "read_firmware"]
