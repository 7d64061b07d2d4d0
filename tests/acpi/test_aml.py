"""AML terms against the encodings that the specification gives (ACPI 6.5, chapter 20)."""

from __future__ import annotations

import pytest

from hypervisor.acpi import aml, resources


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (0, "01"),
        (62, "3f"),
        (63, "41 04"),  # 65 = 41h: low four bits beside the count of further bytes, then the rest
        (4093, "4f ff"),
        (4094, "81 00 01"),
        (0xFFFFC, "8f ff ff"),
        (0xFFFFD, "c1 00 00 01"),
    ],
)
def test_package_length(body: int, expected: str) -> None:
    assert aml.length(body) == bytes.fromhex(expected)


def test_a_package_too_long_for_aml_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        aml.length(1 << 28)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\", b"\\\0"),
        ("ABCD", b"ABCD"),
        ("_SB", b"_SB_"),
        ("\\_SB.PCI0", b"\\\x2e_SB_PCI0"),
        ("\\_SB.PCI0.ISA", b"\\\x2f\x03_SB_PCI0ISA_"),
    ],
)
def test_names(text: str, expected: bytes) -> None:
    assert aml.path(text) == expected


def test_a_name_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="at most four"):
        aml.path("LONGER")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "00"), (1, "01"), (2, "0a 02"), (0xFF, "0a ff"), (0x100, "0b 00 01"), (0x10000, "0c 00 00 01 00"),
        (1 << 32, "0e 00 00 00 00 01 00 00 00"),
    ],
)  # fmt: skip
def test_integers(value: int, expected: str) -> None:
    assert aml.integer(value) == bytes.fromhex(expected)


def test_plug_and_play_ids_are_compressed() -> None:
    assert aml.eisa_id("PNP0A03") == bytes.fromhex("0c 41 d0 0a 03")


def test_a_resource_template_is_a_buffer_with_an_end_tag() -> None:
    assert resources.template(resources.io(0x60, 1)) == bytes.fromhex("11 0d 0a 0a 47 01 60 00 60 00 01 01 79 00")
