"""A chunk of a file: 1 MiB at most, compressed by zstandard or as it is, and the digest of what is stored.

The digest is compared before anything else is done to a chunk, so what damage has left reaches no decompressor. It is
BLAKE2b with 16 bytes: no two different chunks have the same by accident, and it takes as long as a CRC of 32 bits that
is followed by a copy (1 ms for 1 MiB). It says nothing of who wrote the file.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from typing import TYPE_CHECKING, NamedTuple

from hypervisor.units import MIB

if TYPE_CHECKING:
    import zstandard

CHUNK = MIB
"""Bytes of each chunk of a stream before it is compressed; its last one may have fewer."""
DIGEST = 16
LEVEL = 1
"""Of zstandard: the next ones take twice the time for a twentieth less."""
MOST_STORED = CHUNK + CHUNK // 64
"""Bytes that a chunk may have in a file: what does not get smaller grows a little."""
_ROW = struct.Struct(f"<I{DIGEST}s")
ROW = _ROW.size
"""Bytes of a chunk's row in the table of chunks."""
_OF_THREAD = threading.local()


class Chunk(NamedTuple):
    """How many bytes of the file a chunk has, and their digest."""

    stored: int
    digest: bytes

    def row(self) -> bytes:
        """It as a row of the table of chunks."""
        return _ROW.pack(*self)


def rows(table: bytes) -> list[Chunk]:
    """The chunks of a table, which has whole rows."""
    return [Chunk(*row) for row in _ROW.iter_unpack(table)]


def digest(data: bytes | memoryview) -> bytes:
    """What tells these bytes from others."""
    return hashlib.blake2b(data, digest_size=DIGEST).digest()


def packed(data: bytes | memoryview, compressed: bool) -> tuple[Chunk, bytes | memoryview]:
    """A chunk as it is stored."""
    stored = _tools()[0].compress(data) if compressed else data
    return Chunk(len(stored), digest(stored)), stored


def unpacked(chunk: Chunk, stored: bytes, size: int, compressed: bool) -> bytes:
    """The ``size`` bytes of a chunk. Raises ValueError, with the end of a sentence, for what is none."""
    if digest(stored) != chunk.digest:
        raise ValueError("its bytes are not those that were written")
    if not compressed:
        if len(stored) != size:
            raise ValueError(f"it has {len(stored)} bytes, and not {size}")
        return stored
    import zstandard

    try:
        said = zstandard.frame_content_size(stored)
        if said != size:  # before so much is allocated
            raise ValueError(f"it says that it has {said} bytes, and not {size}")
        return _tools()[1].decompress(stored, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"it cannot be decompressed ({error})") from error


def _tools() -> tuple[zstandard.ZstdCompressor, zstandard.ZstdDecompressor]:
    """This thread's own: no two threads may use one."""
    import zstandard

    found: tuple[zstandard.ZstdCompressor, zstandard.ZstdDecompressor] | None = getattr(_OF_THREAD, "tools", None)
    if found is None:
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
        found = _OF_THREAD.tools = (compressor, zstandard.ZstdDecompressor(max_window_size=8 * MIB))
    return found
