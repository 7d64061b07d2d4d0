"""Descriptors and gates decoded from bytes written by hand."""

from __future__ import annotations

import pytest

from . import build
from .segments import decode, decode_gate, fits
from .state import Segment


def test_the_classic_flat_descriptors() -> None:
    code = decode(bytes.fromhex("ffff0000009acf00"))
    assert (code.base, code.limit, code.attributes) == (0, 0xFFFF_FFFF, 0xC9A)
    assert code.code and code.present and code.big and not code.long and not code.conforming
    data = decode(bytes.fromhex("ffff000000f2cf00"))
    assert (data.attributes, data.dpl, data.writable_data) == (0xCF2, 3, True)
    assert decode(bytes.fromhex("000000000098af00")).long


def test_scattered_base_and_limit() -> None:
    segment = decode(bytes.fromhex("2301785634924a12"))
    assert (segment.base, segment.limit, segment.attributes) == (0x1234_5678, 0xA_0123, 0x492)
    page_granular = decode(bytes.fromhex("2301785634928a12"))
    assert page_granular.limit == 0xA012_3FFF


def test_long_tss_has_a_64_bit_base() -> None:
    tss = decode(bytes.fromhex("670000300189004488ffffff00000000"))
    assert (tss.base, tss.limit, tss.type, tss.user_segment) == (0xFFFF_FF88_4401_3000, 0x67, 9, False)


def test_gates() -> None:
    gate = decode_gate(bytes.fromhex("78560800008e3412"))
    assert (gate.type, gate.selector, gate.offset, gate.dpl, gate.present) == (14, 8, 0x1234_5678, 0, True)
    assert gate.interrupt and gate.system
    narrow = decode_gate(bytes.fromhex("7856080000e73412"))
    assert (narrow.type, narrow.offset, narrow.dpl, narrow.interrupt) == (7, 0x5678, 3, False)
    wide = decode_gate(bytes.fromhex("78561000058f34120080ffff00000000"))
    assert (wide.type, wide.ist, wide.offset, wide.selector) == (15, 5, 0xFFFF_8000_1234_5678, 0x10)


def test_building_is_the_inverse_of_decoding() -> None:
    raw = build.descriptor(0x1234_5678, 0xA_0123, 0x492)
    assert raw == bytes.fromhex("2301785634924a12")
    assert build.gate(14, 8, 0x1234_5678) == bytes.fromhex("78560800008e3412")
    assert build.gate64(15, 0x10, 0xFFFF_8000_1234_5678, ist=5) == bytes.fromhex("78561000058f34120080ffff00000000")


@pytest.mark.parametrize(
    ("attributes", "limit", "offset", "inside"),
    [
        (0x093, 0xFFFF, 0xFFFE, True),
        (0x093, 0xFFFF, 0xFFFF, False),
        (0xC93, 0xFFFF_FFFF, 0xFFFF_FFFE, True),
        (0x097, 0x0FFF, 0x1000, True),
        (0x097, 0x0FFF, 0x0FFF, False),
        (0x097, 0x0FFF, 0xFFFE, True),
        (0x097, 0x0FFF, 0xFFFF, False),
        (0x497, 0x0FFF, 0xFFFF, True),
    ],
)
def test_limits(attributes: int, limit: int, offset: int, inside: bool) -> None:
    assert fits(Segment(0x10, 0, limit, attributes), offset, 2) is inside
