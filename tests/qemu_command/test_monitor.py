"""The monitor's commands beside QEMU's: registers, page tables, memory, pictures, keys."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.cli.qemu.monitor import expressions, memory_text, pages_text
from hypervisor.errors import ConfigError
from tests.qemu_command import images
from tests.qemu_command.programs import Program, commands

ASKED = (
    *("info mem", "info tlb", "info registers", "info status", "x/6xb 0x401010", "x/4xw 0x401010", "x/2xg 0x401010"),
    *("x/5dh 0x401010", "x/3uw 0x401010", "x/4ob 0x401010", "x/4c 0x401010", "xp/4xw 0x201010", "x/2xw 0x500000"),
    *("p $ebx+$ecx*2", "p/x $eip", "p/x (1+2)*0x10-1", "p/o 8", "p/d 5%3", "p/c 65", "xp/2xh 0x201010", "x 0x401010"),
    *("xp /2xw 0x201010", "p  /x 77", "p/x ~5&0xff", "p 7/0", "p $nothing", "nothing", "x/3xb 0x401ffe"),
)


def answers(program: Program, asked: tuple[str, ...]) -> list[str]:
    """What the monitor says to each, without its echo."""
    found = []
    for question in asked:
        program.type(question.encode() + b"\n")
        before = program._seen
        program.wait_for(b"(qemu) ")
        said = program.output[before : program._seen - len(b"(qemu) ")].decode().replace("\r", "")
        found.append(said.partition("\n")[2].rstrip())
    return found


def test_it_answers_as_qemu_does(tmp_path: Path) -> None:
    images.paged(tmp_path)
    told: dict[str, list[str]] = {}
    for name, command in commands().items():
        serial = tmp_path / f"{name}.serial"
        words = ["-kernel", "paged.bin", "-display", "none", "-serial", f"file:{serial}", "-monitor", "stdio"]
        with Program(command, words, tmp_path) as program:
            program.wait_for(b"(qemu) ")
            for _ in range(200):
                if serial.exists() and serial.read_bytes().endswith(b"~"):
                    break
                time.sleep(0.05)
            program.type(b"info version\n")
            program.wait_for(b"(qemu) ")
            time.sleep(0.1)
            told[name] = answers(program, ASKED)
            program.type(b"quit\n")
            assert program.end() == 0
    for question, theirs, ours in zip(ASKED, told["qemu"], told["ours"], strict=True):
        assert ours == theirs, f"{question}:\n{ours}\nand under QEMU:\n{theirs}"


def test_expressions_are_those_of_python() -> None:
    """Random ones, of 64 bits without signs; Python's precedence is another one, so each has its brackets."""
    choose = random.Random(11)

    def made(depth: int) -> str:
        if depth == 0 or choose.random() < 0.2:
            return choose.choice(["1", "0x7f", "65535", "0xfffffffffffffff0", "3"])
        return f"({made(depth - 1)} {choose.choice('+-*&|^')} {made(depth - 1)})"

    for _ in range(300):
        text = made(4)
        assert expressions.value(text, None) == eval(text) % (1 << 64), text


@pytest.mark.parametrize("text", ["", "1+", "(1", "1 2", "@", "1/0", "$", "09", "x" * 300])
def test_expressions_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError):
        expressions.value(text, None)


@pytest.mark.parametrize("mode", [32, 64])
def test_page_tables_without_an_end_have_one(mode: int) -> None:
    """A table each of whose entries is itself."""

    with hv.boot(b"\xf4", memory="1M", format="flat", at=0x10000, mode=mode) as vm:
        entry = 4 if mode == 32 else 8
        vm.memory.write(0x90000, (0x90007).to_bytes(entry, "little") * (4096 // entry))
        vm.vcpu.cr3 = 0x90000
        if mode == 32:
            vm.vcpu.cr0 |= 1 << 31
        for show in (pages_text.mem, pages_text.tlb):
            assert show(vm.vcpu).endswith("... and more")


def test_too_much_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than"):
        memory_text.dump(None, memory_text.parse_format("99999999x", memory_text.Format()), 0, physical=True)


TYPES = """
again: mov ah, 0
    int 0x16
    mov dx, 0x3f8
    out dx, al
    jmp again
"""


def test_keys_pictures_stops_and_a_reset(tmp_path: Path) -> None:
    image = images.disk(tmp_path / "d.img", "types", TYPES)
    serial = tmp_path / "serial"
    words = [image, "-snapshot", "-serial", f"file:{serial}", "-display", "none", "-monitor", "stdio"]

    def until(pattern: bytes) -> None:
        for _ in range(400):
            if serial.exists() and re.search(pattern, serial.read_bytes()):
                return
            time.sleep(0.05)
        raise AssertionError(serial.read_bytes())

    with Program(commands()["ours"], words, tmp_path) as program:
        program.wait_for(b"(qemu) ")
        until(b"types$")
        answers(program, ("sendkey a", "sendkey shift-b", "sendkey spc"))
        until(b"typesaB $")
        assert answers(program, ("stop", "info status", "sendkey c", "info status")) == [
            "",
            "VM status: paused",
            "",
            "VM status: paused",
        ]
        assert serial.read_bytes().endswith(b"typesaB ")
        assert answers(program, ("cont", "info status")) == ["", "VM status: running"]
        until(b"typesaB c$")
        assert answers(program, ("screendump one.ppm", "screendump two.png -f png")) == ["", ""]
        answers(program, ("system_reset",))
        until(b"GUEST.*GUEST types$")
        assert "cannot" not in answers(program, ("help",))[0]
        said = answers(program, ("sendkey nokey", "screendump", "info nothing", "screendump /no/where.ppm"))
        assert all(text.startswith("Error: ") for text in said), said
        program.type(b"q\n")
        assert program.end() == 0
    assert (tmp_path / "one.ppm").read_bytes().startswith(b"P6\n720 400\n255\n")
    assert len((tmp_path / "one.ppm").read_bytes()) == 15 + 720 * 400 * 3
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")


MODES = (0x04, 0x06, 0x0D, 0x0E, 0x10, 0x12, 0x13)
DRAWS = f"""
    mov di, modes
each: mov ah, 0
    mov al, [di]
    int 0x10
    mov cx, 30
dots: mov ax, 0x0c0f
    xor ax, cx
    and ax, 0x0c0f
    or ah, 0x0c
    xor bh, bh
    mov dx, cx
    int 0x10
    loop dots
    mov al, 'k'
    mov dx, 0x3f8
    out dx, al
    mov ah, 0
    int 0x16
    inc di
    jmp each
modes: .byte {", ".join(map(str, MODES))}, 3
"""


def test_pictures_of_vga_modes_are_qemus(tmp_path: Path) -> None:
    pictures: dict[str, list[bytes]] = {}
    for name, command in commands().items():
        image, serial = images.disk(tmp_path / "d.img", "", DRAWS), tmp_path / f"{name}.serial"
        words = ["-drive", f"format=raw,file={image}", "-snapshot", "-serial", f"file:{serial}", "-display", "none"]
        with Program(command, [*words, "-monitor", "stdio"], tmp_path) as program:
            program.wait_for(b"(qemu) ")
            for number, mode in enumerate(MODES, 1):
                for _ in range(400):
                    if serial.exists() and serial.read_bytes().count(b"k") == number:
                        break
                    time.sleep(0.02)
                file = tmp_path / f"{name}{mode:02x}.ppm"
                answers(program, (f"screendump {file.name}", "sendkey a"))
                pictures.setdefault(name, []).append(file.read_bytes())
            program.type(b"quit\n")
            assert program.end() == 0
    for mode, theirs, ours in zip(MODES, pictures["qemu"], pictures["ours"], strict=True):
        assert (theirs[:15], len(theirs)) == (ours[:15], len(ours)), hex(mode)
        assert theirs == ours, hex(mode)
    assert len(set(pictures["ours"])) > 4


def test_the_monitor_shares_its_end_with_the_guest(tmp_path: Path) -> None:
    image = images.disk(tmp_path / "d.img", "types", TYPES)
    with Program(commands()["ours"], [image, "-nographic", "-snapshot"], tmp_path) as program:
        program.wait_for(b"GUEST types")
        program.type(b"x")
        program.wait_for(b"x")
        program.type(b"\x01c")
        program.wait_for(b"(qemu) ")
        assert answers(program, ("info status",)) == ["VM status: running"]
        program.type(b"\x01cy\x01\x01z")
        program.wait_for(b"y\x01z")
        program.type(b"\x01h")
        program.wait_for(b"C-a x")
        program.type(b"\x01x")
        program.wait_for(b"QEMU: Terminated")
        assert program.end() == 0
