"""Count for minutes: ``python -m tests.counting --seconds 300 --seed 1``, each kind in each way under each clock."""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from tests.counting.counted import count
from tests.counting.guests import KINDS
from tests.counting.ways import WAYS


def main() -> int:
    """The exit status: how many counts were wrong, 100 at most."""
    parser = argparse.ArgumentParser(prog="python -m tests.counting", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="at least one round over all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--way", choices=WAYS, action="append")
    options = parser.parse_args()
    until, wrong, done = time.monotonic() + options.seconds, 0, 0
    for seed in itertools.count(options.seed):
        for kind, way, clock in itertools.product(options.kind or KINDS, options.way or WAYS, ("virtual", "wall")):
            problems = count(kind, way, clock, seed)
            done += 1
            for problem in problems:
                print(f"{kind}, {way}, {clock} clock, seed {seed}: {problem}", flush=True)
            wrong += bool(problems)
        print(f"seed {seed}: {done} counts so far, {wrong} wrong", flush=True)
        if time.monotonic() > until:
            return min(wrong, 100)
    return 0


sys.exit(main())
