"""The DWARF data of a guest's ELF file, opened when somebody first asks: most runs need neither lines nor callers."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

LARGEST_FILE = 256 << 20
"""Bytes of an ELF file beyond which it is not looked at: reading its tables would take minutes."""

_STUMBLES = (
    ValueError, KeyError, IndexError, ArithmeticError, AssertionError, TypeError, AttributeError, NotImplementedError,
)  # fmt: skip
"""What pyelftools raises besides its own errors where a file is damaged."""


def damage() -> tuple[type[Exception], ...]:
    """The exceptions that reading a damaged file raises."""
    from elftools.common.exceptions import DWARFError, ELFError
    from elftools.construct import ConstructError

    return ELFError, DWARFError, ConstructError, *_STUMBLES


def read_each(data: bytes, read: Callable[[Any, Any], None]) -> None:
    """Call ``read`` with pyelftools' ``ELFFile`` and ``DWARFInfo`` of ``data``; not at all if it has none.

    What ``read`` has collected until it stumbles over damage is kept: a report does with what there is.
    """
    from elftools.elf.elffile import ELFFile

    if len(data) > LARGEST_FILE or data[:4] != b"\x7fELF":
        return
    try:
        elf = ELFFile(io.BytesIO(data))
        if elf.has_dwarf_info():
            read(elf, elf.get_dwarf_info())
    except damage():
        return
