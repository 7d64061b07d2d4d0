"""Hostile images of every format, run by ``hypervisor run`` with little address space and a timeout::

    python -m tests.hostile.images --count 400 --seed 1

runs so many images (those of `image_bombs` and `image_media`, then good images with fields set to extremes) with
``--timeout 5`` and 2 GiB of address space, and says which of them did not end in time, ended with a status that is not
documented, or with anything but sentences. ``--keep FOLDER`` keeps the images that failed, ``--only TEXT`` runs those
whose name has the text, ``--list`` names them.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

from tests.boot.images import bzimage, elf, multiboot1_elf, multiboot1_header, multiboot2_elf
from tests.hostile import image_media
from tests.hostile.image_bombs import (
    AT,
    COMMON,
    END_SEQUENCE,
    HALT,
    Image,
    Section,
    all_bombs,
    function,
    line_unit,
    named,
    set_address,
    symbol,
)
from tests.hostile.image_bombs import elf as debug_elf

ADDRESS_SPACE = 2 << 30
TIMEOUT_S = 5
DOCUMENTED = {0, 121, 122, 123, 124, 125, 126}
"""And the odd statuses of guests that write to the debug-exit port."""
FORBIDDEN = ("Traceback", "MemoryError", "bug in", "please report", "Could not allocate")

EXTREMES: list[Callable[[random.Random, int], int]] = [
    lambda rng, mask: 0,
    lambda rng, mask: 1,
    lambda rng, mask: mask,
    lambda rng, mask: mask - 1,
    lambda rng, mask: mask >> 1,
    lambda rng, mask: (mask >> 1) + 1,
    lambda rng, mask: 1 << rng.randrange(mask.bit_length()),
    lambda rng, mask: rng.randrange(mask + 1),
]


class Base(NamedTuple):
    """A good image, and how much of its beginning is worth damaging (0: all of it)."""

    name: str
    data: bytes
    head: int = 0
    options: tuple[str, ...] = ()


def bases() -> list[Base]:
    """One of each format."""
    debug = [
        *named(symbol(1), b"\0main\0"),
        Section(b".debug_line", line_unit(set_address(AT) + b"\x20" * 8 + END_SEQUENCE)),
        Section(b".eh_frame", COMMON + function(b"\x0c\7\x08\x90\1")),
    ]
    note = b"\4\0\0\0\4\0\0\0\x12\0\0\0Xen\0" + AT.to_bytes(4, "little")
    entry = image_media.cd(image_media.entry())
    return [
        Base("elf32", elf(symbols=[("main", AT, 0x12)])),
        Base("elf64", elf(64, symbols=[("main", AT, 0x12)])),
        Base("debug", debug_elf(debug)),
        Base("pvh", elf(64, note=note)),
        Base("multiboot1", multiboot1_elf(symbols=[("main", AT, 0x12)])),
        Base("kludge", multiboot1_header(1 << 16, addresses=(AT, AT, 0, 0, AT + 32)) + HALT * 4),
        Base("multiboot2", multiboot2_elf(64, tags=[(1, 0, bytes((1, 0, 0, 0))), (6, 1, b"")])),
        Base("linux", bzimage(), 0x270),
        Base("sector", image_media.boot_sector(image_media.partition(6, 1, 99))),
        Base("cd", entry[16 * 2048 :], 0),
    ]


def damaged(rng: random.Random, base: Base, number: int) -> Image:
    """A good image with some fields set to extremes, and now and then without its end."""
    data = bytearray(base.data)
    reach = base.head or len(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        width = rng.choice((1, 2, 4, 8))
        at = rng.randrange(0, max(reach - width, 1)) // width * width
        value = rng.choice(EXTREMES)(rng, (1 << 8 * width) - 1)
        data[at : at + width] = value.to_bytes(width, "little")
    if base.name == "cd":
        data = bytearray(16 * 2048) + data
    if not rng.randrange(6):
        del data[rng.randrange(len(data)) :]
    return Image(f"{base.name}-{number}", bytes(data), base.options)


def images(seed: int) -> Iterator[Image]:
    """Without end: first those that are made by hand, in an order that mixes them, then damaged ones."""
    rng = random.Random(seed)
    by_hand = [*all_bombs(), *image_media.all_media()]
    rng.shuffle(by_hand)
    yield from by_hand
    good = bases()
    for number in count():
        yield damaged(rng, good[number % len(good)], number)


def write(image: Image, path: Path) -> None:
    """The file of an image; what is beyond its contents is sparse."""
    path.write_bytes(image.data)
    if image.size > len(image.data):
        os.truncate(path, image.size)


def complaint(status: int | None, said: str) -> str:
    """What is wrong with how a process ended, or an empty text."""
    if status is None:
        return "did not end in time"
    if status not in DOCUMENTED and not (0 < status < 128 and status % 2):
        return f"ended with status {status}"
    found = [text for text in FORBIDDEN if text in said]
    if found:
        return f"said {found[0]!r}"
    if status != 0 and not status % 2 and "hypervisor: " not in said:
        return f"ended with status {status} and without a sentence"
    return ""


class Ended(NamedTuple):
    """How a process ended: what is wrong with that, its status, the seconds it took, what it said on stderr."""

    wrong: str
    status: int | None
    seconds: float
    said: str


def run(image: Image, folder: Path, margin: float, address_space: int = ADDRESS_SPACE) -> Ended:
    """Run an image by the command, with little address space and ``margin`` seconds to start and end in."""
    path = folder / f"{image.name}.img"
    write(image, path)
    command = [sys.executable, "-m", "hypervisor", "run", str(path), "--timeout", str(TIMEOUT_S), *image.options]
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))  # noqa: E731
    began = time.monotonic()
    status: int | None
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            timeout=TIMEOUT_S + margin, check=False, preexec_fn=limit,
        )  # fmt: skip
        status, said = done.returncode, done.stderr.decode(errors="replace")
    except subprocess.TimeoutExpired as error:
        status, said = None, (error.stderr or b"").decode(errors="replace")
    path.unlink()
    return Ended(complaint(status, said), status, time.monotonic() - began, said)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--margin", type=float, default=5.0, help="more on a host that is busy with other things")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    chosen = [image for image in islice(images(options.seed), options.count) if options.only in image.name]
    if options.list:
        print("\n".join(image.name for image in chosen))
        return 0
    statuses: dict[int | None, int] = {}
    failed = 0
    longest = Ended("", 0, 0.0, "")
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(options.jobs) as pool:
        for image, ended in zip(
            chosen, pool.map(lambda image: run(image, Path(name), options.margin), chosen), strict=True
        ):
            statuses[ended.status] = statuses.get(ended.status, 0) + 1
            longest = max(longest, ended, key=lambda ended: ended.seconds)
            if ended.wrong:
                failed += 1
                print(f"{image.name}: {ended.wrong}\n{ended.said[-1500:]}", flush=True)
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    write(image, options.keep / f"{image.name}.img")
    ends = ", ".join(f"{count} with {status}" for status, count in sorted(statuses.items(), key=str))
    print(f"{len(chosen)} images: {failed} wrong; ended {ends}; the longest took {longest.seconds:.1f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
