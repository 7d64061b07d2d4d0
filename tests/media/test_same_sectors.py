"""A guest's own driver reads and writes the sectors that INT 13h reads and writes: here and under QEMU the same."""

from __future__ import annotations

import random
import struct
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble_file
from tests.boot.cds import cd
from tests.programs import QEMU, program
from tests.sectors import boot_sector

HERE = Path(__file__).parent
SECONDS = 60
STATUS = 0x10 << 1 | 1


def image(name: str, size: int) -> bytes:
    """The guest, and noise behind it."""
    code = assemble_file(HERE / f"{name}.asm").code
    return code.ljust(4 * 512, b"\0") + random.Random(name).randbytes(size - 4 * 512)


def word_sum(content: bytes) -> str:
    return f"{sum(struct.unpack(f'<{len(content) // 2}H', content)) & 0xFFFF:04x}"


def ours(image: bytes, **options: Any) -> str:
    with closing(hv.boot(image, memory="4M", **options)) as vm:
        result = vm.run(timeout=SECONDS)
        assert (result.reason, result.status) == (hv.Reason.DEBUG_EXIT, STATUS), result.message
        return vm.serial[0].text


def qemu(image: bytes, drive: str, directory: Path) -> str:
    path = directory / "image"
    path.write_bytes(image)
    command = [program(QEMU), "-accel", "tcg", "-display", "none", "-m", "16", "-no-reboot", "-serial", "stdio"]
    command += ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
    command += ["-drive", f"{drive},format=raw,snapshot=on,file={path}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
    assert done.returncode == STATUS, done.stderr.decode()
    return done.stdout.decode()


def test_ata_pio_and_int_13h(tmp_path: Path) -> None:
    disk = image("ata", 2 << 20)
    said = ours(disk, media="disk")
    sums = [word_sum(disk[n * 512 : n * 512 + 512]) for n in (0, 1, 2, 63, 64, 1000, 4095)]
    first, second = (word_sum(struct.pack("<256H", *range(start, start + 256))) for start in (0x1234, 0x4321))
    expected = "".join(f"s{one} " for one in sums)
    assert said == f"{expected}ws{first} Ws{second} ms{word_sum(disk[40 * 512 : 48 * 512])} \n"
    assert said == qemu(disk, "if=ide", tmp_path)


@pytest.mark.parametrize("options", [{}, {"media": "floppy"}, {"boot_order": "ca"}])
def test_an_image_that_is_a_floppy_is_there_for_ata_pio_too(options: dict[str, Any]) -> None:
    disk = image("ata", 2 << 20)
    assert ours(disk, **options) == ours(disk, media="disk")


def test_the_floppy_controller_and_int_13h(tmp_path: Path) -> None:
    floppy = image("fdc", 1474560)
    said = ours(floppy)
    places = [(0, 0, 1), (0, 1, 18), (5, 0, 7), (40, 1, 9), (79, 1, 18)]
    sectors = [((cylinder * 2 + head) * 18 + sector - 1) * 512 for cylinder, head, sector in places]
    sums = [word_sum(floppy[at : at + 512]) for at in sectors]
    written = word_sum(struct.pack("<256H", *range(0x1234, 0x1334)))
    assert said == "".join(f"s{one} " for one in sums) + f"ws{written} \n"
    assert said == qemu(floppy, "if=floppy", tmp_path)


def test_atapi_packets_and_int_13h(tmp_path: Path) -> None:
    code = assemble_file(HERE / "atapi.asm").code
    assert len(code) <= 4 * 512, "the boot catalogue has four sectors loaded"
    iso = cd(code.ljust(2048, b"\0") + random.Random("atapi").randbytes(100 * 2048))
    said = ours(iso)
    sums = [word_sum(iso[n * 2048 : n * 2048 + 2048]) for n in (16, 19, 20, 99)]
    assert said == "".join(f"s{one} " for one in sums) + "15\n"  # an error, illegal request
    assert said == qemu(iso, "if=ide,index=2,media=cdrom", tmp_path)


GEOMETRY = """
    mov ah, 8; int 0x13; push dx; push cx; mov bp, sp; mov cx, 4; mov dx, 0x3f8
next: mov al, [bp]; shr al, 4; call digit; mov al, [bp]; call digit; inc bp; loop next
    mov al, 0x10; mov dx, 0xf4; out dx, al; hlt
digit: and al, 15; add al, 0x41; out dx, al; ret
"""


@pytest.mark.parametrize("size", [1_228_800, 1_474_560, 2_949_120])
def test_the_geometry_of_a_diskette(size: int, tmp_path: Path) -> None:
    """As AH=08h tells it; of diskettes of smaller formats SeaBIOS tells what the drive can."""
    floppy = boot_sector(GEOMETRY).ljust(size, b"\0")
    said = ours(floppy)
    assert len(said) == 8
    assert said == qemu(floppy, "if=floppy", tmp_path)
