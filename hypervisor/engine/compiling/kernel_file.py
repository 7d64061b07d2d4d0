"""A file of compiled kernels: all that a process needs to run them, and what tells whether it is whole.

It lies in the cache (`cache`) or in the package (`choosing`). Behind the first words there is a SHA-256 of the rest, so
that nothing of a damaged file is executed; of one that somebody else wrote it says nothing. The same kernels are the
same bytes.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import NamedTuple

from hypervisor.engine.compiling.linking import Linked

_FIRST = b"hypervisor kernels 1\n"
"""Another form of the file has another number."""
_SIZES = struct.Struct("<III")  # of what follows: a table in JSON, the kernels, floating point
_DIGEST_SIZE = 32


class Unsound(Exception):
    """A file's kernels cannot run. The text says why, as a clause."""


class KernelFile(NamedTuple):
    """Compiled kernels."""

    made_of: str
    """`cache.made_of` where they were compiled."""
    processor: str
    """What they were compiled for, in words."""
    compiler: str
    """What compiled them, in words."""
    linked: Linked
    signatures: dict[str, str]
    """The C types of each entry, as in `hooks`."""
    floating: bytes
    """`floating_point.floating.compile_floating`."""

    def pack(self) -> bytes:
        """The contents of the file."""
        kernels = self.linked.content
        table = {**self._asdict(), "linked": {**self.linked._asdict(), "content": None}, "floating": None}
        head = json.dumps(table, sort_keys=True, separators=(",", ":")).encode()
        rest = _SIZES.pack(len(head), len(kernels), len(self.floating)) + head + kernels + self.floating
        return _FIRST + hashlib.sha256(rest).digest() + rest


def unpack(data: bytes) -> KernelFile:
    """What `KernelFile.pack` made. Raises `Unsound` for anything else."""
    start = len(_FIRST) + _DIGEST_SIZE
    rest = memoryview(data)[start:]
    if data[: len(_FIRST)] != _FIRST or hashlib.sha256(rest).digest() != data[len(_FIRST) : start]:
        raise Unsound("is damaged")
    sizes = _SIZES.unpack_from(rest)
    pieces, at = [], _SIZES.size
    for size in sizes:
        pieces.append(bytes(rest[at : at + size]))
        at += size
    table = json.loads(pieces[0])
    linked = Linked(**{**table["linked"], "content": pieces[1]})
    return KernelFile(**{**table, "linked": linked, "floating": pieces[2]})


__all__ = ["KernelFile", "Unsound", "unpack"]
