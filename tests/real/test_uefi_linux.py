"""Debian's cloud kernel as a UEFI program: OVMF starts it from a FAT disk, by the kernel's own EFI stub."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv
from tests.initramfs import POWER_OFF
from tests.programs import run

SCRIPT = "fs0:\r\nvmlinuz.efi console=ttyS0 initrd=\\initrd\r\n"


@pytest.mark.stress
def test_it_finds_the_tables_that_uefi_has_placed_and_powers_off(
    debian_file: Callable[[str, str], Path], cloud_kernel: Path, initramfs: Callable[[str], Path], tmp_path: Path
) -> None:
    disk, script = tmp_path / "disk", tmp_path / "startup.nsh"
    script.write_text(SCRIPT)
    disk.write_bytes(bytes(40 << 20))
    run("mformat", "-i", disk, "-F", "-h", "16", "-s", "63", "-t", "81", "::")
    for source, name in ((cloud_kernel, "vmlinuz.efi"), (initramfs(POWER_OFF), "initrd"), (script, "startup.nsh")):
        run("mcopy", "-i", disk, source, f"::{name}")
    firmware = debian_file("ovmf", "usr/share/ovmf/OVMF.fd")
    with closing(hv.boot(firmware=firmware, memory="256M", cpus=2, disks=[disk])) as vm:
        vm.run(until="to skip", timeout=100)
        vm.keyboard.press("enter")
        result = vm.run(timeout=300)
        text = vm.serial[0].text
    assert result.reason is hv.Reason.POWERED_OFF, f"{result.message}\n{text[-3000:]}"
    assert "efi: EFI v2.70 by EDK II" in text
    assert "smp: Brought up 1 node, 2 CPUs" in text
    assert "READY" in text
