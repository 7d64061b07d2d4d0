"""Which image goes into which drive, and what boots: `hv.boot` and ``hypervisor run``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.errors import ConfigError
from hypervisor.vm.config import parse_disk
from tests.boot.cds import catalogue, cd
from tests.sectors import boot_sector

GIVES_UP = "int 0x18"
EXITS = "mov dx, 0x604; mov ax, 0x2000; out dx, ax; hlt"


def boots(mark: str, then: str = EXITS, size: int = 512) -> bytes:
    """A boot sector that writes ``mark`` and its drive number to the debug console."""
    source = f"mov cl, dl; mov dx, 0xe9; mov al, {ord(mark):#x}; out dx, al; mov al, cl; out dx, al; {then}"
    return boot_sector(source).ljust(size, b"\0")


def run(image: Any = None, **options: Any) -> tuple[bytes, hv.RunResult]:
    with closing(hv.boot(image, memory="4M", **options)) as vm:
        result = vm.run(timeout=20)
        return vm.debugcon.bytes, result


LARGE = 3 << 20


@pytest.mark.parametrize(
    ("image", "options", "said"),
    [
        (boots("i"), {}, b"i\x00"),
        (boots("i", size=2_949_120), {}, b"i\x00"),
        (boots("i", size=2_949_121), {}, b"i\x80"),
        (boots("i"), {"media": "disk"}, b"i\x80"),
        (boots("i"), {"format": "bootsector"}, b"i\x00"),
        (cd(boots("i")), {}, b"i\xe0"),
        (boots("i", size=17 * 2048) [: 16 * 2048] + cd(boots("i"))[16 * 2048 :], {"media": "disk"}, b"i\x80"),
        (None, {"disks": [boots("c", size=LARGE)], "floppy": boots("a"), "cdrom": cd(boots("d"))}, b"c\x80"),
        (None, {"disks": [bytes(LARGE)], "floppy": boots("a"), "cdrom": cd(boots("d"))}, b"a\x00"),
        (None, {"disks": [bytes(LARGE)], "cdrom": cd(boots("d"))}, b"d\xe0"),
        (None, {"disks": [boots("c")], "cdrom": cd(boots("d")), "boot_order": "dc"}, b"d\xe0"),
        (boots("i"), {"disks": [boots("c")]}, b"i\x00"),
        (boots("i"), {"disks": [boots("c")], "boot_order": "ca"}, b"c\x80"),
        (boots("i"), {"boot_order": "c"}, b"i\x80"),  # it is the first disk, too
        (boots("i", size=LARGE), {"disks": [boots("c")], "floppy": boots("a")}, b"i\x80"),
        (boots("i", GIVES_UP), {"disks": [boots("c")], "cdrom": cd(boots("d"))}, b"i\x00c\x80"),
        (boots("i", GIVES_UP), {"disks": [boots("c", GIVES_UP)], "cdrom": cd(boots("d"))}, b"i\x00c\x80d\xe0"),
        (None, {"cdrom": cd(boots("d", size=2880 * 512), catalogue(media=2, count=1))}, b"d\x00"),
    ],
)  # fmt: skip
def test_what_boots_from_where(image: bytes | None, options: dict[str, Any], said: bytes) -> None:
    console, result = run(image, **options)
    assert (console, result.reason) == (said, hv.Reason.POWERED_OFF)


def test_when_every_drive_has_given_up() -> None:
    _, result = run(boots("i", GIVES_UP, LARGE), boot_order="cd")
    assert result.reason is hv.Reason.STOPPED
    assert "no bootable device (disk: it was booted, and gave up; CD: there is none)" in result.message


def test_what_a_guest_wrote_is_there_after_a_reset() -> None:
    """The first time the boot sector counts up in itself on the disk, and resets; the second time it stops."""
    source = """
      inc byte ptr [count]; mov al, [count]; mov dx, 0xe9; out dx, al; cmp al, 3; je .off
      mov ax, 0x0301; mov cx, 1; mov dx, 0x80; mov bx, 0x7c00; int 0x13; jmp 0xffff:0
    .off: mov dx, 0x604; mov ax, 0x2000; out dx, ax; hlt
    count: .byte 0
    """
    image = boot_sector(source)
    console, result = run(image, media="disk", reboot=True)
    assert (console, result.reason) == (b"\1\2\3", hv.Reason.POWERED_OFF)


def test_an_image_file_is_never_written_unless_asked(tmp_path: Path) -> None:
    source = """
      mov byte ptr [mark], 0x77; mov ax, 0x0301; mov cx, 1; mov dh, 0; mov bx, 0x7c00; int 0x13
      mov dx, 0x604; mov ax, 0x2000; out dx, ax; hlt
    mark: .byte 0x2e
    """
    image = boot_sector(source)
    path = tmp_path / "image"
    path.write_bytes(image)
    for options in ({"image": path}, {"floppy": path}, {"disks": [path]}, {"image": path, "media": "disk"}):
        assert run(**options)[1].reason is hv.Reason.POWERED_OFF
        assert path.read_bytes() == image
    run(disks=[hv.Disk(path, mode="write")])
    assert path.read_bytes() == image.replace(b"\x2e", b"\x77")


@pytest.mark.parametrize(
    ("text", "disk"),
    [
        ("a.img", hv.Disk("a.img")),
        ("a.img,if=ide", hv.Disk("a.img")),
        ("a.img,mode=write,if=ide", hv.Disk("a.img", mode="write")),
        ("a.img,mode=overlay", hv.Disk("a.img", mode="overlay")),
        (
            "a.img,bandwidth=10M,iops=100.5,delay=0.01,read_errors=0.1,write_errors=0.2,seed=3",
            hv.Disk("a.img", bandwidth="10M", iops=100.5, delay=0.01, read_errors=0.1, write_errors=0.2, seed=3),
        ),
    ],
)
def test_disks_on_the_command_line(text: str, disk: hv.Disk) -> None:
    assert parse_disk(text) == disk


def test_the_name_of_a_disk_may_have_commas(tmp_path: Path) -> None:
    file = tmp_path / "a,mode=b.img"
    file.write_bytes(b"x")
    assert parse_disk(str(file)) == hv.Disk(str(file))
    assert parse_disk(f"{file},mode=write") == hv.Disk(str(file), mode="write")


@pytest.mark.parametrize("text", ["a.img,if=scsi", "a.img,mode=rw", "a.img,", "a.img,if", "", "a.img,if=ide,if=ide"])
def test_bad_disks_on_the_command_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"use one of|is no option|give a file|given twice"):
        parse_disk(text)


def test_a_diskette_is_written_if_that_is_asked_for(tmp_path: Path) -> None:
    """By TOML, too; and a machine of one whose file it writes is not saved."""
    file = tmp_path / "a.img"
    for mode, first in (("overlay", b"\0"), ("write", b"w")):
        file.write_bytes(bytes(1440 << 10))
        config = hv.MachineConfig(image="preempt", memory="4M", floppy=hv.Disk(str(file), mode=mode))
        assert hv.MachineConfig.from_toml(config.to_toml()) == config
        with hv.boot(config) as vm:
            vm.media.floppies[0].write(0, b"w" * 512)
            vm.media.floppies[0].flush()
            if mode == "write":
                with pytest.raises(hv.ConfigError, match="diskette"):
                    vm.save(tmp_path / "saved")
            else:
                vm.save(tmp_path / "saved")
        assert file.read_bytes()[:1] == first
