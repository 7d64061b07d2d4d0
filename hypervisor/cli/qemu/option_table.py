"""QEMU's options: what each means, or why it is not there and what to use instead.

A row is (names, what a value is called or None for none, a function of `meanings`, help). In place of the function,
None stands for an option that is accepted and changes nothing that a guest could see here, and a text for one that is
refused. Source of names: QEMU 7.2, ``qemu-options.hx``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hypervisor.cli.qemu import device_options, drive_options, meanings
from hypervisor.cli.qemu.command import PROGRAM, Command
from hypervisor.cli.qemu.parsing import read
from hypervisor.errors import ConfigError


class Row(NamedTuple):
    """An option."""

    names: str
    value: str | None
    meaning: meanings.Meaning | str | None
    help: str = ""


_at, _switch, _keep = drive_options.at, meanings.switch, meanings.keep
_NO_NETWORK = "there is no network card on this board"

ROWS = (
    Row("kernel", "FILE", _keep("kernel"), "multiboot, Linux or ELF kernel"),
    Row("initrd", "FILE", _keep("initrd"), "ramdisk of Linux; modules of a multiboot kernel: FILE [ARGS],..."),
    Row("append", "TEXT", _keep("append"), "kernel command line"),
    Row("hda", "FILE", _at("ide", 0), "hard disk 0; a FILE alone is this, too"),
    Row("hdb", "FILE", _at("ide", 1), "hard disk 1"),
    Row("hdc", "FILE", _at("ide", 2), "hard disk 2"),
    Row("hdd", "FILE", _at("ide", 3), "hard disk 3"),
    Row("fda", "FILE", _at("floppy", 0), "diskette"),
    Row("fdb", "FILE", "there is one diskette drive; use -fda"),
    Row("cdrom", "FILE", _at("ide", 2, cdrom=True), "CD"),
    Row("drive", "file=FILE,...", drive_options.drive, "format=raw,if=ide|floppy|pflash,index=N,media=disk|cdrom"),
    Row("pflash", "FILE", _at("pflash", None), "firmware as flash memory"),
    Row("bios", "FILE", _keep("bios"), "firmware; the built-in BIOS without it"),
    Row("L", "FOLDER", meanings.more("folders"), "where firmware is looked for"),
    Row("m", "SIZE", meanings.memory, "memory, in MiB unless it says otherwise; 128M"),
    Row("smp", "N", meanings.processors, "processors"),
    Row("boot", "ORDER", meanings.boot, "a floppy, c disk, d CD"),
    Row("serial", "END", meanings.serial, "stdio, mon:stdio, file:PATH, unix:PATH, tcp:127.0.0.1:PORT, null"),
    Row("monitor", "END", meanings.monitor, "the same"),
    Row("debugcon", "END", meanings.debugcon, "debug console at port e9h"),
    Row("qmp", "END", meanings.qmp, "QMP there: unix:PATH,server=on,wait=off, tcp:127.0.0.1:PORT,..., stdio"),
    Row("chardev", "BACKEND,id=ID", meanings.chardev, "stdio, file, socket or null, with a name"),
    Row("mon", "chardev=ID", meanings.mon, "a monitor there; mode=control is QMP"),
    Row("nographic", None, meanings.nographic, "serial port and monitor on this terminal, no screen"),
    Row("display", "KIND", meanings.display, "none, or the screen on this terminal"),
    Row("curses", None, _switch("display", True), "the screen on this terminal"),
    Row("vnc", "DISPLAY", "the screen is shown on this terminal; use -display curses"),
    Row("spice", "OPTIONS", "the screen is shown on this terminal; use -display curses"),
    Row("vga", "KIND", meanings.vga, "std"),
    Row("device", "NAME,...", device_options.device, "isa-debug-exit,iobase=PORT,iosize=N; isa-debugcon; ide-hd"),
    Row("global", "NAME=VALUE", meanings.globally, "isa-debugcon.iobase=PORT"),
    Row("d", "ITEM,...", meanings.debug_items, "log of int, cpu_reset, guest_errors"),
    Row("D", "FILE", _keep("log_file"), "where the log goes"),
    Row("no-reboot", None, _switch("reboot", False), "end, with status 0, when the guest asks for a reset"),
    Row("no-shutdown", None, _switch("shutdown", False), "stand still where QEMU would end"),
    Row("action", "WHAT=ACTION", meanings.action, "reboot=reset|shutdown, shutdown=poweroff|pause"),
    Row("s", None, _switch("gdb_port", 1234), "the same as -gdb tcp::1234"),
    Row("gdb", "tcp::PORT", meanings.gdb, "let gdb debug the guest"),
    Row("S", None, _switch("stopped", True), "hold the guest until gdb or the monitor lets it go"),
    Row("accel", "NAME", meanings.accelerator, "any: guests run under Unicorn"),
    Row("enable-kvm", None, None, "as -accel"),
    Row("no-kvm", None, None),
    Row("cpu", "MODEL", None, "any: the processor is the one of docs/machine.md"),
    Row("machine M", "KIND", meanings.machine, "pc"),
    Row("rtc", "base=DATE", meanings.clock, "utc, localtime, or 2026-01-31T12:00:00"),
    Row("icount", "shift=N", meanings.icount, "time by the guest's instructions: runs repeat"),
    Row("snapshot", None, meanings.snapshot, "files are not written"),
    Row("nodefaults", None, _switch("defaults", False), "no serial port and no monitor unless asked for"),
    Row("net", "none", meanings.network("-net"), "no network"),
    Row("nic", "none", meanings.network("-nic"), "no network"),
    Row("name", "NAME", _keep("name"), "what messages call the machine"),
    Row("pidfile", "FILE", _keep("pid_file"), "written with the process's number"),
    *(Row(names, None, None) for names in (
        "no-user-config", "nodefconfig", "no-acpi", "no-hpet", "no-fd-bootchk", "no-quit", "full-screen", "usb",
        "win2k-hack", "nouserconfig", "rtc-td-hack", "localtime",
    )),
    *(Row(names, "VALUE", None) for names in (
        "k", "uuid", "smbios", "fw_cfg", "overcommit", "msg", "sandbox", "audio", "audiodev", "soundhw", "parallel",
        "boot-splash", "vcpu", "compat", "tb-size", "balloon",
    )),
    Row("netdev", "OPTIONS", f"{_NO_NETWORK}; leave it and its -device out"),
    Row("usbdevice", "NAME", "there is no USB; the keyboard and the mouse are PS/2: leave it out"),
    Row("virtfs", "OPTIONS", "no folder of the host is shared; put the files on a disk (mtools)"),
    Row("fsdev", "OPTIONS", "no folder of the host is shared; put the files on a disk (mtools)"),
    Row("blockdev", "OPTIONS", "use -drive file=FILE,format=raw,if=ide"),
    Row("object", "OPTIONS", "there are no such objects; leave it out"),
    Row("numa", "OPTIONS", "there is one node of memory; leave it out"),
    Row("dtb", "FILE", "PCs have no device tree; leave it out"),
    Row("sd", "FILE", "there is no SD card reader; use -hda"),
    Row("mtdblock", "FILE", "there is no such memory; use -hda"),
    Row("daemonize", None, "this process stays where it is; start it with & or by a service manager"),
    Row("incoming", "URI", "no machine comes from elsewhere; `hypervisor run FILE` goes on from a saved one"),
    Row("loadvm", "NAME", "there are no snapshots in images; `hypervisor run FILE` goes on from a saved machine"),
    Row("trace", "EVENT", "there are no such events; handlers see every exit (docs/traps.md)"),
    Row("plugin", "FILE", "TCG plugins are not loaded; handlers see every exit (docs/traps.md)"),
    Row("semihosting", None, "PCs have no semihosting; isa-debug-exit ends a run with a status"),
    Row("chroot", "FOLDER", "leave it out"),
    Row("runas", "USER", "leave it out; start it as that user"),
    Row("readconfig", "FILE", "give the options on the command line"),
    Row("h help", None, None, "this list"),
    Row("version", None, None, "the version"),
)  # fmt: skip

BY_NAME = {name: row for row in ROWS for name in row.names.split()}


def understood(words: Sequence[str]) -> Command:
    """What a command line asks for. Raises `ConfigError`."""
    command = Command()
    for name, value in read(words, {name: row.value is not None for name, row in BY_NAME.items()}):
        if not name:
            _at("ide", 0)(command, value or "")
            continue
        meaning = BY_NAME[name].meaning
        if isinstance(meaning, str):
            raise ConfigError(f"-{name}: {meaning}.")
        if meaning is not None:
            try:
                meaning(command, value or "")
            except ConfigError as error:
                text = str(error)
                raise ConfigError(text if text.startswith("-") else f"-{name} {value}: {text}") from error
    return command


def help_text() -> str:
    """The options that do something, one a line as QEMU's ``-help`` has them (Makefiles grep there)."""
    lines = [f"usage: {PROGRAM} [options] [disk_image]", ""]
    for row in ROWS:
        if row.help and not isinstance(row.meaning, str):
            for name in row.names.split():
                lines.append(f"{f'-{name} {row.value}' if row.value else f'-{name}':<28} {row.help}")
    return "\n".join(lines)
