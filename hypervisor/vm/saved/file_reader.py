"""Reading a file of streams, which may come from anybody: nothing in it is believed before it has been compared."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from hypervisor.backends.image_source import FileSource
from hypervisor.errors import ImageError
from hypervisor.vm.saved.chunk_codec import CHUNK, digest, unpacked
from hypervisor.vm.saved.file_layout import HEAD, Head, Index, chunks_of, damaged
from hypervisor.vm.saved.file_writer import WORKERS

AHEAD = 64
"""Chunks that are read before they are asked for: while a machine is built, most of its memory is decompressed."""


class FileReader:
    """An open file of streams; a context manager. Raises `ImageError` for a file that is none, or that is damaged."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = os.fspath(path)
        self._source = FileSource(Path(path), "snapshot")
        try:
            self.size = self._source.size
            head = Head.of_bytes(self._read(0, min(HEAD, self.size)), self.name, self.size)
            content = self._read(head.offset, head.size)
            if digest(content) != head.digest:
                raise damaged(self.name, "its index is not what was written")
            try:
                self._index = Index.of_bytes(content, head.offset - HEAD)
            except ValueError as error:
                raise damaged(self.name, str(error)) from error
        except BaseException:
            self._source.close()
            raise
        self._offsets = list(accumulate([chunk.stored for chunk in self._index.chunks], initial=HEAD))
        firsts = accumulate(map(chunks_of, self.streams.values()), initial=0)
        self._firsts = dict(zip(self.streams, firsts, strict=False))
        self._pool = ThreadPoolExecutor(WORKERS, "snapshot")

    @property
    def streams(self) -> dict[str, int]:
        """The sizes of the streams in bytes, by name."""
        return self._index.streams

    @property
    def about(self) -> dict[str, Any]:
        """What the streams mean: whatever a file has there."""
        return self._index.about

    @property
    def compressed(self) -> bool:
        """Whether its chunks are compressed."""
        return self._index.compressed

    def pieces(self, stream: str) -> Iterator[bytes]:
        """The bytes of a stream, a chunk at a time: each has 1 MiB, but the last. Some are read ahead, from now on."""
        first, size = self._firsts[stream], self.streams[stream]
        chunks = ((first + n, min(CHUNK, size - n * CHUNK), stream) for n in range(chunks_of(size)))
        waiting = deque(self._pool.submit(self._chunk, *chunk) for chunk in islice(chunks, AHEAD))
        return self._in_order(waiting, chunks)

    def _in_order(self, waiting: deque[Future[bytes]], chunks: Iterator[tuple[int, int, str]]) -> Iterator[bytes]:
        while waiting:
            piece = waiting.popleft().result()
            waiting.extend(self._pool.submit(self._chunk, *chunk) for chunk in islice(chunks, 1))
            yield piece

    def content(self, stream: str) -> bytes:
        """All bytes of a stream, which the caller knows to be few."""
        size = self.streams[stream]
        if size <= CHUNK:  # here, and not behind all that is read ahead
            return self._chunk(self._firsts[stream], size, stream) if size else b""
        return b"".join(self.pieces(stream))

    def check(self) -> None:
        """Read all there is. Raises `ImageError` if some of it is damaged."""
        for stream in self.streams:
            for _ in self.pieces(stream):
                pass

    def _chunk(self, number: int, size: int, stream: str) -> bytes:
        chunk = self._index.chunks[number]
        stored = self._read(self._offsets[number], chunk.stored)
        try:
            return unpacked(chunk, stored, size, self._index.compressed)
        except ValueError as error:
            raise damaged(self.name, f"in chunk {number}, of {stream}, {error}") from error

    def _read(self, offset: int, size: int) -> bytes:
        try:
            return self._source.read(offset, size)
        except OSError as error:
            raise ImageError(f"{self.name} cannot be read ({error.strerror}).") from error

    def close(self) -> None:
        """Give the host's file back. Closing twice is harmless."""
        self._pool.shutdown(cancel_futures=True)
        self._source.close()

    def __enter__(self) -> FileReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
