"""Hostile images boot, or are refused by a sentence; a few of them as the command, with little address space.

The long form is ``python -m tests.hostile.images --count 400``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.errors import HypervisorError
from hypervisor.symbols.symbol_table import SymbolTable
from tests.hostile import image_media, images
from tests.hostile.image_bombs import (
    Image,
    debug_data_of_elf,
    linux_kernels,
    multiboot_kernels,
    segments_of_elf,
    symbols_of_elf,
)

FROM_LOADERS = (segments_of_elf, multiboot_kernels, linux_kernels, image_media.disks, image_media.cds)
BY_COMMAND = {
    "65535-segments": "it has 65534 program headers; at most 1024 are loaded",
    "30000-notes-by-30000-loads": "it has 60001 program headers; at most 1024 are loaded",
    "notes-one-upon-the-other": "it has more than 4096 notes",
    "names-without-end-100000": "triple fault",
    "compressed-zeros": "triple fault",
    "sparse-gigabytes": "is larger than 1024 MiB",
    "multiboot2-tag-0": "has size 0",
    "endless-script": "no script is",
}
"""Images that were minutes, gigabytes or tracebacks, and what is said of them now."""


def boot(image: Image, path: Path) -> str:
    """Boot an image and run it for a moment; what became of it."""
    images.write(image, path)
    options = dict(zip(image.options[::2], image.options[1::2], strict=True))
    arguments = {"media": options["--media"]} if "--media" in options else {}
    try:
        with hv.boot(path, memory="64M", **arguments) as vm:
            result = vm.run(virtual_timeout=0.01, timeout=20)
            return f"{result.reason.value} {result.hint} {result.crash or ''} {vm.symbols.describe(vm.vcpu.rip)}"
    except HypervisorError as error:
        return f"refused: {error}"


def check(made: Iterator[Image], folder: Path) -> list[str]:
    """Boot them all; what is said of each."""
    found = []
    for image in made:
        said = boot(image, folder / "image.img")
        assert not any(text in said for text in images.FORBIDDEN), f"{image.name}: {said}"
        assert not said.startswith("host-error"), f"{image.name}: {said}"
        found.append(said)
    return found


@pytest.mark.parametrize("family", FROM_LOADERS)
def test_images_made_by_hand(family: object, tmp_path: Path) -> None:
    chosen = [image for image in family() if image.size <= 1 << 29]  # type: ignore[operator]
    random.Random(3).shuffle(chosen)
    found = check(iter(chosen[:24]), tmp_path)
    assert any(said.startswith("refused") for said in found) and any(not said.startswith("refused") for said in found)


def test_reports_go_without_debug_data_that_is_bad(tmp_path: Path) -> None:
    chosen = list(debug_data_of_elf())
    random.Random(4).shuffle(chosen)
    assert all(said.startswith("crashed") for said in check(iter(chosen[:12]), tmp_path))


def test_good_images_with_fields_set_to_extremes(tmp_path: Path) -> None:
    rng, good = random.Random(5), images.bases()
    found = check((images.damaged(rng, good[number % len(good)], number) for number in range(60)), tmp_path)
    assert len({said.partition(" ")[0] for said in found}) >= 3


@pytest.mark.parametrize("name", BY_COMMAND)
def test_by_command_with_little_address_space(name: str, tmp_path: Path) -> None:
    everything = (
        image
        for family in (segments_of_elf, symbols_of_elf, debug_data_of_elf, multiboot_kernels, image_media.others)
        for image in family()
    )
    image = next(image for image in everything if image.name == name)
    ended = images.run(image, tmp_path, margin=120)
    assert (ended.wrong, BY_COMMAND[name] in ended.said) == ("", True), ended


@pytest.mark.parametrize("mebibytes", [100, 300, 900])
def test_without_enough_address_space_there_is_a_sentence(mebibytes: int, tmp_path: Path) -> None:
    hlt = Image("halts", image_media.boot_sector())
    ended = images.run(hlt, tmp_path, margin=120, address_space=mebibytes << 20)
    assert ended.wrong == "" and (
        ended.status == 123 or "cannot be had" in ended.said or "no memory left" in ended.said
    ), ended


def test_resets_keep_no_more_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each loads it again: a guest may ask for a million of them."""
    added: list[object] = []
    add = SymbolTable.add
    monkeypatch.setattr(SymbolTable, "add", lambda table, symbols, base=0: added.append(add(table, symbols, base)))
    with hv.boot(images.bases()[1].data, memory="8M") as vm:
        before = len(added)
        for _ in range(5):
            vm.reset()
        assert len(added) == before > 0
