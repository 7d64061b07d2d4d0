"""Code that a drive puts over code that has run: the new code runs, by whichever way it came."""

from __future__ import annotations

from contextlib import closing

import pytest

import hypervisor as hv
from tests.sectors import boot_sector

SETUP = """
    cli; xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax; mov sp, 0x7c00; cld
    mov byte ptr [0x9000], 0xb0; mov byte ptr [0x9001], 1; mov byte ptr [0x9002], 0xc3   # mov al, 1; ret
    mov bp, 3
again:
    call 0x9000; out 0xe9, al
    dec bp; jnz again
    call load
    mov bp, 3
more:
    call 0x9000; out 0xe9, al
    dec bp; jnz more
    mov dx, 0x604; mov ax, 0x2000; out dx, ax; hlt
address:                          # LBA 1, one sector, primary master
    mov dx, 0x1f6; mov al, 0xe0; out dx, al
    mov dx, 0x1f2; mov al, 1; out dx, al; inc dx; out dx, al; inc dx; mov al, 0; out dx, al; inc dx; out dx, al
    mov dx, 0x1f7; ret
"""
WAYS = {
    "pio": """
      call address; mov al, 0x20; out dx, al; mov dx, 0x1f0; mov di, 0x9000; mov cx, 256; rep insw; ret
    """,
    "dma": """
      mov dword ptr [0x8000], 0x9000; mov dword ptr [0x8004], 0x80000200
      mov dx, 0xcf8; mov eax, 0x80000920; out dx, eax; mov dx, 0xcfc; in eax, dx; and ax, 0xfff0; mov bx, ax
      mov dx, bx; add dx, 4; mov eax, 0x8000; out dx, eax
      call address; mov al, 0xc8; out dx, al
      mov dx, bx; mov al, 9; out dx, al; ret
    """,
    "int-13h": """
      mov ax, 0x0201; mov bx, 0x9000; mov cx, 2; mov dx, 0x80; int 0x13; ret
    """,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_new_code_runs(way: str) -> None:
    image = boot_sector(f"{SETUP}\nload:\n{WAYS[way]}") + b"\xb0\x02\xc3".ljust(512, b"\0")
    with closing(hv.boot(image, memory="4M", media="disk")) as vm:
        result = vm.run(timeout=20)
        assert (result.reason, vm.debugcon.bytes) == (hv.Reason.POWERED_OFF, b"\1\1\1\2\2\2")
