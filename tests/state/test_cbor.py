"""The encoding, with the examples of RFC 8949, appendix A, and what hostile bytes may not do."""

from __future__ import annotations

import tracemalloc
from random import Random
from typing import Any

import pytest

from hypervisor.state import cbor

EXAMPLES: list[tuple[Any, str]] = [
    (0, "00"), (1, "01"), (10, "0a"), (23, "17"), (24, "1818"), (25, "1819"), (100, "1864"), (1000, "1903e8"),
    (1000000, "1a000f4240"), (1000000000000, "1b000000e8d4a51000"), (18446744073709551615, "1bffffffffffffffff"),
    (18446744073709551616, "c249010000000000000000"), (-18446744073709551616, "3bffffffffffffffff"),
    (-18446744073709551617, "c349010000000000000000"), (-1, "20"), (-10, "29"), (-100, "3863"), (-1000, "3903e7"),
    (1.1, "fb3ff199999999999a"), (-4.1, "fbc010666666666666"), (1e300, "fb7e37e43c8800759c"),
    (False, "f4"), (True, "f5"), (None, "f6"), (b"", "40"), (bytes.fromhex("01020304"), "4401020304"), ("", "60"),
    ("a", "6161"), ("IETF", "6449455446"), ('"\\', "62225c"), ("ü", "62c3bc"), ("水", "63e6b0b4"), ([], "80"),
    ([1, 2, 3], "83010203"), ([1, [2, 3], [4, 5]], "8301820203820405"), ({}, "a0"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    (["a", {"b": "c"}], "826161a161626163"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "hexadecimal"), EXAMPLES)
def test_the_examples_of_the_standard(value: Any, hexadecimal: str) -> None:
    assert cbor.encode(value).hex() == hexadecimal
    decoded = cbor.decode(bytes.fromhex(hexadecimal))
    assert decoded == value and type(decoded) is type(value)


@pytest.mark.parametrize(
    ("hexadecimal", "sentence"),
    [
        ("", "it ends before"),
        ("0000", "1 bytes follow"),
        ("1b00", "it ends before"),
        ("5bffffffffffffffff", "it ends before"),
        ("5b0000000fffffffff00", "it ends before"),
        ("9bffffffffffffffff", "it ends before"),
        ("bbffffffffffffffff", "it ends before"),
        ("81" * 40 + "00", "nesting depth"),
        ("c2" * 5000, "nesting depth"),
        ("1c", "unknown unsigned integer subtype"),
        ("fb3ff0", "it ends before"),
        ("c100", "no such tag"),  # a date
        ("c482010a", "no such tag"),  # a decimal number
        ("c4823b00000000ffffffff01", "no such tag"),
        ("d823622861", "no such tag"),  # a pattern
        ("d81c80", "no such tag"),  # what is referred to, and so may hold itself
        ("d90100826161d81900", "no such tag"),  # texts by their numbers
        ("d9fff000", "no such tag"),
        ("c24100c3", "follow"),
        ("c200", "must be a byte string"),
        ("a20001", "it ends before"),
        ("a10001", "name is a text"),
        ("a1800000", "name is a text"),
        ("a2616100616100", "Duplicate map key"),
        ("62c328", "text string"),
        ("63eda080", "text string"),
        ("9f00ff", "indefinite length"),
        ("5f41004100ff", "indefinite length"),
    ],
)
def test_what_is_none_of_it_is_refused(hexadecimal: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cbor.decode(bytes.fromhex(hexadecimal))


def test_other_types_are_not_encoded() -> None:
    with pytest.raises(TypeError, match="no plain data"):
        cbor.encode([object()])


@pytest.mark.parametrize("count", [3000, pytest.param(300_000, marks=pytest.mark.stress)])
def test_damaged_bytes_cost_no_more_than_they_are_long(count: int) -> None:
    """Nothing but ValueError is raised, and what is made in between is of the size of what came."""
    rng = Random(count)
    good = cbor.encode({"parts": [{"name": str(n), "bytes": bytes(n), "words": [n, -n, 1 << n]} for n in range(100)]})
    refused, largest = 0, 0
    tracemalloc.start()
    try:
        for _ in range(count):
            bad = bytearray(good if rng.random() < 0.5 else rng.randbytes(rng.randrange(64)))
            for _ in range(rng.randint(0, 8)):
                at = rng.randrange(len(bad) + 1)
                bad[at : at + 1] = rng.choice((b"\xc2", b"\x9b", b"\x5b", b"\xbb", b"", rng.randbytes(1)))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                cbor.decode(bytes(bad))
            except ValueError:
                refused += 1
            largest = max(largest, tracemalloc.get_traced_memory()[1] - before - 64 * len(bad))
    finally:
        tracemalloc.stop()
    assert refused > count // 2
    assert largest < 1 << 17
