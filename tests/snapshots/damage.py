"""Files with random damage, as a command: ``python -m tests.snapshots.damage [--rounds 10000] [--seed N]``.

Half of the files are damaged as a disk or a transfer would: bits, bytes, pieces that are missing, repeated or zeroed.
The others are made by somebody who knows the format: what is inside of a stream is changed, and all digests are right.
Each is opened and, if it opens, run for a while. Nothing but errors of ours may come of it, none of the former may
open, and memory, files and threads must not grow.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import threading
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import hypervisor as hv
from hypervisor.state import cbor
from hypervisor.vm.saved.file_reader import FileReader
from hypervisor.vm.saved.file_writer import FileWriter

RUN_S, PATIENCE_S = 0.001, 5.0
WARM = 50
"""Rounds after which nothing grows any more."""
MOST_GROWTH = 24 << 20
"""Bytes that the process may have grown by: what allocators keep, however many rounds there are."""


class Victim:
    """The file of a machine, and its pieces: one like ``file``, or of a machine that is made for it."""

    def __init__(self, folder: Path, file: Path | None = None) -> None:
        self.path = folder / "file"
        self.content = (self._made(folder) if file is None else file).read_bytes()
        self.path.write_bytes(self.content)
        with FileReader(self.path) as reader:
            self.streams = {name: reader.content(name) for name in reader.streams}
            self.about = reader.about

    def _made(self, folder: Path) -> Path:
        disk = folder / "disk"
        disk.write_bytes(bytes(range(256)) * 64)
        with hv.boot("preempt", memory="2M", disks=[str(disk)]) as vm:
            vm.media.disks[0].write(1, b"written".ljust(512))
            vm.run(virtual_timeout=0.03)
            vm.save(self.path)
        return self.path

    def damage_outside(self, rng: Random) -> None:
        """Damage that nobody means."""
        content = bytearray(self.content)
        at, length = rng.randrange(len(content)), 1 << rng.randrange(12)
        match rng.randrange(6):
            case 0:
                content[at] ^= 1 << rng.randrange(8)
            case 1:
                del content[at:]
            case 2:
                del content[at : at + length]
            case 3:
                content[at:at] = content[at : at + length]
            case 4:
                content[at : at + length] = rng.randbytes(len(content[at : at + length]))
            case _:
                content += rng.randbytes(length)
        self.path.write_bytes(content)

    def damage_inside(self, rng: Random) -> None:
        """Damage with digests that are right."""
        streams, about = dict(self.streams), cbor.encode(self.about)
        if rng.random() < 0.4:
            about = changed(about, rng)
        else:
            name = rng.choice([name for name in streams if rng.random() < 0.2 or "pages" not in name])
            streams[name] = changed(streams[name], rng)
        try:
            tree = cbor.decode(about)
            cbor.encode(tree)
        except (ValueError, TypeError):
            tree = self.about
        self.write(streams, tree)

    def write(self, streams: dict[str, bytes], about: Any) -> None:
        """The file with these streams, and digests that are right."""
        with FileWriter(self.path) as writer:
            for name, content in streams.items():
                writer.add(name, [content])
            writer.finish(about)


def changed(content: bytes, rng: Random) -> bytes:
    """Some bytes other than they were, and seldom more or fewer."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if made:
            made[rng.randrange(len(made))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    if rng.random() < 0.1:
        del made[rng.randrange(len(made) + 1) :]
    return bytes(made)


def opened(path: Path, moment: str | None) -> str:
    """What comes of booting a file: an error's name, or how a short run of it ended."""
    try:
        with hv.boot(path, moment=moment) as vm:
            return vm.run(virtual_timeout=RUN_S, timeout=PATIENCE_S).reason.value
    except hv.InternalError:
        raise
    except hv.HypervisorError as error:
        text = str(error)
        assert text.endswith(".") and len(text) < 2000, text
        return type(error).__name__


def resources() -> tuple[int, int, int]:
    """Bytes that the process has, its open files, its threads."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), threading.active_count()


def rounds(count: int, seed: int, file: Path | None = None, moment: str | None = None) -> Counter[str]:
    """So many files, by default of a machine made for it; what came of them. Raises AssertionError for what must not
    come.
    """
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        victim, before = Victim(Path(folder), file), None
        there = sorted(os.listdir(folder))
        for number in range(count):
            rng = Random(f"{seed} {number}")
            inside = bool(number % 2)
            (victim.damage_inside if inside else victim.damage_outside)(rng)
            unchanged = not inside and victim.path.read_bytes() == victim.content
            end = opened(victim.path, moment)
            seen[f"{'inside' if inside else 'outside'}: {end}"] += 1
            assert inside or unchanged or end == "ImageError", f"round {number} of seed {seed}: {end}"
            assert sorted(os.listdir(folder)) == there
            if number == min(WARM, count // 2):
                before = resources()
        memory, files, threads = resources()
        assert before is not None
        assert (files, threads) == before[1:], (files, threads, before)
        assert memory - before[0] < MOST_GROWTH, f"{memory - before[0]} bytes more"
    return seen


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for end, count in sorted(rounds(given.rounds, given.seed).items()):
        print(f"{count:6} {end}")


if __name__ == "__main__":
    main()
