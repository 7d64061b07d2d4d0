"""Real boot loaders from their media, under SeaBIOS and under the built-in BIOS, beside QEMU with the same files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.guests import shipped
from tests.qemu_screen import screen_under_qemu
from tests.real import boot_loaders
from tests.real.boot_loaders import GRUB, DebianFile

QEMU_BOARD = ("-nodefaults", "-vga", "std", "-m", "64", "-global", "apic-common.vapic=off")
"""QEMU's PC with what ours has; its option ROM for Windows guests would change the order of boot attempts."""
KERNEL = shipped("hello32").image
KERNEL_SAYS = ("GRUB reads its configuration", "command line: one two")


@dataclass(frozen=True)
class Medium:
    """A loader on its medium. ``last`` is what it shows when it is done, in no order."""

    make: Callable[[DebianFile, Path], Path]
    drive: str
    last: tuple[str, ...]

    def ours(self, path: Path) -> dict[str, Any]:
        drive: dict[str, Any] = {"a": {"floppy": path}, "c": {"disks": [path]}, "d": {"cdrom": path}}[self.drive]
        return {**drive, "boot_order": self.drive}

    def qemu(self, path: Path) -> tuple[str, ...]:
        kind = {"a": "if=floppy", "c": "if=ide", "d": "if=ide,media=cdrom,index=2"}[self.drive]
        return ("-drive", f"{kind},format=raw,snapshot=on,file={path}", "-boot", f"order={self.drive}")


MEDIA = {
    "grub-disk": Medium(lambda files, tmp: boot_loaders.grub_disk(files, tmp, KERNEL), "c", KERNEL_SAYS),
    "grub-cd": Medium(
        lambda files, tmp: boot_loaders.grub_cd(files, tmp, {"kernel": KERNEL}, GRUB.format(folder="/boot")),
        "d",
        KERNEL_SAYS,
    ),
    "syslinux-floppy": Medium(boot_loaders.syslinux_floppy, "a", ("boot:",)),
    "isolinux-cd": Medium(boot_loaders.isolinux_cd, "d", ("boot:",)),
    "ipxe-cd": Medium(
        lambda files, _: files("ipxe", "usr/lib/ipxe/ipxe.iso"),
        "d",
        ("No more network devices", "Press Ctrl-B for the iPXE command line..."),
    ),
}


@pytest.fixture(params=MEDIA, scope="module")
def medium(
    request: pytest.FixtureRequest, debian_file: DebianFile, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Medium, Path, str]:
    """A medium, its file, and what QEMU shows in the end."""
    directory = tmp_path_factory.mktemp(request.param)
    chosen = MEDIA[request.param]
    path = chosen.make(debian_file, directory)
    return (
        chosen,
        path,
        screen_under_qemu((*QEMU_BOARD, *chosen.qemu(path)), lambda text: done(chosen, text), directory),
    )


def done(medium: Medium, screen: str) -> bool:
    """Whether the loader has shown its last words."""
    return all(words in screen for words in medium.last)


def run(medium: Medium, path: Path, **options: Any) -> str:
    """Our screen when the loader is done."""
    with closing(hv.boot(memory="64M", **medium.ours(path), **options)) as vm:
        result = vm.run(until=lambda: done(medium, vm.screen.text), timeout=120, virtual_timeout=60)
        screen: str = vm.screen.text.rstrip()
    assert done(medium, screen), f"{result.reason}: {result.message}\n{screen}"
    return screen


def test_under_seabios_the_screen_is_that_of_qemu(medium: tuple[Medium, Path, str], debian_file: DebianFile) -> None:
    chosen, path, expected = medium
    firmware = debian_file("seabios", "usr/share/seabios/bios-256k.bin")
    assert run(chosen, path, firmware=firmware) == expected


def test_under_the_built_in_bios_the_loader_says_the_same(medium: tuple[Medium, Path, str]) -> None:
    """But for the lines that SeaBIOS writes first, and the kernel's, which lie over them; and SeaBIOS has no LBA calls
    for diskettes.
    """
    chosen, path, expected = medium
    assert own_lines(run(chosen, path).replace("6.04 EDD", "6.04 CHS")) == own_lines(expected)


def own_lines(screen: str) -> list[str]:
    lines = [line for line in screen.splitlines() if line]
    first = next(n for n, line in enumerate(lines) if "LINUX 6.04" in line or "GRUB reads" in line)
    return lines[first:]


def test_ipxe_as_a_kernel_shows_its_prompt_as_under_qemu(debian_file: DebianFile, tmp_path: Path) -> None:
    """A program that looks like a Linux kernel with a 16-bit entry alone; Ctrl-B leads to its prompt."""
    kernel = debian_file("ipxe", "boot/ipxe.lkrn")
    words = MEDIA["ipxe-cd"].last
    options = (*QEMU_BOARD, "-kernel", str(kernel))
    expected = screen_under_qemu(options, lambda text: all(one in text for one in words), tmp_path)
    with closing(hv.boot(kernel)) as vm:
        vm.run(until=lambda: all(one in vm.screen.text for one in words), timeout=60)
        screen = vm.screen.text.rstrip()
        vm.keyboard.press("ctrl", "b")
        assert vm.run(until=lambda: "iPXE>" in vm.screen.text, timeout=60).reason is hv.Reason.UNTIL, vm.screen.text
    assert screen == expected[expected.index("iPXE initialising") :]


def test_memdisk_boots_the_diskette_that_is_its_initrd(debian_file: DebianFile, tmp_path: Path) -> None:
    """A kernel of boot protocol 2.03, that hooks INT 13h and the memory map and boots from memory."""
    floppy = boot_loaders.syslinux_floppy(debian_file, tmp_path)
    kernel = debian_file("syslinux-common", "usr/lib/syslinux/memdisk")
    options = (*QEMU_BOARD, "-kernel", str(kernel), "-initrd", str(floppy))
    expected = screen_under_qemu(options, lambda text: "boot:" in text, tmp_path)
    with closing(hv.boot(kernel, initrd=floppy)) as vm:
        vm.run(until=lambda: "boot:" in vm.screen.text, timeout=60, virtual_timeout=60)
        screen = vm.screen.text
    for words in ("MEMDISK 6.04", "C/H/S = 80/2/18", "SYSLINUX 6.04 CHS"):
        assert words in screen and words in expected
    assert own_lines(screen) == own_lines(expected)


@pytest.mark.parametrize("firmware", [None, "seabios"])
def test_memtest_from_its_cd_tests_with_every_processor(debian_file: DebianFile, firmware: str | None) -> None:
    """By El Torito, with SMP on: both processors test for a second of the guest's time, and find no error."""
    options: dict[str, Any] = {}
    if firmware is not None:
        options["firmware"] = debian_file("seabios", "usr/share/seabios/bios-256k.bin")
    cd = debian_file("memtest86+", "usr/lib/memtest86+/memtest86+x64.iso")
    with closing(hv.boot(memory="8M", cpus=2, cdrom=cd, **options)) as vm:
        result = vm.run(until="Time:  0:00:01", timeout=120)
        screen = vm.screen.text
    assert result.reason is hv.Reason.UNTIL, screen
    assert "Memtest86+ v6.10" in screen
    assert "CPU: 2 Cores 2 Threads    SMP: 2T" in screen
    assert "Errors: 0" in screen
