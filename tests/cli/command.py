"""The ``hypervisor`` command as a process of its own, and small guests for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hypervisor.assembler import assemble
from tests import sectors

ROOT = Path(__file__).parents[2]
FLAT = ("--format", "flat", "--at", "0x8000", "--mode", "16", "--memory", "8M")
"""Options for the images of `flat`."""

POWER_OFF = "mov dx, 0x604; mov ax, 0x2000; out dx, ax"
PRINT_AL = "mov dx, 0x3f8; out dx, al"

ECHO = f"""
again: mov dx, 0x3fd
    in al, dx
    test al, 1
    jz again
    mov dx, 0x3f8
    in al, dx
    cmp al, 'q'
    je off
    {PRINT_AL}
    jmp again
off: {POWER_OFF}
"""
"""Source of a guest that sends back what its serial port gets, up to a q."""

KEYS = f"""
again: mov ah, 0
    int 0x16
    cmp al, 'q'
    je off
    mov ah, 0x0e
    int 0x10
    jmp again
off: {POWER_OFF}
"""
"""Source of a boot sector that types what the BIOS gives it, up to a q."""


def hypervisor(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end. Its input is empty unless ``input`` or ``stdin`` says otherwise."""
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    command = [sys.executable, "-m", "hypervisor", *arguments]
    return subprocess.run(command, capture_output=True, timeout=120, check=False, cwd=ROOT, **options)


def flat(path: Path, source: str) -> str:
    """Assemble ``source`` as 16-bit code into the file ``path``, for the options `FLAT`; returns the path as text."""
    path.write_bytes(assemble(source, origin=0x8000, mode=16).code)
    return str(path)


def boot_sector(path: Path, source: str) -> str:
    """Assemble ``source`` as a boot sector into the file ``path``; returns the path as text."""
    path.write_bytes(sectors.boot_sector(source))
    return str(path)
