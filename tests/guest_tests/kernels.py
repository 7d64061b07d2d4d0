"""Kernels that write a text to the first serial port, and then end in one way or another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypervisor.assembler import assemble

BASE, TEXT = 0x100000, 0x200
OPTIONS: dict[str, Any] = {"memory": "8M", "format": "flat", "at": BASE, "mode": 32}
"""What they are booted with."""
TOML = 'memory = "8M"\nformat = "flat"\nat = 0x100000\nmode = 32\n'
"""The same in a description."""

OFF = "mov dx, 0x604; mov ax, 0x2000; out dx, ax; cli; hlt"
HALT = "cli; hlt"
CRASH = "ud2"
FOREVER = "again: inc eax; jmp again"


def leaves(value: int) -> str:
    """An end by the debug-exit port."""
    return f"mov dx, 0xf4; mov al, {value}; out dx, al"


def kernel(text: bytes | str, end: str = OFF, port: int = 0x3F8) -> bytes:
    """The image."""
    data = text.encode() if isinstance(text, str) else text
    source = f"""
        mov esi, {BASE + TEXT}
        mov ecx, {len(data)}
        jecxz done
    next:
        mov al, [esi]
        inc esi
        mov dx, {port}
        out dx, al
        dec ecx
        jnz next
    done:
        {end}
    """
    return assemble(source, origin=BASE, mode=32).code.ljust(TEXT, b"\x90") + data


def write(folder: Path, name: str, text: bytes | str, end: str = OFF, tests: str = "") -> None:
    """A kernel and its description."""
    (folder / f"{name}.bin").write_bytes(kernel(text, end))
    (folder / f"{name}.guest.toml").write_text(f'image = "{name}.bin"\n{TOML}[tests]\n{tests}')
