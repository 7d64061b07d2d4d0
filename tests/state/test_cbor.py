"""The encoding, with the examples of RFC 8949, appendix A, and what hostile bytes may not do."""

from __future__ import annotations

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
        ("", "it ends at byte 0"),
        ("0000", "1 bytes follow"),
        ("1b00", "it ends at byte 2"),
        ("5bffffffffffffffff", "it ends"),
        ("9bffffffffffffffff", "18446744073709551615 items"),
        ("bbffffffffffffffff", "items"),
        ("81" * 40 + "00", "more than 16 levels"),
        ("c2" * 5000, "levels"),
        ("1c", "byte 0 begins nothing"),
        ("fa3f800000", "byte 0 is 0xfa"),
        ("fb3ff0", "it ends"),
        ("c100", "begins nothing"),
        ("c24100c3", "follow"),
        ("a20001", "new name"),
        ("a2616100616100", "new name of a field"),
        ("62c328", "not UTF-8"),
        ("9f00ff", "begins nothing"),
    ],
)
def test_what_is_none_of_it_is_refused(hexadecimal: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cbor.decode(bytes.fromhex(hexadecimal))


@pytest.mark.parametrize("value", [(1,), bytearray(1), {1: 2}, {1}, object()])
def test_other_types_are_not_encoded(value: Any) -> None:
    with pytest.raises(TypeError):
        cbor.encode([value])
