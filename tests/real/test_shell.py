"""A person at a terminal, with a shell on Linux's serial console."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.session import Session

INIT = """#!/bin/busybox sh
export PATH=/bin
echo READY
exec /bin/busybox sh
"""


@pytest.fixture
def shell(cloud_kernel: Path, initramfs: Callable[[str], Path]) -> Iterator[Session]:
    command = ["-m", "hypervisor", "run", str(cloud_kernel), "--initrd", str(initramfs(INIT)), "--memory", "128M"]
    session = Session(*command, "--append", "console=ttyS0 acpi=off noapic nolapic quiet")
    session.read_until(b"/ # ")
    yield session
    session.end()


def test_typing_at_a_shell(shell: Session) -> None:
    shell.write(b"echo $((6*7)) is the answer\r")
    shell.read_until(b"\n42 is the answer")
    shell.write(b"busybox sleep 1000\r")
    shell.read_until(b"sleep 1000\r")
    shell.write(b"busybox poweroff -f\r")  # the shell still sleeps: the line waits in the guest
    shell.write(b"\x01x")
    assert shell.process.wait(30) == 121
    shell.wait_restored()
