"""What is in a file, told to a person."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hypervisor.errors import ImageError
from hypervisor.units import MIB, PAGE_SIZE
from hypervisor.vm.memory_record import RAM
from hypervisor.vm.saved.file_layout import VERSION
from hypervisor.vm.saved.opening import SavedMachine
from hypervisor.vm.saved.saved_config import SavedImage


def described(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """What is in a file, as names and texts. All of it is read. Raises `ImageError` for a file that is none, or that is
    damaged.
    """
    with SavedMachine(path) as saved:
        saved.file.check()
        how = "compressed" if saved.file.compressed else "not compressed"
        size, by = f"{saved.file.size / MIB:.1f} MiB", _shown(saved.writer)
        rows = [("file", f"{size}, {how}, undamaged; format {VERSION}, saved by {by}")]
        moments = saved.moments
        if saved.of_world:
            rows.append(("world", f"{len(moments)} machines on networks, for hypervisor.World.open()"))
    for moment in moments:
        with SavedMachine(path, moment) as saved:
            if moment:
                rows.append(("moment", _shown(moment)))
            rows += _rows(saved)
    return rows


def _rows(saved: SavedMachine) -> Iterator[tuple[str, str]]:
    config = saved.config
    for name, value in sorted(config.values.items()):
        yield name, _shown(str(value))
    if config.board:
        yield "board", f"{_shown(config.board)}: to be given again"
    for image in config.images.values():
        yield image.what, f"{_shown(str(image))}{_state(image)}"
    for name in config.plugins:
        yield "plugin", f"{_shown(name)}: to be given again"
    for name in saved.handlers:
        yield "handler", f"{_shown(name)}: to be given again"
    for name, (size, own, same) in saved.records.pages.counts.items():
        pages = own + same
        if pages or name == RAM:
            yield (
                "RAM" if name == RAM else _shown(name),
                f"{pages * PAGE_SIZE / MIB:.2f} of {size / MIB:.2f} MiB hold something",
            )
    yield "time", f"{saved.stands['time_ns'] / 1e9:.6f} s"
    for number, rip in enumerate(saved.stands["rips"]):
        yield f"vcpu {number}", f"RIP {rip:#x}"
    written = saved.stands["console"].decode(errors="replace").rstrip().splitlines()
    if written:
        yield "console", _shown(written[-1])


def _state(image: SavedImage) -> str:
    if image.reference is None:
        return ""
    try:
        same = image.reference.is_at(image.reference.absolute, image.what)
    except ImageError:
        return ": not there"
    return ": unchanged" if same else ": CHANGED since"


def _shown(text: str) -> str:
    """Text from outside: nothing of it may command a terminal."""
    return "".join(character if character.isprintable() else "." for character in text[:200])
