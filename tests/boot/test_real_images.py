"""Unmodified images out of Debian packages: detection, headers and placement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor.errors import ImageError
from hypervisor.loaders import BootSpec, detect, load
from hypervisor.loaders.boot_image import Image
from hypervisor.loaders.linux_kernel.protocol import parse_header
from tests.boot.fakes import FakeMemory

DebianFile = Callable[[str, str], Path]


@pytest.mark.parametrize(("name", "bits"), [("ia32", 32), ("x64", 64)])
def test_memtest(debian_file: DebianFile, name: str, bits: int) -> None:
    data = debian_file("memtest86+", f"boot/memtest86+{name}.bin").read_bytes()
    assert detect(Image(data)) == "linux"
    memory = FakeMemory(8 << 20)
    entry = load(data, BootSpec(append="nosmp console=ttyS0,115200"), memory)
    assert (entry.mode, entry.regs["rip"]) == (bits, 0x100000 if bits == 32 else 0x100200)
    assert memory.read(0x100000, 64) == data[1536 : 1536 + 64]


def test_the_cloud_kernel(cloud_kernel: Path) -> None:
    data = cloud_kernel.read_bytes()
    header = parse_header(Image(data))
    assert (header.version, header.entry_64, header.relocatable, header.pref_address) == (0x20F, True, True, 16 << 20)
    memory = FakeMemory(96 << 20)
    entry = load(data, BootSpec(append="console=ttyS0", initrd=b"x" * 4096), memory)
    assert (entry.kind, entry.regs["rip"]) == ("linux64", 0x1000200)
    assert memory.unpack("II", entry.regs["rsi"] + 0x218) == ((96 << 20) - 4096, 4096)


def test_the_cloud_kernel_says_how_much_memory_it_needs(cloud_kernel: Path) -> None:
    with pytest.raises(ImageError, match=r"Memory ends at 0x2000000: give the guest more \(--memory \d+M\)"):
        load(cloud_kernel.read_bytes(), BootSpec(), FakeMemory(32 << 20))


def test_the_cd_image_is_a_cd_though_it_is_a_disk_too(debian_file: DebianFile) -> None:
    data = debian_file("memtest86+", "usr/lib/memtest86+/memtest86+x64.iso").read_bytes()
    assert detect(Image(data)) == "cdrom" and data[510:512] == b"\x55\xaa"
