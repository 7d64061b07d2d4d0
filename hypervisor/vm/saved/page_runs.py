"""The numbers of pages that are stored, as runs: how a file says where the pages of a stream belong."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class PageRun(NamedTuple):
    """``length`` pages, from the one of number ``first`` on."""

    first: int
    length: int


def runs_of(numbers: Iterable[int]) -> list[PageRun]:
    """Numbers in ascending order as runs."""
    runs: list[PageRun] = []
    first = following = None
    for number in numbers:
        if number != following:
            if first is not None and following is not None:
                runs.append(PageRun(first, following - first))
            first = number
        following = number + 1
    if first is not None and following is not None:
        runs.append(PageRun(first, following - first))
    return runs


def numbers_of(runs: Iterable[PageRun]) -> Iterator[int]:
    """The numbers that runs mean."""
    for first, length in runs:
        yield from range(first, first + length)


def within(inner: Iterable[PageRun], outer: Iterable[PageRun]) -> bool:
    """Whether all pages of runs are pages of other ones. Both are in order, and the others are apart."""
    around = iter(outer)
    here = next(around, None)
    for first, length in inner:
        while here is not None and here.first + here.length <= first:
            here = next(around, None)
        if here is None or first < here.first or first + length > here.first + here.length:
            return False
    return True


def to_bytes(runs: Sequence[PageRun]) -> bytes:
    """Runs as pairs of little-endian 64-bit words."""
    words = array("Q", [word for run in runs for word in run])
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def of_bytes(content: bytes, pages: int, limit: int) -> list[PageRun]:
    """The runs that `to_bytes` has written, of ``pages`` pages whose numbers are below ``limit``. Raises ValueError,
    with the end of a sentence, for anything else.
    """
    words = array("Q")
    if len(content) % (2 * words.itemsize):
        raise ValueError("its pages have half a number")
    words.frombytes(content)
    if sys.byteorder == "big":
        words.byteswap()
    runs = [PageRun(*pair) for pair in zip(words[::2], words[1::2], strict=True)]
    following = -1
    for first, length in runs:
        if first <= following or length == 0 or first + length > limit:
            raise ValueError(
                f"its pages {first} to {first + length - 1} are not in order and apart, or not below {limit}"
            )
        following = first + length
    if sum(run.length for run in runs) != pages:
        raise ValueError(f"its pages are not {pages}")
    return runs
