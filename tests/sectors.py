"""Boot sectors: what a BIOS loads at 7C00h and enters in real mode."""

from __future__ import annotations

from hypervisor.assembler import assemble

ORIGIN = 0x7C00
SIZE = 512
_MARK = b"\x55\xaa"


def boot_sector(code: str | bytes) -> bytes:
    """The 512 bytes of a boot sector, from 16-bit assembly or its machine code."""
    if isinstance(code, str):
        code = assemble(code, origin=ORIGIN, mode=16).code
    room = SIZE - len(_MARK)
    assert len(code) <= room, f"{len(code)} bytes of code do not fit a boot sector"
    return code.ljust(room, b"\0") + _MARK
