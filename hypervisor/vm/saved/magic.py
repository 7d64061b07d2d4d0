"""How a file with a machine in it begins."""

from __future__ import annotations

import os

MAGIC = b"\x89HVS\r\n\x1a\n"
"""As PNG's: a transfer that changes line ends or the eighth bit is noticed in the first bytes."""


def is_saved(path: object) -> bool:
    """Whether this is a path of a file that begins as a saved machine."""
    if not isinstance(path, (str, os.PathLike)) or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False
