"""Pages of machines as streams of a file: those that hold something, by their numbers.

Machines that are saved together and have the same page at the same place have it in the file once: the first of them
has it, and the others say that theirs is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from itertools import tee
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from hypervisor.backends import overlay
from hypervisor.backends.overlay import OverlayState
from hypervisor.units import PAGE_SIZE
from hypervisor.vm.memory_record import MAX_PAGES, MemoryState, StoredPages
from hypervisor.vm.saved import page_runs
from hypervisor.vm.saved.file_writer import FileWriter
from hypervisor.vm.saved.page_runs import PageRun

Numbered = tuple[int, bytes | memoryview]
"""A page's number and its contents."""


class Streams(Protocol):
    """What is read of a file (`hypervisor.vm.saved.file_reader.FileReader`)."""

    @property
    def streams(self) -> Mapping[str, int]:
        """Sizes in bytes, by name."""
        ...

    def pieces(self, stream: str) -> Iterator[bytes]:
        """The bytes of a stream in pieces of whole pages."""
        ...

    def content(self, stream: str) -> bytes:
        """All of them."""
        ...


class Sparse(NamedTuple):
    """Pages of 4096 bytes, of a whole of ``size`` bytes: their numbers, in order, and their contents. They are taken
    once, when they are written.
    """

    size: int
    pages: Iterable[Numbered]

    @classmethod
    def of(cls, state: Any) -> Sparse | None:
        """A record as that; None for one that is not sparse."""
        if isinstance(state, MemoryState):
            return cls(state.size, zip(state.pages, _cut(state.content), strict=True))
        if isinstance(state, OverlayState):
            return cls(state.size, zip(state.blocks, _cut(state.content), strict=True))
        return state if isinstance(state, Sparse) else None


def _cut(content: bytes | memoryview) -> Iterator[memoryview]:
    view = memoryview(content)
    return (view[at : at + PAGE_SIZE] for at in range(0, len(view), PAGE_SIZE))


class PageWriter:
    """Writes the sparse parts of one machine, or of ``several``, the first of which the others are compared with."""

    def __init__(self, writer: FileWriter, *, several: bool) -> None:
        self._writer, self._several = writer, several
        self._first: dict[str, dict[int, bytes | memoryview]] = {}

    def write(self, prefix: str, name: str, sparse: Sparse) -> list[int]:
        """Write a part, into streams whose names begin with ``prefix``; the size of the whole, how many pages the part
        has in the file, and how many are the first machine's.
        """
        numbers: list[int] = []
        same: list[int] = []
        first = self._first.get(name, {})
        kept = self._first.setdefault(name, {}) if self._several and name not in self._first else None

        def contents() -> Iterator[bytes | memoryview]:
            for number, content in sparse.pages:
                if number in first and bytes(first[number]) == bytes(content):
                    same.append(number)
                    continue
                numbers.append(number)
                if kept is not None:
                    kept[number] = content
                yield content

        self._writer.add(f"{prefix}pages {name}", contents())
        for what, those in (("numbers", numbers), ("same", same)):
            self._writer.add(f"{prefix}{what} {name}", [page_runs.to_bytes(page_runs.runs_of(those))])
        return [sparse.size, len(numbers), len(same)]


class Counts(NamedTuple):
    """Of a sparse part: bytes of the whole, pages that it has in the file, pages that are the first machine's."""

    size: int
    pages: int
    same: int


class PageReader:
    """Reads what `PageWriter` has written of one machine. What is wrong with it is a ValueError, with the end of a
    sentence.
    """

    def __init__(self, source: Streams, prefix: str, listed: Any, first: PageReader | None) -> None:
        """``listed`` are what `PageWriter.write` has returned, by the parts' names; ``first`` is the first machine."""
        self._source, self._prefix, self._first = source, prefix, first
        if not isinstance(listed, dict):
            raise ValueError("it does not say which pages it has")
        self.counts = {name: self._checked(name, row) for name, row in listed.items()}
        """By the parts' names."""

    def _checked(self, name: str, row: Any) -> Counts:
        if not isinstance(row, list) or [type(value) for value in row] != [int, int, int]:
            raise ValueError(f"it does not say which pages {name} has")
        counts = Counts(*row)
        sizes = 0 <= counts.size <= 1 << 62 and min(counts) >= 0 and counts.pages + counts.same <= MAX_PAGES
        if not sizes or counts.pages + counts.same > -(-counts.size // PAGE_SIZE):
            raise ValueError(f"{name} cannot have {counts.pages + counts.same} pages in {counts.size} bytes")
        if counts.same and (self._first is None or name not in self._first.counts):
            raise ValueError(f"{name} has pages of a machine that is not there")
        return counts

    def memory(self, name: str, size: int) -> StoredPages:
        """The pages of memory that has ``size`` bytes, which are read when they are wanted."""
        if self._of(name).size != size:  # before anything is made for so many pages
            raise ValueError(f"{name} has {self._of(name).size} bytes, and this machine has {size}")
        return self._stored(name)

    def overlay(self, name: str) -> OverlayState:
        """The same of a drive's overlay, whose pages are its blocks."""
        counts = self._of(name)
        if (counts.pages + counts.same) * PAGE_SIZE > overlay.LIMIT:
            raise ValueError(f"{name} has more blocks than an overlay may have")
        stored = self._stored(name)
        return OverlayState(stored.size, list(stored.pages), b"".join(stored.pieces))

    def _of(self, name: str) -> Counts:
        if name not in self.counts:
            raise ValueError(f"{name} is not pages")
        return self.counts[name]

    def _stored(self, name: str) -> StoredPages:
        counts = self._of(name)
        numbers, pieces = page_runs.numbers_of(self._runs("numbers", name, counts.pages)), self._pieces(name)
        if not counts.same or self._first is None:
            return StoredPages(counts.size, numbers, pieces)
        shared = self._first.some(name, self._runs("same", name, counts.same))
        by_number, contents = tee(merge(_numbered(numbers, pieces), shared, key=itemgetter(0)))
        return StoredPages(counts.size, (number for number, _ in by_number), (bytes(page) for _, page in contents))

    def some(self, name: str, wanted: list[PageRun]) -> Iterator[Numbered]:
        """Those pages of a part that are ``wanted``."""
        runs = self._runs("numbers", name, self._of(name).pages)
        if not page_runs.within(wanted, runs):
            raise ValueError(f"another machine has pages of {name} that are not there")
        numbers = page_runs.numbers_of(wanted)
        pages = _numbered(page_runs.numbers_of(runs), self._pieces(name))
        return _chosen(pages, numbers)

    def _runs(self, what: str, name: str, count: int) -> list[PageRun]:
        stream = f"{self._prefix}{what} {name}"
        if self._source.streams.get(stream, -1) > 16 * count:
            raise ValueError(f"its {stream} are more than {count} numbers")
        return page_runs.of_bytes(self._read(stream), count, -(-self._of(name).size // PAGE_SIZE))

    def _read(self, stream: str) -> bytes:
        if stream not in self._source.streams:
            raise ValueError(f"it has no {stream}")
        return self._source.content(stream)

    def _pieces(self, name: str) -> Iterator[bytes]:
        stream, pages = f"{self._prefix}pages {name}", self._of(name).pages
        if self._source.streams.get(stream) != pages * PAGE_SIZE:
            raise ValueError(f"{name} has not the bytes of its {pages} pages")
        return self._source.pieces(stream)


def _chosen(pages: Iterator[Numbered], numbers: Iterator[int]) -> Iterator[Numbered]:
    number = next(numbers, None)
    for page in pages:
        if page[0] == number:
            yield page
            number = next(numbers, None)


def _numbered(numbers: Iterator[int], pieces: Iterator[bytes]) -> Iterator[Numbered]:
    for piece in pieces:
        yield from zip((next(numbers) for _ in range(len(piece) // PAGE_SIZE)), _cut(piece), strict=True)
