"""The records of a machine as streams of a file, and back.

What may be large is apart from the tree of records: pages of memory and blocks of overlays, of which only those are
there that hold something, and fields of many bytes. So the tree is small, and a hostile one can be decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from hypervisor.backends import overlay
from hypervisor.backends.overlay import OverlayState
from hypervisor.errors import DeviceError
from hypervisor.state import cbor, is_record, plain
from hypervisor.units import MIB, PAGE_SIZE
from hypervisor.vm.memory_record import MAX_PAGES, MemoryState, StoredPages
from hypervisor.vm.saved import page_runs
from hypervisor.vm.saved.file_writer import FileWriter

RECORDS = "records"
MOST_RECORDS = 16 * MIB
LARGE = 4096
"""Bytes of a field that has a stream of its own."""
MOST_LARGE = 512 * MIB
"""Bytes that such fields of a file may have together."""


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
    pages: Iterable[tuple[int, bytes | memoryview]]


def _sparse(state: Any) -> Sparse | None:
    if isinstance(state, MemoryState):
        return Sparse(state.size, zip(state.pages, _cut(state.content), strict=True))
    if isinstance(state, OverlayState):
        return Sparse(state.size, zip(state.blocks, _cut(state.content), strict=True))
    return state if isinstance(state, Sparse) else None


def _cut(content: bytes) -> Iterator[memoryview]:
    view = memoryview(content)
    return (view[at : at + PAGE_SIZE] for at in range(0, len(view), PAGE_SIZE))


def _write_sparse(writer: FileWriter, name: str, sparse: Sparse) -> list[int]:
    """Write pages, and then their numbers; the size of the whole, and how many pages there are."""
    numbers: list[int] = []

    def contents() -> Iterator[bytes | memoryview]:
        for number, content in sparse.pages:
            numbers.append(number)
            yield content

    writer.add(f"pages {name}", contents())
    writer.add(f"numbers {name}", [page_runs.to_bytes(page_runs.runs_of(numbers))])
    return [sparse.size, len(numbers)]


def write(writer: FileWriter, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Write records, or what is `Sparse`, by the parts' names; returns what `Records` needs to read them.

    Raises `DeviceError` for a part whose state is no record, as that of a user's device may be.
    """
    sparse: dict[str, Any] = {}
    large: list[Any] = []
    tree = {}
    for name, state in parts.items():
        found = _sparse(state)
        if found is not None:
            sparse[name] = _write_sparse(writer, name, found)
            continue
        if not is_record(type(state)):
            raise DeviceError(
                f"{name}: its state is a {type(state).__name__}, which cannot be saved in a file. Declare it with "
                "@record and its fields with their kinds (hypervisor.state)."
            )
        tree[name] = _without_large(writer, plain(state), [name], large)
    content = cbor.encode(tree)
    if len(content) > MOST_RECORDS:
        raise DeviceError(
            f"The records of the machine have {len(content)} bytes, and {MOST_RECORDS} is the most that a file may "
            "have. What waits for it (typed keys, bytes sent) may be too much; let it run on."
        )
    writer.add(RECORDS, [content])
    return {"sparse": sparse, "large": large}


def _without_large(writer: FileWriter, value: Any, path: list[Any], large: list[Any]) -> Any:
    """Plain data without its large fields, which are written; ``large`` gets their paths."""
    if isinstance(value, bytes) and len(value) > LARGE:
        writer.add(f"large {len(large)}", [value])
        large.append(path)
        return None
    if isinstance(value, dict):
        return {key: _without_large(writer, one, [*path, key], large) for key, one in value.items()}
    if isinstance(value, list) and value and not isinstance(value[0], int):
        return [_without_large(writer, one, [*path, n], large) for n, one in enumerate(value)]
    return value


class Records:
    """The records of a file, which are checked as they are read. What is wrong with them is a ValueError, with the end
    of a sentence.
    """

    def __init__(self, source: Streams, about: Any) -> None:
        """``about`` is what `write` has returned."""
        self._source = source
        self._sparse = _checked_sparse(about)
        tree = cbor.decode(self._few(RECORDS, MOST_RECORDS))
        if not isinstance(tree, dict):
            raise ValueError("it has no records")
        self.fields: dict[str, Any] = tree
        """The fields of the records, by the parts' names, but not of the sparse ones."""
        large = about.get("large")
        left = MOST_LARGE
        for n, path in enumerate(large if isinstance(large, list) else [None]):
            content = self._few(f"large {n}", left)
            left -= len(content)
            _put(tree, path, content)

    @property
    def sparse(self) -> dict[str, tuple[int, int]]:
        """Sizes in bytes and numbers of pages of what is sparse, by the parts' names."""
        return self._sparse

    def memory(self, name: str, size: int) -> StoredPages:
        """The pages of memory that has ``size`` bytes, which are read when they are wanted."""
        if self._of(name)[0] != size:  # before anything is made for so many pages
            raise ValueError(f"{name} has {self._of(name)[0]} bytes, and this machine has {size}")
        return self._stored(name)

    def _stored(self, name: str) -> StoredPages:
        size, pages = self._of(name)
        content = self._few(f"numbers {name}", 16 * pages)
        runs = page_runs.of_bytes(content, pages, -(-size // PAGE_SIZE))
        if self._size(f"pages {name}") != pages * PAGE_SIZE:
            raise ValueError(f"{name} has not the bytes of its {pages} pages")
        return StoredPages(size, page_runs.numbers_of(runs), self._source.pieces(f"pages {name}"))

    def overlay(self, name: str) -> OverlayState:
        """The same of a drive's overlay, whose pages are its blocks."""
        if self._of(name)[1] * PAGE_SIZE > overlay.LIMIT:
            raise ValueError(f"{name} has more blocks than an overlay may have")
        stored = self._stored(name)
        return OverlayState(stored.size, list(stored.pages), b"".join(stored.pieces))

    def _of(self, name: str) -> tuple[int, int]:
        if name not in self._sparse:
            raise ValueError(f"{name} is not pages")
        return self._sparse[name]

    def _size(self, stream: str) -> int:
        size = self._source.streams.get(stream)
        if size is None:
            raise ValueError(f"it has no {stream}")
        return size

    def _few(self, stream: str, limit: int) -> bytes:
        if self._size(stream) > limit:
            raise ValueError(f"its {stream} have more than {limit} bytes")
        return self._source.content(stream)


def _checked_sparse(about: Any) -> dict[str, tuple[int, int]]:
    listed = about.get("sparse") if isinstance(about, dict) else None
    if not isinstance(listed, dict):
        raise ValueError("it does not say which pages it has")
    for name, one in listed.items():
        if not isinstance(one, list) or [type(value) for value in one] != [int, int]:
            raise ValueError(f"it does not say which pages {name} has")
        size, pages = one
        if not (0 <= size <= 1 << 62 and 0 <= pages <= MAX_PAGES and pages <= -(-size // PAGE_SIZE)):
            raise ValueError(f"{name} cannot have {pages} pages in {size} bytes")
    return {name: (size, pages) for name, (size, pages) in listed.items()}


def _put(tree: Any, path: Any, content: bytes) -> None:
    """Put a large field where it belongs."""
    if not isinstance(path, list) or not path:
        raise ValueError("it does not say what its large fields are")
    for key in path[:-1]:
        tree = _at(tree, key)
    if _at(tree, path[-1]) is not None:
        raise ValueError(f"its field {path[-1]!r} is there twice")
    tree[path[-1]] = content


def _at(tree: Any, key: Any) -> Any:
    listed = isinstance(tree, list) and type(key) is int and 0 <= key < len(tree)
    named = isinstance(tree, dict) and type(key) is str and key in tree
    if not listed and not named:
        raise ValueError("it does not say what its large fields are")
    return tree[key]


__all__ = ["Records", "Streams", "write"]
