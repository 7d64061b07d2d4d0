"""Disks, diskettes and CDs with real boot loaders on them, made with the loaders' own programs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.programs import run

DebianFile = Callable[[str, str], Path]

GRUB = """set timeout=0
set pager=0
echo "GRUB reads its configuration"
multiboot {folder}/kernel one two
boot
"""
GRUB_MODULES = "biosdisk memdisk tar echo multiboot normal boot".split()
SYSLINUX = "PROMPT 1\nTIMEOUT 0\nSAY Syslinux reads its configuration\n"


def grub_disk(debian_file: DebianFile, directory: Path, kernel: bytes) -> Path:
    """A hard disk with GRUB before its first partition would be; the kernel is in GRUB's memory disk."""
    modules = debian_file("grub-pc-bin", "usr/lib/grub/i386-pc/boot.img").parent
    (directory / "kernel").write_bytes(kernel)
    (directory / "grub.cfg").write_text(GRUB.format(folder="(memdisk)"))
    run("tar", "-C", directory, "-cf", directory / "memdisk.tar", "kernel")
    core = directory / "core.img"
    run(
        "grub-mkimage", "-O", "i386-pc", "-d", modules, "-o", core, "-p", "(memdisk)/",
        "-c", directory / "grub.cfg", "-m", directory / "memdisk.tar", *GRUB_MODULES,
    )  # fmt: skip
    disk = directory / "grub.img"
    disk.write_bytes(((modules / "boot.img").read_bytes() + core.read_bytes()).ljust(8 << 20, b"\0"))
    return disk


def grub_cd(debian_file: DebianFile, directory: Path, files: Mapping[str, bytes], configuration: str) -> Path:
    """A CD by grub-mkrescue, as many tutorials make one, with ``files`` in /boot."""
    modules = debian_file("grub-pc-bin", "usr/lib/grub/i386-pc/boot.img").parent
    root = directory / "cd"
    (root / "boot/grub").mkdir(parents=True)
    for name, contents in files.items():
        (root / "boot" / name).write_bytes(contents)
    (root / "boot/grub/grub.cfg").write_text(configuration)
    cd = directory / "grub.iso"
    run("grub-mkrescue", "-d", modules, "-o", cd, root)
    return cd


def syslinux_floppy(debian_file: DebianFile, directory: Path) -> Path:
    """A diskette with a FAT file system and SYSLINUX, whose installer comes with the loader inside."""
    floppy = directory / "syslinux.img"
    (directory / "syslinux.cfg").write_text(SYSLINUX)
    run("mformat", "-C", "-f", "1440", "-i", floppy, "::")
    run("mcopy", "-i", floppy, directory / "syslinux.cfg", "::")
    run("syslinux", "--install", floppy)
    return floppy


def isolinux_cd(debian_file: DebianFile, directory: Path) -> Path:
    """A CD with ISOLINUX, booted without emulation."""
    root = directory / "isolinux-cd"
    folder = root / "isolinux"
    folder.mkdir(parents=True)
    shutil.copy(debian_file("isolinux", "usr/lib/ISOLINUX/isolinux.bin"), folder)
    shutil.copy(debian_file("syslinux-common", "usr/lib/syslinux/modules/bios/ldlinux.c32"), folder)
    (folder / "isolinux.cfg").write_text(SYSLINUX)
    cd = directory / "isolinux.iso"
    run(
        "xorriso", "-as", "mkisofs", "-quiet", "-o", cd, "-b", "isolinux/isolinux.bin",
        "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", root,
    )  # fmt: skip
    return cd
