"""The records of a machine as streams of a file, and back.

What may be large is apart from the tree of records: what is sparse (`page_streams`), and fields of many bytes. So the
tree is small, and a hostile one can be decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypervisor.errors import DeviceError
from hypervisor.state import cbor, is_record, plain
from hypervisor.units import MIB
from hypervisor.vm.saved.file_writer import FileWriter
from hypervisor.vm.saved.page_streams import PageReader, PageWriter, Sparse, Streams
from hypervisor.vm.saved.save_progress import SaveProgress

RECORDS = "records"
MOST_RECORDS = 16 * MIB
LARGE = 4096
"""Bytes of a field that has a stream of its own."""
MOST_LARGE = 512 * MIB
"""Bytes that such fields of a machine may have together."""


class RecordWriter:
    """Writes the records of one machine, or of ``several``, into a file."""

    def __init__(self, writer: FileWriter, *, several: bool, told: SaveProgress | None = None) -> None:
        self._writer, self._pages, self._told = writer, PageWriter(writer, several=several), told

    def write(self, prefix: str, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Write records, or what is `Sparse`, by the parts' names, into streams whose names begin with ``prefix``;
        returns what `Records` needs to read them.

        Raises `DeviceError` for a part whose state is no record, as that of a user's device may be.
        """
        sparse: dict[str, Any] = {}
        large: list[tuple[list[Any], bytes]] = []
        tree = {}
        for name, state in parts.items():
            found = Sparse.of(state)
            if found is not None:
                sparse[name] = self._pages.write(prefix, name, self._told.through(found) if self._told else found)
                continue
            if not is_record(type(state)):
                raise DeviceError(
                    f"{name}: its state is a {type(state).__name__}, which cannot be saved in a file. Declare it with "
                    "@record and its fields with their kinds (hypervisor.state)."
                )
            tree[name] = _without_large(plain(state), [name], large)
        content = cbor.encode(tree)
        if len(content) > MOST_RECORDS:
            raise DeviceError(
                f"The records of the machine have {len(content)} bytes, and {MOST_RECORDS} is the most that a file may "
                "have. What waits for it (typed keys, bytes sent) may be too much; let it run on."
            )
        self._writer.add(f"{prefix}{RECORDS}", [content])
        for n, (_, field) in enumerate(large):
            self._writer.add(f"{prefix}large {n}", [field])
        return {"sparse": sparse, "large": [path for path, _ in large]}


def _without_large(value: Any, path: list[Any], large: list[tuple[list[Any], bytes]]) -> Any:
    """Plain data without its large fields, which ``large`` gets, with the ways to them."""
    if isinstance(value, bytes) and len(value) > LARGE:
        large.append((path, value))
        return None
    if isinstance(value, dict):
        return {key: _without_large(one, [*path, key], large) for key, one in value.items()}
    if isinstance(value, list) and value and not isinstance(value[0], int):
        return [_without_large(one, [*path, n], large) for n, one in enumerate(value)]
    return value


class Records:
    """The records of a machine in a file, which are checked as they are read. What is wrong with them is a ValueError,
    with the end of a sentence.
    """

    def __init__(self, source: Streams, prefix: str, about: Any, first: PageReader | None) -> None:
        """``about`` is what `RecordWriter.write` has returned, ``first`` the pages of the file's first machine, if it
        is not this one.
        """
        self._source, self._prefix = source, prefix
        if not isinstance(about, dict):
            raise ValueError("it does not say what its records are")
        self.pages = PageReader(source, prefix, about.get("sparse"), first)
        """What is sparse."""
        tree = cbor.decode(self._few(RECORDS, MOST_RECORDS))
        if not isinstance(tree, dict):
            raise ValueError("it has no records")
        self.fields: dict[str, Any] = tree
        """The fields of the other records, by the parts' names."""
        large, left = about.get("large"), MOST_LARGE
        for n, path in enumerate(large if isinstance(large, list) else [None]):
            content = self._few(f"large {n}", left)
            left -= len(content)
            _put(tree, path, content)

    def _few(self, name: str, limit: int) -> bytes:
        stream = f"{self._prefix}{name}"
        size = self._source.streams.get(stream)
        if size is None or size > limit:
            raise ValueError(f"it has no {stream}" if size is None else f"its {stream} have more than {limit} bytes")
        return self._source.content(stream)


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
