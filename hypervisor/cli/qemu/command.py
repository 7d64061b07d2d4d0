"""What a QEMU command line asks for, as values. Nothing here knows our machine yet."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypervisor.cli.qemu.ends.host_ends import End

PROGRAM = "hypervisor-qemu"


@dataclass
class Drive:
    """A drive of ``-drive``, ``-hda`` and their like. ``index`` is its place on the interface, None for the next."""

    file: str
    interface: str = "ide"
    index: int | None = None
    cdrom: bool = False
    snapshot: bool = False
    readonly: bool = False
    id: str = ""


@dataclass
class DebugPort:
    """A debug console: its port, and the end that its text goes to."""

    port: int
    end: End


@dataclass
class ExitPort:
    """An isa-debug-exit: its first port and how many it has, as QEMU has them by default."""

    port: int = 0x501
    size: int = 2


@dataclass
class Command:
    """Everything that was asked for. Ends of serial ports, monitors and debug consoles are those of
    `hypervisor.cli.qemu.ends.host_ends`.
    """

    kernel: str | None = None
    initrd: str | None = None
    append: str = ""
    memory: int = 128 << 20
    cpus: int = 1
    drives: list[Drive] = field(default_factory=list)
    cd_drive: bool | None = None
    """Whether there is a CD drive without a CD; None: unless another drive is where it would be."""
    boot: str | None = None
    bios: str | None = None
    folders: list[str] = field(default_factory=list)
    """Where firmware is looked for (``-L``)."""
    serials: list[End] = field(default_factory=list)
    monitors: list[End] = field(default_factory=list)
    qmp: list[End] = field(default_factory=list)
    chardevs: dict[str, End] = field(default_factory=dict)
    """Ends by the id that ``-chardev`` gives them."""
    defaults: bool = True
    """What is there without being asked for: a serial port, a monitor."""
    debug_ports: list[DebugPort] = field(default_factory=list)
    debug_port: int = 0xE9
    """Where ``-debugcon`` answers."""
    exit_port: ExitPort | None = None
    nographic: bool = False
    display: bool = True
    logs: list[str] = field(default_factory=list)
    """Items of ``-d``."""
    log_file: str | None = None
    reboot: bool = True
    shutdown: bool = True
    snapshot: bool = False
    stopped: bool = False
    gdb_port: int | None = None
    virtual: bool = False
    """Virtual time follows the guest's instructions (``-icount``)."""
    start: str = "utc"
    """``base`` of ``-rtc``."""
    pid_file: str | None = None
    name: str | None = None
    notes: list[str] = field(default_factory=list)
    """What is other than under QEMU, as sentences."""

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)
