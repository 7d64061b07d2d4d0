"""A file of compiled kernels says what was put into it, or that it is damaged."""

from __future__ import annotations

import random

import pytest

from hypervisor.engine.compiling.kernel_file import KernelFile, Unsound, unpack
from hypervisor.engine.compiling.linking import Linked


def some(rng: random.Random) -> KernelFile:
    linked = Linked(
        rng.randbytes(rng.randrange(200)),
        {f"entry_{n}": rng.randrange(200) for n in range(rng.randrange(4))},
        [rng.randrange(200) for _ in range(rng.randrange(4))],
        {f"outside_{n}": [rng.randrange(200)] for n in range(rng.randrange(4))},
        rng.randrange(200),
    )
    words = ("made of", "x86-64-v2", "numba 1, LLVM ü")
    return KernelFile(*words, linked, {"entry_0": "l(ll)"}, rng.randbytes(rng.randrange(50)))


@pytest.mark.parametrize("seed", range(20))
def test_what_was_packed(seed: int) -> None:
    kernels = some(random.Random(seed))
    assert unpack(kernels.pack()) == kernels
    assert kernels.pack() == some(random.Random(seed)).pack()


@pytest.mark.parametrize("seed", range(3))
def test_no_byte_can_be_another(seed: int) -> None:
    rng = random.Random(seed)
    whole = some(rng).pack()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.randrange(8)
        with pytest.raises(Unsound, match="is damaged"):
            unpack(bytes(damaged))


def test_nor_can_any_be_missing_or_added() -> None:
    whole = some(random.Random(1)).pack()
    for data in (*(whole[:size] for size in range(len(whole))), whole + b"\0", b"\0" + whole):
        with pytest.raises(Unsound, match="is damaged"):
            unpack(data)
