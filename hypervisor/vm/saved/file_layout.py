"""The layout of a file: a head, chunks, an index.

=========  ============================================================================================================
head       64 bytes: magic, version, where the index is and its digest, the head's own digest
chunks     those of the first stream, then those of the next; a stream is bytes with a name (see `chunk_codec`)
index      CBOR: what wrote the file, the names and sizes of the streams, the table of chunks, and what the streams mean
=========  ============================================================================================================

Everything is little-endian. No byte of a file is outside of these, so no change of one goes unnoticed. The head keeps
its layout in all versions, so that each can say what another one is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from hypervisor.errors import ImageError
from hypervisor.state import cbor
from hypervisor.vm.saved.chunk_codec import CHUNK, DIGEST, MOST_STORED, ROW, Chunk, digest, rows
from hypervisor.vm.saved.magic import MAGIC

VERSION = 1
MOST_INDEX = 16 << 20
MOST_STREAMS = 1 << 10
_HEAD = struct.Struct(f"<8sIIQQ{DIGEST}s")
HEAD = _HEAD.size + DIGEST
COMPRESSIONS = ("zstd", "none")


@dataclass(frozen=True)
class Head:
    """The first bytes of a file: where its index is."""

    offset: int
    size: int
    digest: bytes

    def to_bytes(self) -> bytes:
        """It as it is written."""
        head = _HEAD.pack(MAGIC, VERSION, 0, self.offset, self.size, self.digest)
        return head + digest(head)

    @classmethod
    def of_bytes(cls, content: bytes, name: str, file_size: int) -> Head:
        """The head that a file begins with. Raises `ImageError` for a file that is none of ours, or not whole."""
        if content[: len(MAGIC)] != MAGIC:
            raise ImageError(f"{name} is no snapshot of a machine: it does not begin as one. `save` writes them.")
        if len(content) < HEAD or digest(content[: _HEAD.size]) != content[_HEAD.size :]:
            raise damaged(name, "its head is not what was written")
        _, version, _, offset, size, index_digest = _HEAD.unpack_from(content)
        if version != VERSION:
            age = "newer" if version > VERSION else "older"
            raise ImageError(
                f"{name} has version {version} of the format of snapshots, which is {age} than the one that is read "
                f"here, {VERSION}. Use the version of rootmode that has saved it."
            )
        if offset + size != file_size or offset < HEAD or size > MOST_INDEX:
            raise damaged(name, f"it has {file_size} bytes, and should have {offset + size}")
        return cls(offset, size, index_digest)


@dataclass(frozen=True)
class Index:
    """What is in a file. ``streams`` are sizes in bytes by name, ``about`` is what they mean."""

    streams: dict[str, int]
    chunks: list[Chunk]
    compressed: bool
    about: dict[str, Any]

    def to_bytes(self) -> bytes:
        """It as it is written. Raises `ImageError` where that is more than is read."""
        content = cbor.encode(
            {
                "compression": COMPRESSIONS[not self.compressed],
                "streams": [[name, size] for name, size in self.streams.items()],
                "chunks": b"".join([chunk.row() for chunk in self.chunks]),
                "about": self.about,
            }
        )
        if len(content) > MOST_INDEX:
            raise ImageError(
                f"The index of the snapshot would have {len(content)} bytes, and {MOST_INDEX} is the most."
            )
        return content

    @classmethod
    def of_bytes(cls, content: bytes, chunks_size: int) -> Index:
        """The index of a file whose chunks have ``chunks_size`` bytes. Raises ValueError for what is none."""
        tree = cbor.decode(content)
        if not isinstance(tree, dict) or set(tree) != {"compression", "streams", "chunks", "about"}:
            raise ValueError("its index has other parts")
        table, about = tree["chunks"], tree["about"]
        if tree["compression"] not in COMPRESSIONS or type(table) is not bytes or len(table) % ROW:
            raise ValueError("its index has no table of chunks")
        if not isinstance(about, dict):
            raise ValueError("its index does not say what is in it")
        streams, chunks = _streams(tree["streams"]), rows(table)
        if sum(map(chunks_of, streams.values())) != len(chunks):
            raise ValueError("its index has not as many chunks as its streams have")
        stored = [chunk.stored for chunk in chunks]
        if any(size > MOST_STORED for size in stored) or sum(stored) != chunks_size:
            raise ValueError("its chunks are not those of its index")
        return cls(streams, chunks, tree["compression"] == "zstd", about)


def _streams(listed: Any) -> dict[str, int]:
    streams: dict[str, int] = {}
    for row in listed if isinstance(listed, list) else [None]:
        if not isinstance(row, list) or [type(value) for value in row] != [str, int]:
            raise ValueError("its index has no list of streams")
        name, size = row
        if size < 0 or name in streams or len(streams) == MOST_STREAMS:
            raise ValueError("its index has too many streams, or one that cannot be")
        streams[name] = size
    return streams


def chunks_of(size: int) -> int:
    """How many chunks a stream of so many bytes has."""
    return -(-size // CHUNK)


def damaged(name: str, what: str) -> ImageError:
    """The error for a file that is not what was written."""
    return ImageError(f"{name} is damaged or cut short: {what}. Copy it again, or save the machine again.")
