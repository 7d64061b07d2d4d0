"""A boot sector that has the machine's services and drives in the middle of things: it writes strings, waits, reads and
writes a disk and a diskette, sets a mode, and asks for keys.
"""

from __future__ import annotations

from pathlib import Path

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.twins.runs import Guest

SOURCE = """
    cli; xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax; mov sp, 0x7c00; sti
    mov si, 5
again:
    mov ax, 0x1301; mov bx, 7; mov cx, 600; mov dx, 0; mov bp, 0x7c00; int 0x10
    mov ah, 0x86; xor cx, cx; mov dx, 1500; int 0x15
    mov ax, 0x0203; mov bx, 0x1000; mov cx, 2; mov dx, 0x80; int 0x13
    mov ax, si; mov di, 0x1000; mov cx, 700; cld; rep stosw
    mov ax, 0x0303; mov bx, 0x1000; mov cx, 3; mov dx, 0x80; int 0x13
    mov ax, 0x0301; mov bx, 0x1000; mov cx, 4; mov dx, 0x00; int 0x13
    mov ah, 0x00; int 0x16
    mov ah, 0x0e; int 0x10; mov dx, 0x3f8; out dx, al
    mov al, 0xb6; out 0x43, al; mov al, 0x34; out 0x42, al; out 0x42, al; in al, 0x61; or al, 3; out 0x61, al
    mov ah, 0x01; int 0x16
    mov ah, 0x86; xor cx, cx; mov dx, 9000; int 0x15
    in al, 0x61; and al, 0xfc; out 0x61, al
    dec si; jnz again
    mov ax, 0x13; int 0x10
    mov ax, 0xa000; mov es, ax; xor di, di; mov al, 5; mov cx, 9999; rep stosb
    mov ax, 0x5307; mov bx, 1; mov cx, 3; int 0x15
    hlt
"""


def person(vm: hv.VM) -> None:
    """Types on the keyboard and at the line, moves the mouse; much of it waits."""
    vm.console.send("ab")
    vm.keyboard.type("Hello, world\n")
    vm.serial[0].send("typed at the line\n" * 5)
    vm.mouse.move(5, -3)
    vm.mouse.click()


def make(folder: Path) -> Guest:
    """The guest; its images are put into ``folder``."""
    code = assemble(SOURCE, origin=0x7C00, mode=16).code
    assert len(code) <= 510
    disk, floppy = folder / "disk.img", folder / "floppy.img"
    sector = code.ljust(510, b"\0") + b"\x55\xaa"
    disk.write_bytes(bytes(1 << 20))
    floppy.write_bytes(sector.ljust(1474560, b"\0"))
    options = {"floppy": str(floppy), "disks": [str(disk)], "boot_order": "a", "memory": "2M"}
    return Guest(options, 5.0, person)
