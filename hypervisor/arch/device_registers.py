"""A row of a device's register table."""

from __future__ import annotations

from typing import NamedTuple


class Register(NamedTuple):
    """One row of a device's register table: where it is, what it is called, how it is reached and what it means."""

    offset: int
    """In bytes from the start of the device's window; index registers count from their index."""
    name: str
    access: str
    """``"r"``, ``"w"``, ``"rw"``, or ``"rc"`` where reading clears."""
    meaning: str
