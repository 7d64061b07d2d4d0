"""Kernels in the manner of public tutorials do here what they do under QEMU, by our BIOS and by QEMU's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conventions import build, here, qemu
from tests.conventions.outcome import Outcome
from tests.conventions.table import KERNELS, Kernel, Medium

HERE = Path(__file__).parent
BOOTED = [kernel for kernel in KERNELS if kernel.medium is not Medium.KERNEL]

There = Callable[[Kernel], Outcome]
Images = Callable[[Kernel, Medium], Path]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """``image(kernel, medium)``, where each is built once."""
    images: dict[tuple[str, Medium], Path] = {}

    def make(kernel: Kernel, medium: Medium) -> Path:
        wanted = kernel.name, medium
        if wanted not in images:
            images[wanted] = build.image(kernel, medium, tmp_path_factory.mktemp(kernel.name))
        return images[wanted]

    return make


@pytest.fixture(scope="module")
def there(image: Images, tmp_path_factory: pytest.TempPathFactory) -> There:
    """``there(kernel)``: how it ends under QEMU, where each runs once."""
    outcomes: dict[str, Outcome] = {}

    def run(kernel: Kernel) -> Outcome:
        if kernel.name not in outcomes:
            out = tmp_path_factory.mktemp(kernel.name)
            outcomes[kernel.name] = qemu.run(kernel, kernel.medium, image(kernel, kernel.medium), out)
        return outcomes[kernel.name]

    return run


def compare(ours: Outcome, there: Outcome, kernel: Kernel) -> None:
    assert str(ours) == str(there)
    assert ours.colours == there.colours
    assert ours.picture == there.picture
    assert ours.ending == kernel.ending
    assert kernel.shows in str(ours)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_the_same_as_under_qemu(kernel: Kernel, image: Images, there: There) -> None:
    medium = kernel.here or kernel.medium
    compare(here.run(kernel, medium, image(kernel, medium)), there(kernel), kernel)


@pytest.mark.parametrize("kernel", BOOTED, ids=lambda kernel: kernel.name)
def test_the_same_with_the_same_firmware(
    kernel: Kernel, image: Images, there: There, debian_file: Callable[[str, str], Path]
) -> None:
    seabios = debian_file("seabios", "usr/share/seabios/bios-256k.bin")
    compare(here.run(kernel, kernel.medium, image(kernel, kernel.medium), seabios), there(kernel), kernel)


def test_every_kernel_is_in_the_table_and_in_the_readme() -> None:
    sources = {path.stem for path in (HERE / "kernels").iterdir() if path.suffix in (".asm", ".c")}
    assert sources == {kernel.name for kernel in KERNELS}
    assert len(sources) >= 25
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", (HERE / "README.md").read_text(), re.M)
    assert rows == [(kernel.name, kernel.stands_for) for kernel in KERNELS]
