"""Plain data as bytes and back: CBOR (RFC 8949), by cbor2, less what such data do not need.

Integers of any size, floating-point numbers, bytes, texts, lists, maps with texts as keys, True, False and None. The
same data are the same bytes: lengths and integers are as short as they can be, and keys keep their order. What is read
may come from anybody: dates, patterns, references and whatever else a tag may ask for is not made, whoever adds to the
library's list; neither lengths nor how deep it goes are trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import Any

DEPTH = 17
"""How many lists and maps may be within each other."""
BIG_TAGS = 2, 3
"""Integers of more than 64 bits, from 0 up and below (section 3.4.3)."""


def encode(value: Any) -> bytes:
    """Plain data as CBOR. Raises TypeError for what is none."""
    import cbor2  # late: who takes no state should not wait for it

    try:
        return cbor2.dumps(value)
    except (cbor2.CBOREncodeError, UnicodeEncodeError) as error:
        raise TypeError(f"{error}, which is no plain data") from error


def decode(content: bytes) -> Any:
    """The data that `encode` was given. Raises ValueError, with the end of a sentence, for anything else."""
    import cbor2

    stream = BytesIO(content)
    decoder = cbor2.CBORDecoder(
        stream,
        semantic_decoders=_Tags(),
        object_hook=_named,
        max_depth=DEPTH,
        allow_indefinite=False,
        allow_duplicate_keys=False,
    )
    try:
        value = decoder.decode()
    except cbor2.CBORDecodeEOF as error:
        raise ValueError("it ends before all of it is there") from error
    except cbor2.CBORDecodeError as error:
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        raise ValueError(f"{error}{cause}") from error
    if stream.tell() != len(content):
        raise ValueError(f"{len(content) - stream.tell()} bytes follow what should be all of it")
    return value


class _Tags(Mapping[int, Callable[[Any, bool], Any]]):
    """What each tag asks for: big integers, as the library makes them, and nothing else."""

    def __getitem__(self, tag: int) -> Callable[[Any, bool], Any]:
        if tag in BIG_TAGS:
            raise KeyError(tag)
        return _refuse

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _refuse(value: Any, immutable: bool) -> Any:
    raise ValueError("a state has no such tag")


def _named(values: Mapping[Any, Any], immutable: bool) -> Mapping[Any, Any]:
    for key in values:
        if type(key) is not str:
            raise ValueError("a field's name is a text")
    return values


__all__ = ["decode", "encode"]
