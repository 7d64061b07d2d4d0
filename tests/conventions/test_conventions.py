"""Kernels in the manner of public tutorials do here what they do under QEMU."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conventions import build, here, qemu
from tests.conventions.table import KERNELS, Kernel

HERE = Path(__file__).parent


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_the_same_as_under_qemu(kernel: Kernel, tmp_path: Path) -> None:
    image = build.image(kernel, kernel.medium, tmp_path)
    there = qemu.run(kernel, kernel.medium, image, tmp_path)
    if kernel.here is not None:
        image = build.image(kernel, kernel.here, tmp_path)
    ours = here.run(kernel, kernel.here or kernel.medium, image)
    assert str(ours) == str(there)
    assert ours.colours == there.colours
    assert ours.picture == there.picture
    assert ours.ending == kernel.ending
    assert kernel.shows in str(ours)


def test_every_kernel_is_in_the_table_and_in_the_readme() -> None:
    sources = {path.stem for path in (HERE / "kernels").iterdir() if path.suffix in (".asm", ".c")}
    assert sources == {kernel.name for kernel in KERNELS}
    assert len(sources) >= 25
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", (HERE / "README.md").read_text(), re.M)
    assert rows == [(kernel.name, kernel.stands_for) for kernel in KERNELS]
