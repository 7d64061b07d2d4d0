"""The guests of the twin runs: those that are shipped, and real ones from Debian's packages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypervisor as hv
from hypervisor.guests import names
from hypervisor.guests import shipped as guest_of_package
from tests.debian import debian_path, kernel_package
from tests.initramfs import POWER_OFF, initramfs
from tests.programs import run
from tests.real.boot_loaders import grub_cd, grub_disk
from tests.twins.runs import Guest


def shipped() -> dict[str, Guest]:
    """Every guest of the package, on one vCPU; the one for several on two and four, too."""
    found = {name: Guest({"image": name}) for name in names()}
    found |= {f"smp {cpus}": Guest({"image": "smp", "cpus": cpus}) for cpus in (2, 4)}
    return found


def _archive(work: str) -> bytes:
    return initramfs(work, debian_path("busybox-static", "bin/busybox").read_bytes())


def _kernel() -> Path:
    return debian_path(kernel_package(), "boot/vmlinuz-*")


def _seabios() -> str:
    return str(debian_path("seabios", "usr/share/seabios/bios-256k.bin"))


def _ovmf() -> str:
    return str(debian_path("ovmf", "usr/share/ovmf/OVMF.fd"))


def linux(folder: Path, cpus: int, work: str = POWER_OFF) -> Guest:
    """Debian's kernel with a busybox. Its files are put into ``folder``."""
    archive = folder / "initrd"
    archive.write_bytes(_archive(work))
    return Guest(
        {"image": str(_kernel()), "initrd": str(archive), "cpus": cpus, "append": "console=ttyS0", "memory": "128M"},
        patience_s=600,
    )


def linux_by_grub(folder: Path, cpus: int, **options: Any) -> Guest:
    """The same from a CD by GRUB."""
    script = "set timeout=0\nlinux /boot/vmlinuz console=ttyS0\ninitrd /boot/initrd\nboot\n"
    cd = grub_cd(debian_path, folder, {"vmlinuz": _kernel().read_bytes(), "initrd": _archive(POWER_OFF)}, script)
    return Guest({"cdrom": str(cd), "cpus": cpus, "memory": "192M", **options}, patience_s=600)


def _enter(vm: hv.VM) -> None:
    """Somebody who does not wait for the shell's five seconds."""
    vm.run(until="to skip", virtual_timeout=LONGEST_S)
    vm.keyboard.press("enter")


def linux_by_ovmf(folder: Path, cpus: int) -> Guest:
    """The same as a UEFI program, from a FAT disk."""
    disk, script, archive = folder / "disk", folder / "startup.nsh", folder / "initrd"
    script.write_text("fs0:\r\nvmlinuz.efi console=ttyS0 initrd=\\initrd\r\n")
    archive.write_bytes(_archive(POWER_OFF))
    disk.write_bytes(bytes(40 << 20))
    run("mformat", "-i", disk, "-F", "-h", "16", "-s", "63", "-t", "81", "::")
    for source, name in ((_kernel(), "vmlinuz.efi"), (archive, "initrd"), (script, "startup.nsh")):
        run("mcopy", "-i", disk, source, f"::{name}")
    return Guest(
        {"firmware": _ovmf(), "disks": [str(disk)], "cpus": cpus, "memory": "256M"}, person=_enter, patience_s=600
    )


def memtest(cpus: int) -> Guest:
    """memtest86+: its first tests."""
    image = debian_path("memtest86+", "boot/memtest86+x64.bin")
    options = {"image": str(image), "cpus": cpus, "memory": "8M", "append": "nobench nosm nopause console=ttyS0,115200"}
    return Guest(options, MEMTEST_S, patience_s=300)


def grub(folder: Path, **options: Any) -> Guest:
    """GRUB from a disk, and a small kernel by Multiboot."""
    disk = grub_disk(debian_path, folder, guest_of_package("hello32").image)
    return Guest({"disks": [str(disk)], "boot_order": "c", "memory": "16M", **options}, GRUB_S)


def seabios(cpus: int) -> Guest:
    """SeaBIOS, which finds nothing to boot."""
    return Guest({"firmware": _seabios(), "cpus": cpus, "memory": "16M"}, SEABIOS_S)


def ovmf(cpus: int) -> Guest:
    """OVMF on its way to the shell."""
    return Guest({"firmware": _ovmf(), "cpus": cpus, "memory": "128M"}, OVMF_S, patience_s=600)


MEMTEST_S, GRUB_S, SEABIOS_S, OVMF_S, LONGEST_S = 6.0, 1.0, 0.1, 6.0, 60.0
"""How far they are run, in virtual seconds: as far as they do something, and 20 moments take minutes."""

Make = Callable[[Path], Guest]
"""Makes a guest, with its files in a folder. Raises `PackageUnavailable`."""

FIRMWARE: dict[str, Make] = {
    "grub": grub,
    "grub by seabios": lambda folder: grub(folder, firmware=_seabios()),
    "seabios 1": lambda folder: seabios(1),
    "seabios 4": lambda folder: seabios(4),
    "memtest 1": lambda folder: memtest(1),
    "memtest 2": lambda folder: memtest(2),
    "ovmf 1": lambda folder: ovmf(1),
    "ovmf 2": lambda folder: ovmf(2),
}
LINUX: dict[str, Make] = {f"linux {cpus}": lambda folder, cpus=cpus: linux(folder, cpus) for cpus in (1, 2, 4)}
LINUX |= {f"linux by grub {cpus}": lambda folder, cpus=cpus: linux_by_grub(folder, cpus) for cpus in (1, 2, 4)}
LINUX |= {
    f"linux by seabios {cpus}": lambda folder, cpus=cpus: linux_by_grub(folder, cpus, firmware=_seabios())
    for cpus in (1, 2, 4)
}
LINUX |= {f"linux by ovmf {cpus}": lambda folder, cpus=cpus: linux_by_ovmf(folder, cpus) for cpus in (1, 2, 4)}


def person(vm: hv.VM) -> None:
    """Somebody types and moves the mouse before the guest listens: it all waits."""
    vm.keyboard.type("hello, world\n")
    vm.serial[0].send("echo typed at the line\n" * 5)
    vm.mouse.move(5, -3)
    vm.mouse.click()
