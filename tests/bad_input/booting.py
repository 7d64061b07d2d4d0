"""Mistakes in what a machine is made of: images, drives, firmware, options, plugins."""

from __future__ import annotations

import struct
from pathlib import Path

import hypervisor as hv
from hypervisor.errors import (
    ConfigError,
    ImageError,
    PluginError,
)
from hypervisor.guests import shipped
from hypervisor.vm.config import parse_disk
from tests.bad_input.cases import HALT, Case, boots


def elf(machine: int, size: int = 0x1000) -> bytes:
    """An ELF file for ``machine`` with one segment of ``size`` bytes, which are not there."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x100000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0x1000, 0x100000, 0x100000, size, size, 0x1000)


class Dice:
    """A plugin."""

    def __init__(self, sides: int = 6) -> None:
        self.sides = sides

    def attach(self, vm: hv.VM) -> None:
        return None


class Raising:
    """A plugin that cannot be attached."""

    def attach(self, vm: hv.VM) -> None:
        raise ValueError("no dice")


class Exiting:
    """A plugin that wants to end its host."""

    def attach(self, vm: hv.VM) -> None:
        raise SystemExit(3)


def two_vms(_: Path) -> object:
    with hv.Host("8M") as host:
        host.create_vm(HALT, memory="6M")
        return host.create_vm(HALT, memory="4M")


def closed_host(_: Path) -> object:
    host = hv.Host("8M")
    host.close()
    return host.create_vm(HALT, memory="4M")


def ones(count: int) -> bytes:
    return b"\xff" * count


KERNEL = shipped("hello32").image
CASES = (
    # images
    boots("no file", "nothing.img", ImageError, "nothing.img: there is no such file; check the path of the image."),
    Case("no guest", lambda _: hv.boot("hallo"), ImageError, "hallo: there is no such file, and no shipped guest"),
    boots("a directory", ".", ImageError, "is a directory; give a file."),
    boots("an endless device", Path("/dev/zero"), ImageError, "/dev/zero is a device without an end; give a file."),
    boots("an empty image", b"", ImageError, "it begins with nothing: the file is empty"),
    boots("garbage", b"garbage" * 200, ImageError, "no image of a known format (bzImage, multiboot 2 or 1, ELF"),
    boots("a snapshot of something", b"QEVM" + bytes(8192), ImageError, "it begins with 51 45 56 4d"),
    boots("ELF for ARM", elf(40), ImageError, "this 64-bit ELF file is for ARM; build it for x86"),
    boots("a truncated ELF header", elf(62)[:50], ImageError, "the file is truncated: the ELF header should be"),
    boots("a truncated segment", elf(62), ImageError, "the segment at 0x100000 should be at offset 0x1000"),
    boots("a truncated kernel", KERNEL[:40], ImageError, "the file is truncated: what the multiboot header's"),
    boots("too large for memory", KERNEL, ImageError, "which is not memory. Memory ends at", memory="1M"),
    boots("no room for the BIOS", HALT, ConfigError, "give the guest at least 1M of memory (--memory)", memory="960K"),
    boots("an oversized segment", elf(62, 1 << 40), ImageError, "the file is truncated"),
    boots("not a bzImage", ones(2048), ImageError, "this is not a bzImage", format="linux"),
    boots("an unknown format", HALT, ConfigError, "'cpio' is not an image format; use one of linux", format="cpio"),
    boots("flat without at", HALT, ConfigError, "a flat binary needs --at ADDRESS and --mode", format="flat", mode=32),
    boots("flat without mode", HALT, ConfigError, "and --mode 16, 32 or 64", format="flat", at=0x1000),
    boots("at without flat", HALT, ConfigError, "--at and --entry are for --format flat", at=0x1000),
    boots("mode without flat", HALT, ConfigError, "--mode is for flat binaries and Linux kernels", mode=32),
    boots("flat beyond memory", HALT, ImageError, "give the guest more", format="flat", at=1 << 30, mode=32),
    boots("image of a wrong type", 12, ConfigError, "image=12: give a path, or the contents as bytes."),
    # what goes with an image
    boots("a missing initrd", HALT, ImageError, "check the path of the initrd", initrd="/no/initrd"),
    boots("an initrd for a boot sector", HALT, ConfigError, "cannot be given --initrd; leave that out", initrd=b"x"),
    boots("a module for a boot sector", HALT, ConfigError, "cannot be given --module", modules=[("x", "", b"x")]),
    boots("a missing module", KERNEL, ImageError, "check the path of the module", modules=["/no/module"]),
    boots("a number as module", KERNEL, ConfigError, "3 is not a module: give a path", modules=[3]),
    boots("arguments for a boot sector", HALT, ConfigError, "cannot be given --append", append="quiet"),
    # drives
    boots("no disk file", HALT, ImageError, "no/disk: there is no such file; check the path of the disk.",
          disks=["/no/disk"]),
    boots("a directory as CD", HALT, ImageError, "is a directory; give a file.", cdrom="/"),
    boots("an empty disk", HALT, ImageError, "the file is empty, and a disk has at least one sector", disks=[b""]),
    boots("an empty CD", HALT, ImageError, "the file is empty, and a CD has at least one sector", cdrom=b""),
    boots("a large floppy", HALT, ImageError, "bytes, and the largest floppy 2949120 (2.88 MB); use it as a disk",
          floppy=bytes(2949121)),
    boots("a disk that is one", HALT, ConfigError, "disks='a.img': give a list of images.", disks="a.img"),
    boots("a disk of a wrong type", HALT, ConfigError, "disk=5: give a path, or the contents as bytes", disks=[5]),
    boots("bytes to be written", HALT, ConfigError, "the disk is bytes, which cannot be written: give a file",
          disks=[hv.Disk(HALT, mode="write")]),
    Case("an unknown disk mode", lambda _: hv.Disk("x", mode="rw"), ConfigError, "'rw': use one of overlay, write."),
    Case("an unknown interface", lambda _: hv.Disk("x", interface="scsi"), ConfigError, "'scsi': use one of ide."),
    boots("too many disks", HALT, ConfigError, "5 disks and CDs: the IDE controller has places for 4",
          disks=[HALT] * 4, cdrom=HALT),
    boots("two floppies", HALT, ConfigError, "is a floppy, and there is another one (--floppy)", floppy=HALT),
    boots("an unknown medium", HALT, ConfigError, "media='tape': use one of floppy, disk.", media="tape"),
    boots("a medium for a kernel", KERNEL, ConfigError, "is loaded into memory, not from a drive", media="disk"),
    boots("an unknown boot letter", HALT, ConfigError, "boot order 'cn': give each letter once, of a",
          boot_order="cn"),
    boots("nothing that boots", None, ImageError, "There is no bootable device (CD: it has no El Torito boot record",
          cdrom=bytes(40960), boot_order="d"),
    boots("a medium for nothing", None, ConfigError, "and there is no image; leave it out", media="disk",
          disks=[HALT]),
    Case("an unknown disk option", lambda _: parse_disk("a,cache=none"), ConfigError,
         "'a,cache=none': 'cache=none' is no option; give FILE[,if=ide][,mode=overlay|write][,bandwidth=SIZE]"
         "[,iops=N][,delay=S][,read_errors=P][,write_errors=P][,seed=N]."),
    Case("a disk's limit that is no number", lambda _: parse_disk("a,iops=many"), ConfigError,
         "iops=many: give a number."),
    Case("a disk that may do next to nothing", lambda _: parse_disk("a,bandwidth=1K"), ConfigError,
         "bandwidth='1K': give bytes a second, 4096 at least."),
    Case("a disk without a file", lambda _: parse_disk(",if=ide"), ConfigError, "',if=ide': give a file."),
    boots("a command line for nothing", None, ConfigError, "There is no image that --append could be for; leave that",
          append="quiet", disks=[HALT]),
    boots("options for nothing", None, ConfigError, "There is no image that --initrd and --mode could be for", mode=32,
          initrd=b"x", disks=[HALT]),
    # firmware
    boots("a command line for firmware", None, ConfigError, "There is no image that --append could be for",
          append="quiet", firmware=bytes(65536)),
    boots("no firmware file", None, ImageError, "/no/bios: there is no such file; give a firmware ROM, or 'seabios'.",
          firmware="/no/bios"),
    boots("a directory as firmware", None, ImageError, "/ is a directory; give a file.", firmware="/"),
    boots("an empty ROM", None, ImageError, "a multiple of 64 KiB and at most 16 MiB; this has 0 bytes", firmware=b""),
    boots("half a ROM", None, ImageError, "this has 32768 bytes. SeaBIOS is bios-256k.bin", firmware=bytes(32768)),
    boots("a large ROM", None, ImageError, "at most 16 MiB", firmware=bytes(32 << 20)),
    boots("a number as firmware", None, ConfigError, "firmware=7: give a file, 'seabios', or the ROM's", firmware=7),
    boots("firmware in little memory", None, ConfigError, "needs at least 4M of memory (--memory)",
          firmware=bytes(65536), memory="2M"),
    boots("firmware and a kernel", KERNEL, ConfigError, "is a kernel, and firmware boots from drives: leave one of",
          firmware=bytes(65536)),
    boots("firmware without a host bridge", None, ConfigError, "the board has no host bridge 'i440fx' on a bus 'pci'",
          firmware=bytes(65536), board=hv.pc().without("i440fx")),
    # options
    boots("memory in words", HALT, ConfigError, "'lots' is not a size; write a number with K, M or G", memory="lots"),
    boots("no memory", HALT, ConfigError, "it must be greater than zero", memory="0"),
    boots("memory without a unit", HALT, ConfigError, "'64' is not a size: it has no unit. 64M are MiB", memory="64"),
    boots("nothing to boot", None, ConfigError, "There is nothing to boot: give an image, a drive"),
    boots("no disks to boot", None, ConfigError, "There is nothing to boot", disks=[]),
    boots("memory of a wrong type", HALT, ConfigError, "3.5 is not a size; give bytes as", memory=3.5),
    boots("memory beyond the host's", HALT, ConfigError, "", memory="100000G"),
    boots("an unknown clock", HALT, ConfigError, "clock='sundial': choose 'virtual' or 'wall'.", clock="sundial"),
    boots("a seed in words", HALT, ConfigError, "seed='x': a whole number is needed.", seed="x"),
    boots("an unknown option", HALT, ConfigError, "memroy=: a machine has no such option. Did you", memroy="4M"),
    boots("a board by name", HALT, ConfigError, "board='pc': give a hypervisor.Board", board="pc"),
    Case("a part that is not there", lambda _: hv.pc().without("gpu"), ConfigError, "has no part 'gpu'; it has pic"),
    Case("a host without CPUs", lambda _: hv.Host(cpus=0), ConfigError, "a host has 1 to 64 physical CPUs"),
    Case("two VMs too large", two_vms, ConfigError, "The host has no 4 MiB of memory left for another VM"),
    Case("a closed host", closed_host, ConfigError, "The host is closed"),
    # plugins
    boots("an unknown plugin", HALT, PluginError, "There is no plugin nothing.", plugins=["nothing"]),
    boots("no such module", HALT, PluginError, "there is no module no.", plugins=["no.such:Thing"]),
    boots("no class", HALT, PluginError, "json has no class 'dumps'", plugins=["json:dumps"]),
    boots("an unknown plugin option", HALT, PluginError, "Plugin Dice has no option 'side'. Did you mean sides?",
          plugins=[(Dice, {"side": 3})]),
    boots("a colon for a plugin", HALT, PluginError, "':' names no plugin; write MODULE:CLASS, such as", plugins=[":"]),
    boots("a plugin that exits", HALT, PluginError, "Exiting: attach failed: SystemExit: 3", plugins=[Exiting]),
    boots("a plugin in one", HALT, PluginError, "is no plugin with options; give (plugin, {option", plugins=[(Dice,)]),
    boots("a plugin option in words", HALT, PluginError, "'six'; it must be a whole number",
          plugins=[f"{__name__}:Dice,sides=six"]),
    boots("a raising plugin", HALT, PluginError, "Raising: attach failed: ValueError: no dice", plugins=[Raising]),
)  # fmt: skip
