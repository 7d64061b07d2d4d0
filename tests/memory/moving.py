"""VMs that come, go and move between two pCPUs: every frame is counted, and little is translated twice. They have
breakpoints armed, and some have an execute trap, which is hit once in each of their rounds.

``python -m tests.memory.moving --minutes 10`` is the long form of `test_moving`.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from contextlib import nullcontext
from typing import Any

import hypervisor as hv
from tests.hostile.keeper import Keeper, keepers
from tests.meanwhile import again_and_again
from tests.memory.maps import census

TAGS = 0xA5, 0x5A, 0x3B
TRAPPED = 0xA5, 0x3B
SLICE_S = 7e-5


def _count_rounds(keeper: Keeper) -> list[int]:
    """Trap the beginning of its rounds; the time of each."""
    hits: list[int] = []

    def hit(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        hits.append(vcpu.vm.clock.now_ns)
        return hv.PASS

    keeper.vm.traps.execute(keeper.rounds_at, hit)
    return hits


def alone(tag: int) -> int:
    """Bytes of code that a keeper's run makes on a host of its own."""
    with hv.Host("4M", 1) as host, keepers(host, tag) as (keeper,):
        for _ in range(12):
            keeper.run(SLICE_S)
        return host.pcpus[0].memory.translated_bytes


class Crowd:
    """Keepers in threads of their own on a host with two pCPUs: three stay, one comes and goes."""

    def __init__(self) -> None:
        self.host = hv.Host("8M", 2)
        self.moves = 0
        self.came = 0
        self._end = 0.0
        self._problems: list[BaseException] = []

    def _work(self, keeper: Keeper, rng: random.Random, rounds: int) -> None:
        last: Any = None
        hits = _count_rounds(keeper) if keeper.tag in TRAPPED else None
        while rounds > 0 or (rounds < 0 and time.monotonic() < self._end):
            rounds -= 1
            keeper.run(SLICE_S * rng.randrange(1, 4))
            self.moves += keeper.vm.place.last is not last
            last = keeper.vm.place.last
        keeper.check()
        assert hits is None or 0 <= len(hits) - keeper.seen()[0].rounds <= 1

    def _stay(self, keeper: Keeper, seed: int) -> None:
        try:
            self._work(keeper, random.Random(seed), -1)
        except BaseException as problem:
            self._problems.append(problem)

    def _come_and_go(self) -> None:
        rng = random.Random(4)
        try:
            while time.monotonic() < self._end and not self._problems:
                with keepers(self.host, rng.choice(TAGS)) as (keeper,):
                    self.came += 1
                    self._work(keeper, rng, 12)
        except BaseException as problem:
            self._problems.append(problem)

    def work(self, seconds: float, *, sharing: bool = False) -> tuple[int, int]:
        """All of them at once for a while: bytes of code that were made, and how many would be if each VM were
        translated once on each pCPU. With ``sharing`` frames are merged all the while, which code is made for anew.
        """
        expected = [alone(tag) for tag in TAGS]
        with self.host, keepers(self.host, *TAGS) as made:
            self._end = time.monotonic() + seconds
            threads = [threading.Thread(target=self._come_and_go)]
            threads += [threading.Thread(target=self._stay, args=(keeper, n)) for n, keeper in enumerate(made)]
            with again_and_again(self.host.sharing.scan, 0.002, random.Random(5)) if sharing else nullcontext():
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            if self._problems:
                raise self._problems[0]
            census(self.host.memory, [keeper.vm.memory.pages for keeper in made], self.host.sharing.frames)
            code = sum(pcpu.memory.translated_bytes for pcpu in self.host.pcpus)
        census(self.host.memory, [])
        assert not sharing or self.host.sharing.counts.replaced, f"{self.host.sharing.counts}: nothing was merged"
        return code, 2 * (sum(expected) + self.came * max(expected))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    crowd = Crowd()
    code, expected = crowd.work(60 * parser.parse_args().minutes)
    print(f"{crowd.moves} moves, {crowd.came} VMs came and went; {code / expected:.3f} of the code of one run each")
    return int(code > 1.2 * expected)


if __name__ == "__main__":
    raise SystemExit(main())
