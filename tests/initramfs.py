"""An initramfs with busybox, written in pure Python: the "newc" cpio format that Linux unpacks.

Format: Documentation/driver-api/early-userspace/buffer-format.rst of the Linux kernel. Every header is 110 bytes of
ASCII hex; names and file contents are padded to 4 bytes. Nothing in the archive depends on the machine or the date, so
the same init script always gives the same bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

APPLETS = ("sh", "mount", "echo", "cat", "ls", "sleep", "poweroff", "reboot", "true", "printf", "dd", "seq", "mkdir")

READY = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
echo READY
"""
"""The shortest useful init: it mounts what programs expect and says so. Add what comes after: init must not return."""

POWER_OFF = READY + "exec poweroff -f\n"
RESET = READY + "exec reboot -f\n"
"""The machine resets right after READY, which ends a run that does not allow it (``qemu -no-reboot``)."""
SLEEP = READY + "exec sleep 1000000\n"
SPIN = READY + "while true; do :; done\n"


@dataclass(frozen=True)
class Entry:
    """One file, directory, link or device of the archive; ``mode`` has the file type in it, as in ``st_mode``."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def newc(entries: Iterable[Entry]) -> bytes:
    """The entries as a cpio archive, closed by its trailer and padded to 512 bytes."""
    out = bytearray()
    for inode, entry in enumerate((*entries, Entry("TRAILER!!!", 0)), start=1):
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        major, minor = entry.device
        # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, major, minor, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % 4) + entry.data
        out += bytes(-len(out) % 4)
    return bytes(out) + bytes(-len(out) % 512)


def initramfs(init_script: str, busybox: bytes) -> bytes:
    """An archive whose ``/init`` is ``init_script``; every name in `APPLETS` is a link to ``busybox``."""
    directories = ("bin", "dev", "proc", "sys", "tmp")
    entries = [Entry(name, stat.S_IFDIR | 0o755) for name in directories]
    # The kernel opens /dev/console for init before anything can mount a devtmpfs.
    entries.append(Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)))
    entries.append(Entry("dev/ttyS0", stat.S_IFCHR | 0o600, device=(4, 64)))
    entries.append(Entry("dev/null", stat.S_IFCHR | 0o666, device=(1, 3)))
    entries.append(Entry("bin/busybox", stat.S_IFREG | 0o755, busybox))
    entries += [Entry(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox") for applet in APPLETS]
    entries.append(Entry("init", stat.S_IFREG | 0o755, init_script.encode()))
    return newc(entries)
