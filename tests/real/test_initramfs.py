"""Our cpio writer against the program that defines the format."""

from __future__ import annotations

import subprocess

from tests.initramfs import APPLETS, POWER_OFF, Entry, initramfs, newc
from tests.programs import program


def test_cpio_lists_what_we_wrote() -> None:
    archive = initramfs(POWER_OFF, b"not really busybox")
    command = [program("cpio"), "--list", "--verbose", "--numeric-uid-gid"]
    done = subprocess.run(command, input=archive, capture_output=True)
    assert done.returncode == 0, done.stderr
    listing = done.stdout.decode()
    assert "bin/sh -> busybox" in listing
    console = next(line for line in listing.splitlines() if line.endswith("dev/console"))
    assert console.startswith("crw-------") and console.split()[4:6] == ["5,", "1"]
    assert len(listing.splitlines()) == 10 + len(APPLETS)


def test_headers_and_data_are_aligned() -> None:
    archive = newc([Entry("a", 0o100644, b"12345"), Entry("bc", 0o100644, b"")])
    assert len(archive) % 512 == 0
    first, second = archive.index(b"070701"), archive.index(b"070701", 1)
    assert first == 0 and second % 4 == 0
    assert archive[112:117] == b"12345"


def test_same_script_same_bytes() -> None:
    assert initramfs(POWER_OFF, b"x") == initramfs(POWER_OFF, b"x")
