"""INT 10h on the whole machine: what it sets and says is what SeaBIOS's video BIOS sets and says under QEMU."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import hypervisor as hv
from hypervisor.arch.font import font
from hypervisor.arch.vga_modes import MODES
from hypervisor.firmware.bios.video.vbe_modes import LINEAR_MODES
from tests.screen import qemu
from tests.sectors import boot_sector

START = """
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    sti
    cld
"""
STOP = """
    mov al, 'D'
    out 0xe9, al
stop:
    cli
    hlt
    jmp stop
"""
DUMP = """
dump:  # CX bytes at DS:SI
    lodsb
    out 0xe9, al
    loop dump
    ret
indexed:  # CX registers behind index port DX
    xor bl, bl
next_indexed:
    mov al, bl
    out dx, al
    inc dx
    in al, dx
    dec dx
    out 0xe9, al
    inc bl
    loop next_indexed
    ret
"""


@pytest.fixture
def host() -> Iterator[hv.Host]:
    with hv.Host("16M", 1) as host:
        yield host


def sector(code: str, data: str = "") -> bytes:
    return boot_sector(START + code + STOP + DUMP + data)


def run(host: hv.Host, image: bytes) -> hv.VM:
    vm = host.create_vm(image, memory="8M")
    result = vm.run(timeout=60, virtual_timeout=10)
    assert result.reason is hv.Reason.HALTED, result.message
    assert vm.debugcon.bytes.endswith(b"D")
    return vm


def both(host: hv.Host, image: bytes, directory: Path) -> tuple[bytes, bytes]:
    """What the guest says here and under QEMU."""
    ours = run(host, image).debugcon.bytes
    qemu.picture(qemu.disk(image, directory), directory, ours[-1:] if len(ours) < 4 else b"D")
    debug = (directory / "debugcon").read_bytes()
    return ours, debug[-len(ours) :]


REGISTERS = """
    mov ax, MODE
    int 0x10
    mov dx, 0x3c4
    mov cx, 5
    call indexed
    mov dx, [0x463]
    mov cx, 25
    call indexed
    mov dx, 0x3ce
    mov cx, 9
    call indexed
    mov dx, [0x463]
    add dx, 6
    xor bl, bl
next_attribute:
    in al, dx
    push dx
    mov dx, 0x3c0
    mov al, bl
    or al, 0x20
    out dx, al
    inc dx
    in al, dx
    out 0xe9, al
    pop dx
    inc bl
    cmp bl, 21
    jne next_attribute
    mov dx, 0x3cc
    in al, dx
    out 0xe9, al
    mov si, 0x449
    mov cx, 5
    call dump
    mov si, 0x484
    mov cx, 3
    call dump
    mov dx, 0x3c7
    xor al, al
    out dx, al
    inc dx
    inc dx
    mov cx, 192
next_level:
    in al, dx
    out 0xe9, al
    loop next_level
"""
PARTS = (("sequencer", 5), ("crtc", 25), ("graphics", 9), ("attribute", 21), ("misc", 1), ("area", 5), ("rows", 3))


def parts(said: bytes) -> dict[str, bytes]:
    named, at = {}, 0
    for name, size in PARTS:
        named[name], at = said[at : at + size], at + size
    named["graphics"] = named["graphics"][:7] + named["graphics"][8:]  # SeaBIOS cares for all planes everywhere
    return {**named, "colours": said[at:]}


MONO = (0x07, 0x0F)


@pytest.mark.parametrize("number", MODES)
def test_a_mode_sets_the_registers_that_seabios_sets(host: hv.Host, tmp_path: Path, number: int) -> None:
    ours, theirs = map(parts, both(host, sector(REGISTERS.replace("MODE", str(number))), tmp_path))
    for name in ("sequencer", "area", "rows") if number in MONO else ours:  # SeaBIOS has no true monochrome
        assert ours[name] == theirs[name], name


VBE_MODES = f"""
    mov si, modes
next_mode:
    lodsw
    cmp ax, 0xffff
    je done
    push si
    mov cx, ax
    mov di, 0x8000
    mov ax, 0x4f01
    int 0x10
    cmp ax, 0x4f
    jne failed
    mov si, 0x8010
    mov cx, {0x28 - 0x10 + 4}
    call dump
    mov si, 0x8000
    mov cx, 2
    call dump
failed:
    pop si
    jmp next_mode
done:
"""


def test_vbe_modes_are_those_of_seabios(host: hv.Host, tmp_path: Path) -> None:
    table = "modes: .word " + ", ".join(map(str, [*LINEAR_MODES, 0xFFFF]))
    ours, theirs = both(host, sector(VBE_MODES, table), tmp_path)
    size = 0x28 - 0x10 + 4 + 2
    assert len(ours) == size * len(LINEAR_MODES) + 1
    for n, mode in enumerate(LINEAR_MODES.values()):
        mine, its = ours[n * size :][:size], theirs[n * size :][:size]
        pitch, width, height = struct.unpack_from("<HHH", mine)
        assert (width, height, mine[9]) == (mode.width, mode.height, mode.bits), mode
        assert pitch == (mode.width // 8 if mode.bits == 4 else mode.pitch)
        assert struct.unpack_from("<I", mine, 24) == (0 if mode.bits == 4 else 0xFD000000,)
        assert describe(mine) == describe(its), mode


def describe(block: bytes) -> tuple[object, ...]:
    """Pitch, size, character cell, planes, depth, model; masks; frame buffer; attributes but text output by BIOS."""
    shape = struct.unpack_from("<HHHBBBB", block)
    attributes = struct.unpack_from("<H", block, 28)[0]
    return (shape, block[11], block[15:23], block[24:28], attributes & ~0x04)


INFORMATION = """
    mov di, 0x8000
    mov dword [di], 0x32454256  # VBE2
    mov ax, 0x4f00
    int 0x10
    push ax
    mov si, 0x8000
    mov cx, 20
    call dump
    lds si, [0x800e]
    mov cx, 4
    call dump
    xor ax, ax
    mov ds, ax
    mov ax, 0x4f02
    mov bx, 0x4144
    int 0x10
    mov ax, 0x4f03
    int 0x10
    mov [0x8200], bx
    mov ax, 0x4f02
    mov bx, 0x4fff
    int 0x10
    mov [0x8204], ax
    mov ax, 0x4f0a
    int 0x10
    mov [0x8208], ax
    mov ax, 0x4fff
    int 0x10
    mov [0x8206], ax
    pop ax
    mov [0x8202], ax
    mov si, 0x8200
    mov cx, 10
    call dump
"""


def test_vbe_says_what_there_is(host: hv.Host) -> None:
    vm = run(host, sector(INFORMATION))
    said = vm.debugcon.bytes
    signature, version = struct.unpack_from("<4sH", said)
    capabilities, offset, segment, memory = struct.unpack_from("<IHHH", said, 10)
    assert (signature, version, capabilities, memory) == (b"VESA", 0x0300, 1, 256)
    assert (offset, segment) == (0x8022, 0), "the list is in the block, so that its address below 64 KiB is a flat one"
    assert struct.unpack_from("<HH", said, 20) == (0x100, 0x101)
    current, answer, failed, unknown, protected_mode = struct.unpack_from("<5H", said, 24)
    assert (current, answer, failed, protected_mode) == (0x4144, 0x004F, 0x014F, 0x014F)
    assert unknown & 0xFF == 0xFF and unknown != 0x004F
    assert vm.notes == ["guest called INT 10h AX=4FFFh (VESA BIOS extension): not provided"]
    assert str(vm.screen.mode) == "1024x768x32"


def test_teletype_and_pixels_in_mode_12h(host: hv.Host) -> None:
    vm = run(host, sector(GRAPHICS.replace("MODE", "0x12")))
    expected = drawn(16, np.zeros((480, 640), int))
    levels = np.zeros((16, 3), np.uint8)
    levels[14], levels[9] = (255, 255, 87), (87, 87, 255)
    assert (vm.screen.pixels == levels[expected]).all()
    assert vm.debugcon.bytes == bytes((14, 0)) + b"D"


def test_teletype_and_pixels_in_mode_13h(host: hv.Host) -> None:
    vm = run(host, sector(GRAPHICS.replace("MODE", "0x13")))
    expected = drawn(8, np.zeros((200, 320), int))
    levels = np.zeros((16, 3), np.uint8)
    levels[14], levels[9] = (255, 255, 87), (87, 87, 255)
    assert (vm.screen.pixels == levels[expected]).all()
    assert vm.debugcon.bytes == bytes((14, 0)) + b"D"


GRAPHICS = """
    mov ax, MODE
    int 0x10
    mov cx, 3
again:
    mov ax, 0x0e41  # A
    mov bx, 0x000e
    int 0x10
    mov ax, 0x0e0a
    int 0x10
    loop again
    mov ax, 0x0601  # one row up, the new one in blue
    mov bh, 9
    mov cx, 0x0000
    mov dx, 0x0305
    int 0x10
    mov ax, 0x0c0e
    xor bh, bh
    mov cx, 101
    mov dx, 99
    int 0x10
    mov ah, 0x0d
    int 0x10
    out 0xe9, al
    mov dx, 98
    mov ah, 0x0d
    int 0x10
    out 0xe9, al
"""


def drawn(height: int, picture: np.ndarray) -> np.ndarray:
    """The colours of what `GRAPHICS` draws: three letters A, each below and to the right of the one before."""
    glyph = np.unpackbits(np.frombuffer(font(height).glyph(ord("A")), np.uint8)).reshape(height, 8) * 14
    for n in range(3):
        picture[n * height : (n + 1) * height, 8 * n : 8 * n + 8] = glyph
    window = picture[: 4 * height, :48].copy()
    picture[: 3 * height, :48] = window[height:]
    picture[3 * height : 4 * height, :48] = 9
    picture[99, 101] = 14
    return picture


def test_fifty_rows(host: hv.Host) -> None:
    code = """
        mov ax, 3
        int 0x10
        mov ax, 0x1112
        xor bl, bl
        int 0x10
        mov cx, 60
    again:
        mov al, 60
        sub al, cl
        add al, ' '
        mov ah, 0x0e
        int 0x10
        mov ax, 0x0e0a
        int 0x10
        mov ax, 0x0e0d
        int 0x10
        loop again
        mov ax, 0x1130
        mov bh, 3
        int 0x10
        mov [0x8000], cx
        mov [0x8002], dl
        mov al, [es:bp + 65 * 8]
        mov [0x8003], al
        mov si, 0x8000
        mov cx, 4
        call dump
    """
    vm = run(host, sector(code))
    assert str(vm.screen.mode) == "text 80x50"
    assert vm.screen.text.split("\n") == [chr(32 + 11 + n) for n in range(49)] + [""]
    assert vm.debugcon.bytes[:-1] == bytes((8, 0, 49, font(8).glyph(65)[0]))
    assert vm.screen.size == (720, 400)


def test_a_picture_of_text_is_made_of_our_font(host: hv.Host) -> None:
    code = """
        mov ax, 3
        int 0x10
        mov word [0x8000], 0
        mov ax, 0xb800
        mov es, ax
        mov word [es:0], 0x1e41
        mov word [es:2], 0x8fdb
        mov ax, 0x0200
        xor bx, bx
        mov dx, 0x0102
        int 0x10
    """
    vm = run(host, sector(code))
    pixels = vm.screen.pixels
    dots = np.unpackbits(np.frombuffer(font(16).glyph(65), np.uint8)).reshape(16, 8)
    yellow, blue = np.array((255, 255, 87), np.uint8), np.array((0, 0, 168), np.uint8)
    assert (pixels[:16, :8] == np.where(dots[..., None], yellow, blue)).all()
    assert (pixels[:16, 8] == blue).all()  # the ninth dot
    assert (pixels[:16, 9:18] == 255).all()  # a block runs on into it; bit 7 of its attribute blinks
    assert vm.screen.cursor == (1, 2)
    cell = pixels[16:32, 18:27]
    lit = (cell == 168).all(axis=(1, 2))
    assert lit.nonzero()[0].tolist() == [13, 14] and not cell[~lit].any()


READ_BACK = """
    mov ax, MODE
    int 0x10
    mov ax, 0x0941
    mov bx, 5
    mov cx, 1
    int 0x10
    mov ah, 8
    int 0x10
    mov [0x8100], ax
    mov ax, 0x0c07           # a dot that no character has there
    xor cx, cx
    xor dx, dx
    int 0x10
    mov ah, 8
    int 0x10
    mov [0x8102], ax
    mov si, 0x8100
    mov cx, 4
    call dump
"""


@pytest.mark.parametrize("mode", ["0x0d", "0x13"])
def test_a_character_is_read_back_from_a_picture_with_its_colour(host: hv.Host, tmp_path: Path, mode: str) -> None:
    ours, theirs = both(host, sector(READ_BACK.replace("MODE", mode)), tmp_path)
    assert ours == theirs == b"\x41\x05\0\0D"


DISPLAY = """
    mov ax, 0x4f07  # fails without a linear mode
    xor bx, bx
    int 0x10
    mov [0x8100], ax
    mov ax, 0x4f02
    mov bx, 0x4105
    int 0x10
    mov ax, 0x4f06
    mov bl, 0
    mov cx, 1104
    int 0x10
    mov [0x8102], bx
    mov [0x8104], cx
    mov [0x8106], dx
    mov ax, 0x4f07
    xor bx, bx
    mov cx, 16
    mov dx, 5
    int 0x10
    mov ax, 0x4f07
    mov bx, 1
    int 0x10
    mov [0x8108], cx
    mov [0x810a], dx
    mov ax, 0x4f08
    mov bx, 0x0800
    int 0x10
    mov [0x810c], bx
    mov ax, 0x4f09
    xor bx, bx
    mov cx, 1
    mov dx, 7
    mov di, data
    int 0x10
    mov ax, 0x4f05
    xor bx, bx
    mov dx, 1
    int 0x10
    mov ax, 0xa000
    mov es, ax
    mov byte [es:0], 7
    mov si, 0x8100
    mov cx, 14
    call dump
"""


def test_vbe_scrolls_colours_and_windows(host: hv.Host, tmp_path: Path) -> None:
    image = sector(DISPLAY, "data: .byte 30, 20, 10, 0")
    ours, theirs = both(host, image, tmp_path)
    failed, pitch, width, lines, x, y, dac = struct.unpack_from("<7H", ours)
    assert (failed, pitch, width, lines, x, y, dac >> 8) == (0x014F, 1104, 1104, (16 << 20) // 1104, 16, 5, 8)
    assert ours[2:] == theirs[2:]  # SeaBIOS fails with another answer
    vm = run(host, image)
    picture = vm.screen.pixels
    row, column = divmod(0x10000, 1104)
    assert tuple(picture[row - 5, column - 16]) == (10, 20, 30)
