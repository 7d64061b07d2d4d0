"""Writing a file of streams: beside its place, and there only when it is whole."""

from __future__ import annotations

import os
import secrets
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

from hypervisor.errors import ConfigError
from hypervisor.vm.saved.chunk_codec import CHUNK, Chunk, digest, packed
from hypervisor.vm.saved.file_layout import HEAD, Head, Index

WORKERS = min(os.cpu_count() or 1, 4)
IN_FLIGHT = 4 * WORKERS
"""Chunks that wait to be compressed or written: so much memory is used, however large a stream is."""


class FileWriter:
    """Takes streams one after the other, and puts the file into its place when `finish` says so.

    Used as a context manager: what is not finished leaves nothing. Raises `ConfigError` where the host cannot write it.
    """

    def __init__(self, path: str | os.PathLike[str], *, compressed: bool = True) -> None:
        self.name = os.fspath(path)
        self._target = os.path.realpath(path)
        self._compressed = compressed
        self._streams: dict[str, int] = {}
        self._chunks: list[Chunk] = []
        self._pool = ThreadPoolExecutor(WORKERS, "snapshot")
        self._file, self._beside = self._open()

    def _open(self) -> tuple[BinaryIO, str]:
        folder, base = os.path.split(self._target)
        beside = os.path.join(folder, f".{base}.{secrets.token_hex(4)}")
        try:
            if os.path.exists(self._target) and not stat.S_ISREG(os.stat(self._target).st_mode):
                raise ConfigError(f"{self.name} is no file; a snapshot is saved in one.")
            file = open(beside, "xb")
            file.seek(HEAD)
            return file, beside
        except OSError as error:
            raise self._problem(error) from error

    def _problem(self, error: OSError) -> ConfigError:
        return ConfigError(f"{self.name} cannot be written ({error.strerror}); nothing was saved.")

    def __enter__(self) -> FileWriter:
        return self

    def add(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        """A stream: the pieces, one behind the other. No piece may change before the next call."""
        waiting: deque[Future[tuple[Chunk, bytes | memoryview]]] = deque()
        size = 0
        for data in _cut(pieces):
            size += len(data)
            waiting.append(self._pool.submit(packed, data, self._compressed))
            if len(waiting) >= IN_FLIGHT:
                self._write(*waiting.popleft().result())
        while waiting:
            self._write(*waiting.popleft().result())
        self._streams[name] = size

    def _write(self, chunk: Chunk, stored: bytes | memoryview) -> None:
        try:
            self._file.write(stored)
        except OSError as error:
            raise self._problem(error) from error
        self._chunks.append(chunk)

    def finish(self, about: dict[str, Any]) -> None:
        """Write what the streams mean, and put the file into its place."""
        index = Index(self._streams, self._chunks, self._compressed, about).to_bytes()
        head = Head(HEAD + sum(chunk.stored for chunk in self._chunks), len(index), digest(index))
        try:
            self._file.write(index)
            self._file.seek(0)
            self._file.write(head.to_bytes())
            self._file.close()
            os.replace(self._beside, self._target)
        except OSError as error:
            raise self._problem(error) from error

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        try:
            self._file.close()
        except OSError:  # what is buffered does not fit: it is not wanted any more
            pass
        if os.path.exists(self._beside):
            os.unlink(self._beside)


def _cut(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The same bytes in pieces of a chunk; the last may be shorter. Large ones are not copied."""
    rest = bytearray()
    for piece in pieces:
        view = memoryview(piece).cast("B")
        if rest:
            taken = CHUNK - len(rest)
            rest += view[:taken]
            view = view[taken:]
            if len(rest) < CHUNK:
                continue
            yield bytes(rest)
            rest.clear()
        whole = len(view) - len(view) % CHUNK
        for at in range(0, whole, CHUNK):
            yield view[at : at + CHUNK]
        rest += view[whole:]
    if rest:
        yield bytes(rest)
