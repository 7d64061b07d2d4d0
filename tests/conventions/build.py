"""Kernels from their sources, by Debian's nasm, gcc and grub-mkrescue, each once in a test run."""

from __future__ import annotations

from pathlib import Path

from tests import debian
from tests.conventions.table import Kernel, Medium
from tests.programs import run

SOURCES = Path(__file__).parent / "kernels"
FLOPPY_SIZE, DISK_SIZE = 2880 * 512, 2048 * 512
_C_FLAGS = (
    "-m32 -O1 -std=gnu11 -Wall -Wextra -Werror -ffreestanding -nostdlib -static -fno-pie -no-pie -fno-stack-protector "
    "-fno-asynchronous-unwind-tables -fcf-protection=none -mgeneral-regs-only "
    "-Wl,-Ttext=0x100000,--build-id=none,-n,-e,start"
)
_GRUB = """set timeout=0
terminal_output console
insmod all_video
menuentry kernel {{
  {command} /boot/kernel
  boot
}}
"""


def drive(medium: Medium, out: Path) -> Path:
    """A diskette or a disk whose sectors differ."""
    file = out / "drive"
    size = FLOPPY_SIZE if medium is Medium.FLOPPY else DISK_SIZE
    file.write_bytes(b"".join(bytes(sector * 7 + n & 0xFF for n in range(512)) for sector in range(size // 512)))
    return file


def image(kernel: Kernel, medium: Medium, out: Path) -> Path:
    """The image of a kernel for a medium."""
    assembly = SOURCES / f"{kernel.name}.asm"
    made = out / kernel.name
    if medium in (Medium.FLOPPY, Medium.DISK):
        run("nasm", "-f", "bin", "-I", SOURCES, "-o", made, assembly)
        size = FLOPPY_SIZE if medium is Medium.FLOPPY else DISK_SIZE
        made.write_bytes(made.read_bytes().ljust(size, b"\0"))
    elif assembly.exists():
        run("nasm", "-f", "elf32", "-I", SOURCES, "-o", made.with_suffix(".o"), assembly)
        run("ld", "-m", "elf_i386", "-n", "-Ttext=0x100000", "-e", "start", "-o", made, made.with_suffix(".o"))
    else:
        run("gcc", *_C_FLAGS.split(), "-o", made, SOURCES / f"{kernel.name}.c")
    if medium is Medium.CD:
        return _iso(made, out / f"{kernel.name}-iso")
    return made


def _iso(kernel: Path, tree: Path) -> Path:
    """An ISO with GRUB that loads the kernel by the multiboot that its header asks for."""
    (tree / "boot" / "grub").mkdir(parents=True)
    data = kernel.read_bytes()
    (tree / "boot" / "kernel").write_bytes(data)
    command = "multiboot2" if (0xE85250D6).to_bytes(4, "little") in data[:32768] else "multiboot"
    (tree / "boot" / "grub" / "grub.cfg").write_text(_GRUB.format(command=command))
    modules = debian.debian_path("grub-pc-bin", "usr/lib/grub/i386-pc/boot.img").parent  # without them: no boot record
    run("grub-mkrescue", "-d", modules, "-o", kernel.with_suffix(".iso"), tree)
    return kernel.with_suffix(".iso")
