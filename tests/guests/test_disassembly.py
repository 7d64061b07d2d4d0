"""Every shipped guest is what its source says, as capstone reads it."""

from __future__ import annotations

import dataclasses

import pytest

from hypervisor.assembler import Image, assemble
from hypervisor.debug.verify import differences
from hypervisor.guests import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_guest_is_what_its_source_says(name: str, images: dict[str, Image]) -> None:
    image = images[name]
    assert differences(image) == []
    assert any(line.mode for line in image.listing)
    assert b"".join(line.code for line in image.listing) == image.code


def with_code(image: Image, code: bytes) -> Image:
    """``image`` with other bytes for its first instruction."""
    return dataclasses.replace(image, listing=[image.listing[0]._replace(code=code), *image.listing[1:]])


@pytest.mark.parametrize(
    ("mode", "source", "code"),
    [
        (32, "mov eax, 5", "b806000000"),  # another constant
        (32, "mov eax, 5", "bb05000000"),  # another register
        (32, "mov ax, 5", "b805000000"),  # another size
        (32, "mov [ebx + 4], eax", "894308"),  # another displacement
        (32, "mov [ebx + ecx*4], eax", "89048b"[:-2] + "4b"),  # another scale
        (32, "mov eax, fs:[8]", "a108000000"),  # no segment
        (32, "inc dword ptr [eax]", "66ff00"),  # another size in memory
        (32, "sub eax, ecx", "29c1"),  # operands exchanged
        (32, "je $", "75fe"),  # another condition
        (32, "jmp $", "ebff"),  # another target
        (32, "lock inc dword ptr [eax]", "ff00"),  # prefix missing
        (32, "rep movsd", "f3a4"),  # another element size
        (64, "iretq", "cf"),
        (64, "mov rax, [rel $ + 0x100]", "488b0500010000"),  # counted from the wrong end of the instruction
        (32, "cli", "fafa"),  # too much
        (64, "mov eax, 1", "06"),  # no instruction at all
    ],
)
def test_bytes_that_are_not_the_source_are_found(mode: int, source: str, code: str) -> None:
    good = assemble(source, mode=mode)
    assert differences(good) == []
    bad = differences(with_code(good, bytes.fromhex(code)))
    assert bad
    assert source in bad[0]
