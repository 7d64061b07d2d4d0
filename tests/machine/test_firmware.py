"""Firmware of our own, a page of code at the reset vector: where it runs, and what PAM registers do to it."""

from __future__ import annotations

from contextlib import closing

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.devices.fw_cfg import CPUS, MAX_CPUS, RAM_SIZE

ROM_SIZE = 0x20000


def rom(code: str) -> bytes:
    """A ROM of 128 KiB that runs ``code`` at F000:0000, with its address in every other 16-byte line's first word."""
    image = bytearray(ROM_SIZE)
    for at in range(0, ROM_SIZE, 16):
        image[at : at + 2] = (at >> 4 & 0xFFFF).to_bytes(2, "little")
    body = assemble(SUPPORT + code, origin=0, mode=16).code
    image[0x10000 : 0x10000 + len(body)] = body
    image[-16:] = b"\xea\x00\x00\x00\xf0".ljust(16, b"\0")
    return bytes(image)


SUPPORT = """
    jmp start
pam:                        # set PAM register CL of the host bridge to CH
    mov eax, 0x80000058
    mov al, cl
    mov bl, cl
    and al, 0xfc
    mov dx, 0xcf8
    out dx, eax
    mov dl, bl
    and dl, 3
    add dl, 0xfc
    mov al, ch
    out dx, al
    ret
put:                        # a word to the debug console
    out 0xe9, al
    mov al, ah
    out 0xe9, al
    ret
start:
    mov sp, 0x7000
"""
OFF = "    mov al, 0x10\n    out 0xf4, al\n    hlt\n"


def words(code: str, *, runs: int = 1) -> list[int]:
    with closing(hv.boot(firmware=rom(code + OFF), memory="4M")) as vm:
        for _ in range(runs):
            assert vm.run(virtual_timeout=1).reason is hv.Reason.DEBUG_EXIT
            if runs > 1:
                vm.reset()
        data = vm.debugcon.bytes
    return [int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2)]


def test_it_starts_at_the_reset_vector_and_shows_below_1_mib() -> None:
    assert words("""
        mov ax, 0xe000
        mov ds, ax
        mov ax, [0x0010]
        call put
        mov ax, [0xfff0]
        call put
        mov word [0x10], 0x1234      # a ROM: nothing happens
        mov ax, [0x0010]
        call put
        mov ax, 0xc000               # nothing is there
        mov ds, ax
        mov word [0], 0x5678
        mov ax, [0]
        call put
    """) == [0x0001, 0x0FFF, 0x0001, 0xFFFF]


SHADOW = """
    mov ax, 0xe000
    mov ds, ax
    mov es, ax
    mov cx, 0x225e               # writes to RAM, reads from ROM, of E0000h and E4000h
    call pam
    mov ax, [0x10]
    not ax
    mov [0x10], ax               # goes to RAM
    mov ax, [0x10]
    call put                     # the ROM still
    mov cx, 0x115e               # reads RAM, which cannot be written
    call pam
    mov ax, [0x10]
    call put                     # what was written
    mov word [0x10], 0x9999
    mov ax, [0x10]
    call put                     # unchanged
    mov cx, 0x335e               # RAM
    call pam
    mov word [0x10], 0x7777
    mov ax, [0x10]
    call put
    mov cx, 0x005e               # ROM
    call pam
    mov ax, [0x10]
    call put
    mov cx, 0x305e               # the second segment is RAM, the first is not
    call pam
    mov ax, [0x10]
    call put
    mov ax, [0x4000]
    call put
    mov cx, 0x335e
    call pam
    mov ax, [0x10]               # RAM has kept it
    call put
"""


def test_pam_directs_reads_and_writes_apart() -> None:
    assert words(SHADOW) == [0x0001, 0xFFFE, 0xFFFE, 0x7777, 0x0001, 0x0001, 0x0000, 0x7777]


def test_code_goes_on_when_ram_takes_the_place_of_rom() -> None:
    """The usual way of firmware: copy the segment onto itself, go on in RAM, change the copy."""
    assert words("""
        mov cx, 0x2059
        call pam
        mov ax, cs
        mov ds, ax
        mov es, ax
        xor si, si
        xor di, di
        mov cx, 0x8000
        cld
        rep movsw
        mov cx, 0x3059
        call pam
        mov word [changed + 1], 0x4444
    changed:
        mov ax, 0x3333
        call put
    """) == [0x4444]


def test_a_reset_brings_the_rom_back() -> None:
    both = words(SHADOW, runs=2)
    assert both[:8] == both[8:]


def test_no_firmware_and_no_image_is_a_board_alone() -> None:
    with hv.Host("4M") as host:
        assert host.create_vm(memory="4M").firmware is None


def test_fw_cfg_and_cmos_tell_of_the_machine() -> None:
    with closing(hv.boot(firmware=rom(OFF), memory="4M", cpus=2, boot_order="dac", cdrom=bytes(2048))) as vm:
        config, cmos = vm.devices["fw_cfg"], vm.devices["rtc"]

        def item(number: int, count: int) -> int:
            config.write(0, 2, number)
            return sum(config.read(1, 1) << 8 * n for n in range(count))

        def byte(index: int) -> int:
            cmos.write(0, 1, index)
            return cmos.read(1, 1)

        assert (item(RAM_SIZE, 8), item(CPUS, 2), item(MAX_CPUS, 2)) == (4 << 20, 2, 2)
        assert config.files["etc/e820"] == bytes(8) + (4 << 20).to_bytes(8, "little") + b"\1\0\0\0"
        assert (byte(0x3D), byte(0x38), byte(0x5F)) == (0x13, 0x20, 1)


@pytest.mark.parametrize(("kilobytes", "kind"), [(360, 1), (1200, 2), (720, 3), (1440, 4), (2880, 5), (160, 1)])
def test_cmos_tells_of_the_diskette_drive(kilobytes: int, kind: int) -> None:
    image = bytes(510) + b"\x55\xaa" + bytes(kilobytes * 1024 - 512)
    with closing(hv.boot(image, memory="4M")) as vm:
        cmos = vm.devices["rtc"]
        found = []
        for index in (0x10, 0x14):
            cmos.write(0, 1, index)
            found.append(cmos.read(1, 1))
    assert found == [kind << 4, 0x07]


def test_the_tables_say_where_firmware_has_put_power_management() -> None:
    """OVMF puts its ports at B000h, and only then asks for the tables."""
    code = """
        mov eax, 0x80000b40         # PMBA of function 01.3, then PMREGMISC: the ports are on
        mov dx, 0xcf8
        out dx, eax
        mov eax, 0xb001
        mov dl, 0xfc
        out dx, eax
        mov eax, 0x80000b80
        mov dl, 0xf8
        out dx, eax
        mov al, 1
        mov dl, 0xfc
        out dx, al
        mov al, 0xf1                # ACPI on: SCI_EN shows in PM1 control, not the power-off port of old emulators
        out 0xb2, al
        mov dx, 0xb004
        in ax, dx
        call put
    """
    with closing(hv.boot(firmware=rom(code + OFF), memory="4M")) as vm:
        tables = vm.devices["fw_cfg"].files["etc/acpi/tables"]
        before = tables()
        assert vm.run(virtual_timeout=1).reason is hv.Reason.DEBUG_EXIT
        after = tables()
        assert vm.debugcon.bytes == b"\1\0"
    fadt = before.index(b"FACP")
    pm1_event, pm1_control, timer = 56, 64, 76
    for at, offset in ((pm1_event, 0), (pm1_control, 4), (timer, 8)):
        assert int.from_bytes(before[fadt + at : fadt + at + 4], "little") == 0x600 + offset
        assert int.from_bytes(after[fadt + at : fadt + at + 4], "little") == 0xB000 + offset
