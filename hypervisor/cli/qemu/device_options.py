"""What ``-device`` means: the devices that this board has or can have, and what to use in place of the others."""

from __future__ import annotations

from hypervisor.cli.qemu.command import Command, DebugPort, ExitPort
from hypervisor.cli.qemu.drive_options import attach
from hypervisor.cli.qemu.ends.host_ends import End
from hypervisor.cli.qemu.parsing import number, pairs
from hypervisor.errors import ConfigError

THERE = frozenset((
    "VGA", "isa-vga", "i8042", "isa-ide", "piix3-ide", "isa-fdc", "isa-parallel", "mc146818rtc",
))  # fmt: skip
"""What is on the board without being asked for, or does nothing for a guest that does not look for it."""
_PLUGIN = "vm.attach() gives a machine a device of your own (docs/contributing.md)"
ELSEWHERE = {
    "virtio": f"there are no virtio devices; IDE, VGA and PS/2 are there, and {_PLUGIN}",
    "e1000": "there is no network card; `-net none` says so to QEMU, too",
    "rtl8139": "there is no network card; `-net none` says so to QEMU, too",
    "ne2k": "there is no network card; `-net none` says so to QEMU, too",
    "pcnet": "there is no network card; `-net none` says so to QEMU, too",
    "i82": "there is no network card; `-net none` says so to QEMU, too",
    "usb": "there is no USB; the keyboard and the mouse are PS/2, and disks are IDE",
    "qemu-xhci": "there is no USB; the keyboard and the mouse are PS/2, and disks are IDE",
    "nec-usb": "there is no USB; the keyboard and the mouse are PS/2, and disks are IDE",
    "piix3-usb": "there is no USB; the keyboard and the mouse are PS/2, and disks are IDE",
    "ahci": "there is no AHCI; disks are IDE: -drive file=FILE,format=raw,if=ide",
    "ich9-ahci": "there is no AHCI; disks are IDE: -drive file=FILE,format=raw,if=ide",
    "nvme": "there is no NVMe; disks are IDE: -drive file=FILE,format=raw,if=ide",
    "megasas": "there is no SCSI; disks are IDE: -drive file=FILE,format=raw,if=ide",
    "lsi": "there is no SCSI; disks are IDE: -drive file=FILE,format=raw,if=ide",
    "AC97": "there is no sound card; the speaker's tones are vm.speaker.events",
    "sb16": "there is no sound card; the speaker's tones are vm.speaker.events",
    "intel-hda": "there is no sound card; the speaker's tones are vm.speaker.events",
    "hda": "there is no sound card; the speaker's tones are vm.speaker.events",
    "ES1370": "there is no sound card; the speaker's tones are vm.speaker.events",
    "pvpanic": "there is none; isa-debug-exit ends a run with a status",
    "loader": "nothing is put into memory by it; -kernel loads an ELF file, and vm.memory.write() bytes",
}
_DRIVES = ("ide-hd", "ide-cd", "ide-drive", "floppy")


def device(command: Command, text: str) -> None:
    """``-device NAME,key=value,...``. Raises `ConfigError` for a device that is not there."""
    keys = pairs(text, "driver")
    name = keys.get("driver", "")
    if name == "isa-debug-exit":
        usual = ExitPort()
        command.exit_port = ExitPort(
            number(keys.get("iobase", hex(usual.port))), number(keys.get("iosize", hex(usual.size)))
        )
        if not (0 <= command.exit_port.port <= 0xFFFF and 1 <= command.exit_port.size <= 8):
            raise ConfigError(f"-device {text}: give iobase= a port and iosize= 1 to 8 of them.")
    elif name == "isa-debugcon":
        end = _end(command, name, keys)
        command.debug_ports.append(DebugPort(number(keys.get("iobase", "0xe9")), end))
    elif name == "isa-serial":
        command.serials.append(_end(command, name, keys))
    elif name in _DRIVES:
        place = number(keys["unit"]) if "unit" in keys else None
        if keys.get("bus", "").startswith("ide."):
            place = int(keys["bus"][4:] or 0) * 2 + (place or 0)
        interface = "floppy" if name == "floppy" else "ide"
        attach(command, keys.get("drive", ""), interface=interface, index=place, cdrom=name == "ide-cd", device=name)
    elif name not in THERE:
        raise ConfigError(f"-device {name}: {_instead(name)}.")


def _end(command: Command, name: str, keys: dict[str, str]) -> End:
    id = keys.get("chardev", "")
    if id not in command.chardevs:
        raise ConfigError(f"-device {name}: there is no -chardev with id={id or 'ID'} before it; give one.")
    return command.chardevs[id]


def _instead(name: str) -> str:
    for start, text in ELSEWHERE.items():
        if name.startswith(start):
            return text
    return f"there is no such device on this board, which docs/machine.md lists; {_PLUGIN}"
