"""``vm.screen`` and waiting for what it shows."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

import hypervisor as hv
from tests.screen import guests

STEPS = """
    mov edi, 0xb8000
    mov ecx, 3
next_step:
    push ecx
    mov ecx, 20000000
wait_step:
    dec ecx
    jnz wait_step
    mov word [edi], 0x0724  # $
    mov word [edi + 2], 0x0720
    add edi, 160
    pop ecx
    dec ecx
    jnz next_step
"""


@pytest.fixture
def host() -> Iterator[hv.Host]:
    with hv.Host("32M", 1) as host:
        yield host


def text(row: int, column: int, value: str) -> str:
    at = 0xB8000 + 2 * (80 * row + column)
    return "".join(f"    mov word [{at + 2 * n:#x}], {0x0700 | ord(char):#x}\n" for n, char in enumerate(value))


def test_text_of_a_screen(host: hv.Host) -> None:
    vm = host.create_vm(guests.image(text(0, 0, "first") + text(24, 75, "last.")), memory="8M")
    vm.run(timeout=20)
    assert vm.screen.text == "first" + "\n" * 24 + " " * 75 + "last."
    assert vm.screen.rows[0].attributes == b"\x07" * 80
    assert vm.screen.colours[0x1F] == (15, 1) and vm.screen.colours[0x8F] == (15, 0)


def test_waiting_for_text_takes_what_is_there(host: hv.Host) -> None:
    vm = host.create_vm(guests.image(text(3, 0, "ready>")), memory="8M")
    found = vm.screen.wait_for_text("ready>", timeout=20)
    assert found.source == "the screen" and found.text == "ready>"
    assert vm.screen.wait_for_text("ready>", timeout=20).text == "ready>"
    with pytest.raises(hv.ExpectError, match=r"the screen shows 'never'(.|\n)*ready>"):
        vm.screen.wait_for_text("never", timeout=20)


def test_until_wants_a_text_anew_each_time(host: hv.Host) -> None:
    vm = host.create_vm(guests.image(STEPS), memory="8M")
    times = []
    for n in range(3):
        result = vm.run(until="$", timeout=60)
        assert result.reason is hv.Reason.UNTIL and result.message == "the screen shows '$'"
        assert vm.screen.text.count("$") == n + 1
        times.append(result.virtual_s)
    assert vm.run(until="$", timeout=60).reason is hv.Reason.HALTED
    again = host.create_vm(guests.image(STEPS), memory="8M")
    assert [again.run(until="$", timeout=60).virtual_s for _ in range(3)] == times


def test_named_waits_see_what_others_found(host: hv.Host) -> None:
    vm = host.create_vm(guests.image(text(0, 0, "alpha beta")), memory="8M")
    assert vm.run(until=vm.screen.contains("beta"), timeout=20).reason is hv.Reason.UNTIL
    assert vm.run(until=vm.screen.matches(r"al\w+"), timeout=20).reason is hv.Reason.HALTED  # it was there before
    other = host.create_vm(guests.image(text(0, 0, "alpha beta")), memory="8M")
    assert other.screen.expect(r"b(\w)ta", timeout=20)[1] == "e"


def test_waiting_for_the_blank_at_the_end_of_a_prompt(host: hv.Host) -> None:
    rows = text(0, 0, "> one") + text(1, 0, "two") + text(2, 0, ">")
    vm = host.create_vm(guests.image(rows), memory="8M")
    assert vm.screen.wait_for_text("two", timeout=20).before == "> one\n"
    assert vm.screen.find(re.compile("> ")) and vm.screen.find(re.compile(r"one\ntwo\n>\n"))
    assert [match.start() for match in vm.screen.find(re.compile("> "))] == [0, 2 * 81]


def test_a_graphics_mode_has_no_text(host: hv.Host) -> None:
    vm = host.create_vm(guests.image(text(0, 0, "x") + guests.set_mode(0x13)), memory="8M")
    vm.run(timeout=20)
    assert vm.screen.text == "" and vm.screen.rows == [] and vm.screen.cursor is None


def test_png_has_the_pixels(host: hv.Host) -> None:
    vm = host.create_vm(guests.image(guests.set_mode(0x13) + guests.noise(0xA0000, 16000, 3)), memory="8M")
    vm.run(timeout=20)
    data = vm.screen.png()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        chunks[name] = data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size)[0] == zlib.crc32(name + chunks[name])
        at += 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (320, 200, 8, 2, 0, 0, 0)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(200, 1 + 3 * 320)
    assert not rows[:, 0].any()
    assert (rows[:, 1:].reshape(200, 320, 3) == vm.screen.pixels).all()


def test_a_reset_brings_the_text_mode_back(host: hv.Host) -> None:
    vm = host.create_vm(guests.image(guests.dispi(640, 480, 32)), memory="8M")
    vm.run(timeout=20)
    assert str(vm.screen.mode) == "640x480x32"
    vm.reset()
    assert str(vm.screen.mode) == "text 80x25" and vm.screen.text.strip() == ""
    vm.memory.write(0xB8000, b"H\x07i\x07")
    assert vm.screen.text.startswith("Hi")


def test_the_screen_of_a_closed_vm_is_gone(host: hv.Host) -> None:
    vm = host.create_vm(guests.image(""), memory="8M")
    vm.close()
    with pytest.raises(hv.ConfigError, match="its screen is gone"):
        print(vm.screen.text)


def test_the_frame_buffer_moves_with_its_pci_window(host: hv.Host) -> None:
    move = """
        mov dx, 0xcf8
        mov eax, 0x80001010
        out dx, eax
        mov dx, 0xcfc
        mov eax, 0xe0000000
        out dx, eax
    """
    code = guests.dispi(640, 480, 32) + move + guests.noise(0xE0000000, 640, 5)
    vm = host.create_vm(guests.image(code), memory="8M")
    vm.run(timeout=20)
    words = np.frombuffer(guests.noise_bytes(640, 5), "<u4")
    assert (vm.screen.pixels[0, :, 0] == words >> 16 & 0xFF).all()
    assert vm.memory.read(0xFD000000, 4) == b"\xff" * 4


def test_text_needs_neither_numpy_nor_an_imaging_library() -> None:
    code = (
        "import sys, hypervisor as hv; vm = hv.boot('hello', memory='8M'); vm.run(timeout=20);"
        "assert 'Hello' in vm.screen.text; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"numpy", "PIL", "numba", "capstone"}.isdisjoint(done.stdout.split())


def test_the_registers_are_in_pci_memory_too(host: hv.Host) -> None:
    code = """
        mov dx, 0xcf8
        mov eax, 0x80001018
        out dx, eax
        mov dx, 0xcfc
        in eax, dx
        mov edi, eax
        mov word [edi + 0x502], 320
        mov word [edi + 0x504], 240
        mov word [edi + 0x506], 16
        mov word [edi + 0x508], 0x41
        mov ax, [edi + 0x500]
        out 0xe9, al
        mov byte [edi + 0x408], 1
        mov byte [edi + 0x409], 0x2a
        mov byte [edi + 0x407], 1
        mov al, [edi + 0x409]
        out 0xe9, al
    """
    vm = host.create_vm(guests.image(code), memory="8M")
    vm.run(timeout=20)
    assert str(vm.screen.mode) == "320x240x16"
    assert vm.debugcon.bytes == b"\xc5\x2aD"


def test_boards_without_pci_or_without_a_display(host: hv.Host) -> None:
    bare = hv.pc().without("vga-pci").without("pci")
    vm = host.create_vm(
        guests.image(guests.dispi(640, 480, 32) + guests.noise(0xFD000000, 640, 1)), memory="8M", board=bare
    )
    vm.run(timeout=20)
    words = np.frombuffer(guests.noise_bytes(640, 1), "<u4")
    assert (vm.screen.pixels[0, :, 2] == words & 0xFF).all()
    blind = hv.pc()
    for name in ("vga", "vga-planes", "vga-dispi", "vga-pci"):
        blind = blind.without(name)
    with hv.boot("hello", memory="8M", board=blind) as quiet:
        assert quiet.run(until="Hello", timeout=20).reason is hv.Reason.UNTIL and quiet.screen is None
