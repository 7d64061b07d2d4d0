"""Debian's cloud kernel from a CD by GRUB, with ACPI, APICs and two processors, to userspace and a clean power-off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv
from tests.initramfs import POWER_OFF
from tests.real.boot_loaders import DebianFile, grub_cd

CONFIGURATION = "set timeout=0\nlinux /boot/vmlinuz console=ttyS0\ninitrd /boot/initrd\nboot\n"


@pytest.fixture(scope="module")
def cd(
    debian_file: DebianFile,
    cloud_kernel: Path,
    initramfs: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    files = {"vmlinuz": cloud_kernel.read_bytes(), "initrd": initramfs(POWER_OFF).read_bytes()}
    return grub_cd(debian_file, tmp_path_factory.mktemp("linux"), files, CONFIGURATION)


@pytest.mark.parametrize("firmware", ["seabios", pytest.param(None, marks=pytest.mark.stress)])
def test_linux_powers_off(debian_file: DebianFile, cd: Path, firmware: str | None) -> None:
    rom = None if firmware is None else debian_file("seabios", "usr/share/seabios/bios-256k.bin")
    with closing(hv.boot(memory="192M", cpus=2, cdrom=cd, firmware=rom)) as vm:
        result = vm.run(timeout=200)
        text = vm.serial[0].text
    assert result.reason is hv.Reason.POWERED_OFF, f"{result.message}\n{text[-2000:]}"
    for line in ("READY", "smp: Brought up 1 node, 2 CPUs", "ACPI: PM: Preparing to enter system sleep state S5"):
        assert line in text, text[-4000:]
    assert "pci 0000:00:02.0: [1234:1111]" in text
    for complaint in ("BUG:", "WARNING:", "Oops", "Call Trace", "soft lockup", "ACPI Error", "ACPI BIOS Error"):
        assert complaint not in text
