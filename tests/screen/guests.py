"""Guests that draw, for a multiboot loader: ours, and QEMU's. They set registers from the tables that a BIOS uses."""

from __future__ import annotations

import struct

from hypervisor.arch.vga_modes import MODES, dac
from hypervisor.assembler import assemble

START = 0x100000
HEADER = struct.pack("<8I", 0x1BADB002, 0x10000, (-0x1BADB002 - 0x10000) & 0xFFFFFFFF, *[START] * 2, 0, 0, START + 32)
"""Multiboot with the a.out kludge: loaded at 1 MiB as it is, entered behind the header."""

STOP = """
    mov al, 'D'
    mov dx, 0xe9
    out dx, al
stop:
    cli
    hlt
    jmp stop
"""


def image(code: str) -> bytes:
    """A 32-bit multiboot kernel that runs ``code``, says D on the debug console, and halts."""
    body = assemble(f"    cli\n    mov esp, 0x90000\n{code}\n{STOP}", origin=START + 32, mode=32).code
    return HEADER + body


def indexed(port: int, values: bytes, first: int = 0) -> str:
    """OUTs of index and data as words."""
    return f"    mov dx, {port:#x}\n" + "".join(
        f"    mov ax, {value << 8 | index:#x}\n    out dx, ax\n" for index, value in enumerate(values, first)
    )


def set_mode(number: int) -> str:
    """The registers of a standard mode and its colours, by port writes."""
    mode = MODES[number]
    base = 0x3D4 if mode.misc & 1 else 0x3B4
    unlocked = bytes((mode.crtc[0x11] & 0x7F,))
    code = f"    mov dx, 0x3c2\n    mov al, {mode.misc:#x}\n    out dx, al\n"
    code += indexed(0x3C4, b"\x03" + mode.sequencer[1:]) + indexed(base, unlocked, 0x11) + indexed(base, mode.crtc)
    code += indexed(0x3CE, mode.graphics) + f"    mov dx, {base + 6:#x}\n    in al, dx\n    mov dx, 0x3c0\n"
    for index, value in enumerate(mode.attribute):
        code += f"    mov al, {index}\n    out dx, al\n    mov al, {value:#x}\n    out dx, al\n"
    code += "    mov al, 0x20\n    out dx, al\n"
    return code + load_dac(dac(mode.palette))


def load_dac(levels: bytes) -> str:
    """The DAC from entry 0 on."""
    code = "    mov dx, 0x3c8\n    xor al, al\n    out dx, al\n    inc dx\n"
    return code + "".join(f"    mov al, {level:#x}\n    out dx, al\n" for level in levels)


def dispi(width: int, height: int, bits: int, enable: int = 0x41) -> str:
    """A mode of the Bochs interface."""
    code = ""
    for index, value in ((4, 0), (1, width), (2, height), (3, bits), (4, enable)):
        code += f"    mov dx, 0x1ce\n    mov ax, {index}\n    out dx, ax\n    inc dx\n"
        code += f"    mov ax, {value:#x}\n    out dx, ax\n"
    return code


def noise(address: int, count: int, seed: int) -> str:
    """``count`` dwords at ``address`` from a linear congruential generator (see `noise_bytes`)."""
    return f"""
    mov edi, {address:#x}
    mov ecx, {count}
    mov eax, {seed:#x}
fill_{address:x}_{seed:x}:
    imul eax, eax, 1664525
    add eax, 1013904223
    mov ebx, eax
    shr ebx, 16
    xor ebx, eax
    mov [edi], ebx
    add edi, 4
    dec ecx
    jnz fill_{address:x}_{seed:x}
"""


def noise_bytes(count: int, seed: int) -> bytes:
    """What `noise` stores."""
    words, value = [], seed
    for _ in range(count):
        value = (value * 1664525 + 1013904223) & 0xFFFFFFFF
        words.append((value >> 16 ^ value) & 0xFFFFFFFF)
    return struct.pack(f"<{count}I", *words)
