"""Run lines of public tutorials, courses and crates, with kernels of our own: QEMU and we print the same, and end with
the same status. docs/qemu.md says where each line is from.
"""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.debian import debian_path
from tests.qemu_command import diskettes, images
from tests.qemu_command.programs import Program, commands, of_the_guest

Steps = Callable[[Program], object]


class Outcome(NamedTuple):
    """What a program said from the guest's first word on, and its status."""

    said: bytes
    status: int


def both(
    words: Callable[[Path], Sequence[str | Path]],
    tmp_path: Path,
    steps: Steps = lambda program: None,
    seen: Callable[[bytes], bytes] = of_the_guest,
) -> Outcome:
    """The outcome of both, which is the same; ``words`` makes the images in a folder of their own."""
    outcomes = {}
    for name, command in commands().items():
        folder = tmp_path / name
        folder.mkdir()
        with Program(command, words(folder), folder) as program:
            steps(program)
            status = program.end()
            outcomes[name] = Outcome(seen(program.output), status), program.errors
    assert outcomes["ours"][0] == outcomes["qemu"][0], outcomes
    return outcomes["ours"][0]


def leaves(program: Program) -> None:
    """The guest has halted: Ctrl-A x."""
    program.wait_for(b"GUEST")
    program.wait_for(b"~")
    program.type(b"\x01x")


def looks_at_screen(program: Program) -> None:
    """Ask for the screen's first characters, by the monitor, until the kernel has written its last one."""
    for _ in range(200):
        program.wait_for(b"(qemu) ")
        program.type(b"xp/56xb 0xb8000\n")
        program.wait_for(b"00000000000b8030:")
        program.wait_for(b"\n")
        if screen(program).rstrip(b"\0 ").endswith(b"~"):
            break
        time.sleep(0.05)
    program.type(b"quit\n")


def screen(program: Program) -> bytes:
    """The last screen that `looks_at_screen` saw."""
    lines = [line for line in program.output.replace(b"\r", b"").split(b"\n") if line.startswith(b"00000000000b80")]
    values = b" ".join(line.partition(b": ")[2] for line in lines[-7:])
    return bytes(int(value, 16) for value in values.split()[::2])


@pytest.mark.parametrize("option", ["-kernel", "-cdrom"])
def test_bare_bones(tmp_path: Path, option: str) -> None:
    image = images.kernel(tmp_path) if option == "-kernel" else images.iso(tmp_path)
    screens = []
    for command in commands().values():
        words = [option, image.relative_to(tmp_path), "-display", "none", "-monitor", "stdio"]
        words += ["-append", "as told"] if option == "-kernel" else []
        with Program(command, words, tmp_path) as program:
            looks_at_screen(program)
            assert program.end() == 0
            screens.append(screen(program))
    assert screens[0] == screens[1]
    assert screens[0].startswith(b"GUEST "), screens


def test_a_kernel_and_what_it_is_told(tmp_path: Path) -> None:
    def words(folder: Path) -> list[str | Path]:
        images.kernel(folder)
        (folder / "one").write_bytes(b"first\0")
        (folder / "two").write_bytes(b"second\0")
        return ["-kernel", "myos.bin", "-append", "a=1 b", "-initrd", "one x,two", "-nographic"]

    outcome = both(words, tmp_path, leaves)
    assert outcome == (b"GUEST myos.bin a=1 b; one x = first; two = second~QEMU: Terminated\n", 0)


@pytest.mark.parametrize(("bits", "addresses"), [(32, False), (64, True)])
def test_of_two_multiboot_headers_the_first_versions_counts(tmp_path: Path, bits: int, addresses: bool) -> None:
    def words(folder: Path) -> list[str | Path]:
        return ["-kernel", images.two_headers(folder, bits, addresses=addresses), "-nographic"]

    assert both(words, tmp_path, leaves).said == b"GUEST\x02~QEMU: Terminated\n"


def test_the_little_book(tmp_path: Path) -> None:
    """Its line has ``-d cpu``, too, which costs QEMU ten seconds."""

    def words(folder: Path) -> list[str | Path]:
        log = [] if folder.name == "qemu" else ["-d", "cpu"]
        return ["-nographic", "-boot", "d", "-cdrom", images.iso(folder), "-m", "32", *log, "-D", "logQ.txt"]

    assert both(words, tmp_path, leaves).status == 0


@pytest.mark.parametrize(("value", "status"), [(0x10, 33), (0x11, 35), (0xFF, 255), (0, 1)])
def test_blog_os(tmp_path: Path, value: int, status: int) -> None:
    def words(folder: Path) -> list[str | Path]:
        image = images.disk(folder / "bootimage.bin", "[ok]\n", images.exits(0xF4, value))
        exit_device = "isa-debug-exit,iobase=0xf4,iosize=0x04"
        return ["-drive", f"format=raw,file={image}", "-device", exit_device, "-serial", "stdio", "-display", "none"]

    assert both(words, tmp_path) == (b"GUEST [ok]\n", status)


def test_bootloader_of_rust_osdev(tmp_path: Path) -> None:
    def words(folder: Path) -> list[str | Path]:
        image = images.disk(folder / "bios.img", "off.", images.POWER_OFF)
        return ["-drive", f"format=raw,file={image}", "-serial", "stdio", "-display", "none", "-no-reboot"]

    assert both(words, tmp_path) == (b"GUEST off.", 0)


@pytest.mark.parametrize("option", ["-bios", "-pflash", "-drive"])
def test_firmware(tmp_path: Path, option: str) -> None:
    rom = "/usr/share/seabios/bios-256k.bin"

    def words(folder: Path) -> list[str | Path]:
        image = images.disk(folder / "uefi.img", "by a ROM.", images.POWER_OFF)
        value = f"if=pflash,format=raw,readonly=on,file={rom}" if option == "-drive" else rom
        if option == "-pflash":
            value = str(folder / "flash")
            Path(value).write_bytes(Path(rom).read_bytes())
        return [option, value, "-drive", f"format=raw,file={image}", "-serial", "stdio", "-display", "none"]

    assert both(words, tmp_path) == (b"GUEST by a ROM.", 0)


@pytest.mark.stress
@pytest.mark.parametrize("option", ["-bios", "-drive"])
def test_ovmf_to_its_shell(tmp_path: Path, option: str) -> None:
    """UEFI, whole or as code and variables, with a shell on the serial port. The names of drives differ."""
    shells = {}
    for name, command in commands().items():
        (tmp_path / name).mkdir()
        words = ["-bios", debian_path("ovmf", "usr/share/ovmf/OVMF.fd")]
        if option == "-drive":
            code, made = (debian_path("ovmf", f"usr/share/OVMF/OVMF_{part}.fd") for part in ("CODE", "VARS"))
            (tmp_path / name / "vars").write_bytes(made.read_bytes())
            words = [
                "-drive",
                f"if=pflash,format=raw,readonly=on,file={code}",
                "-drive",
                "if=pflash,format=raw,file=vars",
            ]
        with Program(command, [*words, "-nographic", "-net", "none"], tmp_path / name) as program:
            program.wait_for(b"UEFI Interactive Shell")
            program.wait_for(b"any other key")
            program.type(b"\x1b")
            for line in (b"ver", b"map -b", b"reset -s"):
                program.wait_for(b"Shell> ")
                program.type(line + b"\r")
            assert program.end() == 0
        text = re.sub(rb"\x1b\[[0-9;=?]*[a-zA-Z]", b"", program.output).replace(b"\r", b"")
        text = text[text.index(b"UEFI Interactive Shell") :]
        shells[name] = [line.rstrip() for line in text.split(b"\n") if b"any other key" not in line]
    assert shells["ours"] == shells["qemu"]
    assert any(b"UEFI v2" in line for line in shells["ours"])


def test_xv6(tmp_path: Path) -> None:
    """Two disks, the second named first; what the guest writes is in the file."""

    def words(folder: Path) -> list[str | Path]:
        images.disk(folder / "xv6.img", "reads ", images.SAYS_SECOND, images.CHANGES_SECOND)
        (folder / "fs.img").write_bytes(b"the second disk!".ljust(500 * 1024, b"\0"))
        return [
            *("-nographic", "-drive", "file=fs.img,index=1,media=disk,format=raw"),
            *("-drive", "file=xv6.img,index=0,media=disk,format=raw", "-smp", "2", "-m", "512"),
        ]

    assert both(words, tmp_path, leaves) == (b"GUEST reads the second disk!~QEMU: Terminated\n", 0)
    for name in commands():
        assert (tmp_path / name / "fs.img").read_bytes()[:16] == b"Whe second disk!"


@pytest.mark.parametrize(
    "drives",
    [
        "",
        "-hda a -hdb b -hdc c -hdd d",
        "-nodefaults -hda a -cdrom c",
        "-hda a -hdd d",
        "-nodefaults -drive index=0,media=cdrom,file=c -hdc b",
    ],
    ids=["none", "four", "a CD", "a gap", "a CD first"],
)
def test_drives_are_where_qemu_has_them(tmp_path: Path, drives: str) -> None:
    """A CD drive without a CD is the secondary master unless another drive is there."""

    def words(folder: Path) -> list[str | Path]:
        for number, name in enumerate("abcd", 1):
            (folder / name).write_bytes(bytes(number << 20))
        images.kernel(folder, images.DRIVES)
        return ["-kernel", "myos.bin", *drives.split(), "-snapshot", "-display", "none", "-serial", "mon:stdio"]

    outcome = both(words, tmp_path, leaves)
    assert outcome.said.count(b"packet device") == ("-hdc c" not in drives)
    assert (b"got 02 003a" in outcome.said) == ("-hdc" not in drives and "-nodefaults" not in drives)


def test_a_slave_alone(tmp_path: Path) -> None:
    """What is not compared: the absent master, which answers commands with an error under QEMU, and here not at all."""

    def words(folder: Path) -> list[str | Path]:
        (folder / "b").write_bytes(bytes(2 << 20))
        images.kernel(folder, images.DRIVES)
        return ["-kernel", "myos.bin", "-hdb", "b", "-snapshot", "-display", "none", "-serial", "mon:stdio"]

    outcome = both(words, tmp_path, leaves, lambda output: output.partition(b"\ndrive 1")[2])
    assert b"got 0000 1000" in outcome.said


@pytest.mark.parametrize("drive", ["", "-fda f -snapshot", "-nodefaults"], ids=["empty", "diskette", "none"])
def test_diskette_drives_for_the_bios(tmp_path: Path, drive: str) -> None:
    """Drive A is there without a diskette, too, and takes 2.88 MB. One thing differs: SeaBIOS says "changed" always."""

    def words(folder: Path) -> list[str | Path]:
        (folder / "f").write_bytes(bytes(1_474_560))
        image = diskettes.asks_the_bios(folder / "d.img")
        where = f"file={image},format=raw,if=ide,index=0"
        return ["-drive", where, "-boot", "c", *drive.split(), "-display", "none", "-serial", "mon:stdio"]

    outcome = both(words, tmp_path, leaves)
    assert (b"0000 0000 0005 4F24 0101" in outcome.said) == (not drive)


@pytest.mark.parametrize("drive", ["", "-fda f -snapshot"], ids=["empty", "diskette"])
def test_diskette_drives_for_a_driver(tmp_path: Path, drive: str) -> None:
    def words(folder: Path) -> list[str | Path]:
        (folder / "f").write_bytes(bytes(1_474_560))
        images.kernel(folder, diskettes.CONTROLLER)
        return ["-kernel", "myos.bin", *drive.split(), "-display", "none", "-serial", "mon:stdio"]

    outcome = both(words, tmp_path, leaves)
    assert outcome.said.startswith(b"GUEST 40 07 " if drive else b"GUEST 50 07 ")


def test_pintos(tmp_path: Path) -> None:
    def words(folder: Path) -> list[str | Path]:
        images.disk(folder / "os.dsk", "(alarm) end\n", images.exits(0x501, 0x31))
        return [
            *("-device", "isa-debug-exit", "-drive", "format=raw,media=disk,index=0,file=os.dsk", "-m", "4"),
            *("-net", "none", "-nographic", "-monitor", "null"),
        ]

    assert both(words, tmp_path) == (b"GUEST (alarm) end\n", 99)


def test_jos_and_its_grading_script(tmp_path: Path) -> None:
    """The script connects as gdb, lets the guest go on, and ends QEMU by a signal."""
    ports = iter([free_port(), free_port()])
    chosen: list[int] = []

    def words(folder: Path) -> list[str | Path]:
        images.disk(folder / "kernel.img", "6828 decimal.\n", images.HALT)
        chosen.append(next(ports))
        return [
            *("-nographic", "-drive", "file=kernel.img,index=0,media=disk,format=raw", "-serial", "mon:stdio"),
            *("-gdb", f"tcp::{chosen[-1]}", "-D", "qemu.log", "-no-reboot", "-S"),
        ]

    def grades(program: Program) -> None:
        with connected(chosen[-1]) as gdb:
            gdb.sendall(b"$c#63")
            program.wait_for(b"decimal.\n")
            program.signal(signal.SIGTERM)

    assert both(words, tmp_path, grades) == (b"GUEST 6828 decimal.\n", 0)


@pytest.mark.parametrize("ending", [images.RESET, images.TRIPLE_FAULT], ids=["reset", "triple fault"])
def test_without_a_reboot(tmp_path: Path, ending: str) -> None:
    def words(folder: Path) -> list[str | Path]:
        return [images.disk(folder / "d.img", "ends.", ending), "-no-reboot", "-serial", "stdio", "-display", "none"]

    assert both(words, tmp_path) == (b"GUEST ends.", 0)


def test_with_a_reboot(tmp_path: Path) -> None:
    def words(folder: Path) -> list[str | Path]:
        return [images.disk(folder / "d.img", "ends.", images.TRIPLE_FAULT), "-serial", "stdio", "-display", "none"]

    def twice(program: Program) -> None:
        program.wait_for(b"GUEST")
        program.wait_for(b"GUEST")
        program.signal(signal.SIGINT)

    for name, command in commands().items():
        folder = tmp_path / name
        folder.mkdir()
        with Program(command, words(folder), folder) as program:
            twice(program)
            assert program.end() == 0
            assert b"terminating on signal 2" in program.errors
            assert (b"likely mistake" in program.errors) == (name == "ours")


def test_makefiles_look_into_the_help(tmp_path: Path) -> None:
    for command in commands().values():
        with Program(command, ["-nographic", "-help"], tmp_path) as program:
            assert program.end() == 0
            lines = program.output.decode().splitlines()
        assert any(line.startswith("-gdb") for line in lines)
        assert any(line.startswith("-D ") for line in lines)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def connected(port: int) -> socket.socket:
    """A connection to a program that is still starting."""
    for _ in range(600):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=60)
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError("nobody listens")
