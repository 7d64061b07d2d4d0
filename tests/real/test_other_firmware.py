"""Firmware besides SeaBIOS from Debian packages, unmodified: OVMF, which is UEFI, and U-Boot for QEMU's PC."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv


def test_the_uefi_shell_finds_the_board_and_powers_off(debian_file: Callable[[str, str], Path]) -> None:
    firmware = debian_file("ovmf", "usr/share/ovmf/OVMF.fd")
    with closing(hv.boot(firmware=firmware, memory="128M", cpus=2)) as vm:
        vm.serial[0].expect("Press .*ESC.* in 5 seconds", timeout=100)
        vm.keyboard.press("esc")
        vm.serial[0].expect("Shell> ", timeout=60)
        assert str(vm.screen.mode) == "1280x800x32"
        vm.keyboard.type("pci\n")
        found = vm.serial[0].expect("Display Controller[^>]*Vendor 1234 Device 1111", timeout=60)
        for words in ("Vendor 8086 Device 1237", "IDE controller", "Vendor 8086 Device 7113"):
            assert words in found.before
        vm.keyboard.type("reset -s\n")
        result = vm.run(timeout=60)
    assert result.reason is hv.Reason.POWERED_OFF, result.message


@pytest.mark.parametrize("build", ["qemu-x86", "qemu-x86_64"])
def test_u_boot_finds_the_board_and_resets(debian_file: Callable[[str, str], Path], build: str) -> None:
    """By cache-as-RAM and, in the second, by long mode."""
    firmware = debian_file("u-boot-qemu", f"usr/lib/u-boot/{build}/u-boot.rom")
    with closing(hv.boot(firmware=firmware, memory="128M")) as vm:
        vm.serial[0].expect("Hit any key to stop autoboot", timeout=60)
        vm.serial[0].send(" ")
        vm.serial[0].expect("=> ", timeout=60)
        vm.serial[0].send("pci\r")
        found = vm.serial[0].expect("=> ", timeout=60)
        for ids in ("0x8086     0x1237", "0x8086     0x7010", "0x1234     0x1111"):
            assert ids in found.before
        vm.serial[0].send("reset\r")
        result = vm.run(timeout=60)
    assert result.reason is hv.Reason.RESET, result.message
