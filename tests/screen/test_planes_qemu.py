"""Random use of the graphics controller: what is read, and the picture in the end, are QEMU's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import hypervisor as hv
from tests.screen import guests, qemu

OPERATIONS = 1500
LINES = 8
"""Of the screen: few, so that accesses meet."""
CLEAR = """
    cld
    mov edi, 0xa0000
    mov ecx, 9600
    xor eax, eax
    rep stosd
    mov al, [0xa0000]
"""


@pytest.fixture
def host() -> Iterator[hv.Host]:
    with hv.Host("16M", 1) as host:
        yield host


def program(seed: int) -> str:
    """Straight code: registers, loads that are told to the debug console, and stores of all sizes."""
    rng = random.Random(seed)
    code = guests.set_mode(0x12) + CLEAR
    for _ in range(OPERATIONS):
        kind, at = rng.random(), 0xA0000 + rng.randrange(80 * LINES - 4)
        if kind < 0.35:
            index = rng.choice((0, 1, 2, 3, 4, 5, 7, 8))
            value = {3: rng.randrange(32), 4: rng.randrange(4), 5: rng.choice((0, 1, 2, 3, 8, 9, 10, 11))}.get(index)
            value = rng.randrange(256 if index == 8 else 16) if value is None else value
            code += guests.indexed(0x3CE, bytes((value,)), index)
        elif kind < 0.45:
            code += guests.indexed(0x3C4, bytes((rng.randrange(16),)), 2)
        elif kind < 0.65:
            code += f"    mov al, [{at:#x}]\n    out 0xe9, al\n"
        else:
            size, bits = rng.choice((("byte", 8), ("word", 16), ("dword", 32)))
            code += f"    mov {size} [{at:#x}], {rng.getrandbits(bits):#x}\n"
    return code


@pytest.mark.parametrize("seed", range(4))
def test_planes_are_qemus(host: hv.Host, tmp_path: Path, seed: int) -> None:
    image = guests.image(program(seed))
    vm = host.create_vm(image, memory="8M")
    assert vm.run(timeout=60).reason is hv.Reason.HALTED
    theirs = qemu.picture(qemu.kernel(image, tmp_path), tmp_path, vm.debugcon.bytes)
    assert (vm.screen.pixels == theirs).all()
    assert len(np.unique(theirs[:LINES].reshape(-1, 3), axis=0)) == 16
