"""GRUB's graphical terminal, through VBE: its picture is the one that QEMU and SeaBIOS show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hypervisor as hv
from tests.real.boot_loaders import grub_cd
from tests.screen import qemu

CONFIGURATION = """set timeout=0
insmod all_video
insmod gfxterm
insmod iorw
set gfxmode=800x600x32
loadfont /boot/grub/fonts/unicode.pf2
terminal_output gfxterm
set color_normal=yellow/blue
clear
echo "GRUB draws this"
outb 0xe9 68
sleep 1000
"""


def test_grubs_picture_is_qemus(debian_file: Callable[[str, str], Path], tmp_path: Path) -> None:
    cd = grub_cd(debian_file, tmp_path, {}, CONFIGURATION)
    with hv.boot(cdrom=str(cd), memory="64M") as vm:
        result = vm.run(until=vm.debugcon.contains("D"), timeout=120)
        assert result.reason is hv.Reason.UNTIL, result.message
        assert str(vm.screen.mode) == "800x600x32"
        ours = vm.screen.pixels
    theirs = qemu.picture(["-m", "64", "-cdrom", str(cd)], tmp_path)
    assert (ours == theirs).all()
    assert {(0, 0, 168), (254, 254, 84)} <= {tuple(colour) for colour in ours.reshape(-1, 3).tolist()}
