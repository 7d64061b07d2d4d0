"""INT 1Ah AH=B1h as a guest calls it, beside SeaBIOS's under QEMU."""

from __future__ import annotations

import subprocess
from contextlib import closing
from pathlib import Path

import hypervisor as hv
from tests.sectors import boot_sector

CALLS = (
    {"ax": 0xB101},
    {"ax": 0xB102, "cx": 0x7000, "dx": 0x8086, "si": 0},
    {"ax": 0xB102, "cx": 0x7000, "dx": 0x8086, "si": 1},
    {"ax": 0xB102, "cx": 0x1234, "dx": 0x5678, "si": 0},
    {"ax": 0xB103, "ecx": 0x060100, "si": 0},
    {"ax": 0xB103, "ecx": 0x030000, "si": 0},
    {"ax": 0xB103, "ecx": 0x068000, "si": 0},
    {"ax": 0xB103, "ecx": 0x020000, "si": 0},
    {"ax": 0xB108, "bx": 0x0008, "di": 0x0E},
    {"ax": 0xB109, "bx": 0x0008, "di": 0x02},
    {"ax": 0xB10A, "bx": 0x0009, "di": 0x08},
    {"ax": 0xB10B, "bx": 0x0010, "di": 0x3C, "cl": 0x5A},
    {"ax": 0xB108, "bx": 0x0010, "di": 0x3C},
    {"ax": 0xB10D, "bx": 0x0010, "di": 0x10, "ecx": 0xFFFFFFFF},
    {"ax": 0xB10A, "bx": 0x0010, "di": 0x10},
    {"ax": 0xB10C, "bx": 0x0010, "di": 0x04, "cx": 0x0000},
    {"ax": 0xB109, "bx": 0x0010, "di": 0x04},
)
"""Registers of each call. What an earlier one left counts, too."""

SUPPORT = """
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7000
    jmp start
dump:                       # CF, AX, EBX, ECX and EDX to the debug console
    sbb bp, bp
    push ebx
    push ecx
    push edx
    push ax
    push bp
    mov si, sp
    mov cx, 16
next:
    lodsb
    out 0xe9, al
    loop next
    pop bp
    pop ax
    pop edx
    pop ecx
    pop ebx
    ret
start:
"""
END = "    mov al, 0x10\n    out 0xf4, al\n    hlt\n"


def caller() -> bytes:
    code = SUPPORT
    for call in CALLS:
        code += "    xor ecx, ecx\n    xor edx, edx\n    xor ebx, ebx\n"
        code += "".join(f"    mov {name}, {value:#x}\n" for name, value in call.items())
        code += "    int 0x1a\n    call dump\n"
    return boot_sector(code + END)


def answers(output: bytes) -> list[str]:
    """One line for each call; AL is left out where a call says nothing in it."""
    rows = [output[at : at + 16] for at in range(0, len(output), 16)]
    assert len(rows) == len(CALLS)
    lines = []
    for call, row in zip(CALLS, rows, strict=True):
        words = [
            int.from_bytes(row[at : at + size], "little") for at, size in ((0, 2), (2, 2), (4, 4), (8, 4), (12, 4))
        ]
        if call["ax"] != 0xB101:
            words[1] &= 0xFF00
        lines.append(f"{call}: CF={words[0] & 1} AX={words[1]:04x} EDX={words[2]:x} ECX={words[3]:x} EBX={words[4]:x}")
    return lines


def test_answers_are_those_of_seabios(tmp_path: Path) -> None:
    image = tmp_path / "calls.img"
    image.write_bytes(caller())
    command = [
        *("qemu-system-x86_64", "-accel", "tcg", "-M", "pc", "-m", "16", "-display", "none", "-nic", "none"),
        *("-drive", f"format=raw,file={image}", "-debugcon", "stdio", "-no-reboot"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=1"),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == 33, done.stderr.decode()
    with closing(hv.boot(image, memory="16M", media="disk")) as vm:
        result = vm.run(virtual_timeout=10)
        assert result.status == 33, result.message
        ours = answers(vm.debugcon.bytes)
    assert ours == answers(done.stdout)


def test_a_board_without_pci_has_no_pci_bios() -> None:
    sector = boot_sector(SUPPORT + "    mov ax, 0xb101\n    int 0x1a\n    call dump\n" + END)
    with closing(hv.boot(sector, memory="4M", board=hv.pc().without("pci"))) as vm:
        assert vm.run(virtual_timeout=10).status == 33
        carry, ah = vm.debugcon.bytes[0] & 1, vm.debugcon.bytes[3]
    assert (carry, ah) == (1, 0x86)
