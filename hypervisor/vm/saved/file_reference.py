"""A file of the host that a saved machine was made from, by reference: its path, its size, and what is in it.

A reference is followed only to a file with just these contents: a base image that has changed since is noticed, and a
file from a stranger can open nothing whose contents he did not know. Reading a large image takes time, so what was read
once is not read again while the host's system says that nobody has touched it. That is known by numbers of the file
system which nobody else can guess; they are not trusted if the file had just been changed, as a second change would
then have the same time.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hypervisor.backends.image_source import FileSource
from hypervisor.errors import ImageError
from hypervisor.units import MIB
from hypervisor.vm.saved.chunk_codec import DIGEST

PIECE = 4 * MIB
SETTLED_NS = 2_000_000_000
"""How long a file must have been left alone for its times to tell a later change."""
_KNOWN: dict[tuple[int, ...], bytes] = {}
"""Digests of files that have been read, by `FileSource.touched`."""
_MOST_KNOWN = 256


@dataclass(frozen=True)
class FileReference:
    """``path`` is as it was given, ``absolute`` where that was. ``touched`` is `FileSource.touched` when the file was
    read, empty where that would not tell a change.
    """

    path: str
    absolute: str
    size: int
    digest: bytes
    touched: tuple[int, ...]

    def plain(self) -> dict[str, Any]:
        """It as plain data."""
        return asdict(self) | {"touched": list(self.touched)}

    @classmethod
    def of_plain(cls, tree: Any) -> FileReference:
        """The reference that `plain` was made of. Raises ValueError for anything else."""
        kinds = {"path": str, "absolute": str, "size": int, "digest": bytes, "touched": list}
        if not isinstance(tree, dict) or {name: type(value) for name, value in tree.items()} != kinds:
            raise ValueError("it refers to a file without saying which one")
        if not all(type(number) is int for number in tree["touched"]):
            raise ValueError("it refers to a file without saying which one")
        return cls(**tree | {"touched": tuple(tree["touched"])})

    def is_at(self, path: str | os.PathLike[str], what: str) -> bool:
        """Whether the file at ``path``, which errors call ``what``, is this one. Raises `ImageError` where there is
        none.
        """
        source = FileSource(Path(path), what, locked=False)
        try:
            return source.size == self.size and (source.touched == self.touched or _digest(source) == self.digest)
        finally:
            source.close()


def refer(path: str | os.PathLike[str], what: str) -> FileReference:
    """A reference to a file, which errors call ``what``. Raises `ImageError` for one that cannot be read."""
    source = FileSource(Path(path), what, locked=False)
    try:
        touched = source.touched if _settled(source) else ()
        return FileReference(os.fspath(path), os.path.abspath(path), source.size, _digest(source), touched)
    finally:
        source.close()


def _settled(source: FileSource) -> bool:
    *_, contents, anything = source.touched
    return max(contents, anything) < time.time_ns() - SETTLED_NS


def _digest(source: FileSource) -> bytes:
    """The digest of all that is in a file."""
    known = _KNOWN.get(source.touched)
    if known is not None:
        return known
    settled, touched = _settled(source), source.touched
    state = hashlib.blake2b(digest_size=DIGEST)
    try:
        for at in range(0, source.size, PIECE):
            state.update(source.read(at, min(PIECE, source.size - at)))
    except OSError as error:
        raise ImageError(f"{source.name} cannot be read ({error.strerror}).") from error
    if settled and source.touched == touched:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[touched] = state.digest()
    return state.digest()
