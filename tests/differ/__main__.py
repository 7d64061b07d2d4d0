"""The long form: ``python -m tests.differ --programs 20000 --seed 1``; ``--only NUMBER`` runs one program again."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from tests.differ import known
from tests.differ.minimise import differing, minimise
from tests.differ.program import make

BATCH = 150


def main() -> int:
    """Run, reduce what differs, print it; 1 if there was something that no row of the table explains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=20000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    parser.add_argument("--show", type=int, default=40, help="how many to reduce and print")
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.programs)
    if options.only is not None:
        numbers = range(options.only, options.only + 1)
    fired: Counter[known.Row] = Counter()
    bad = []
    for start in range(0, len(numbers), BATCH):
        part = numbers[start : start + BATCH]
        programs = [make(options.seed, number) for number in part]
        for number, program, found in zip(part, programs, differing(programs), strict=True):
            left = known.unexplained(program, found, fired)
            if left:
                bad.append((number, program, found))
        print(f"{start + len(part)} programs, {len(bad)} differ", file=sys.stderr)
    shown = bad[: options.show]
    for (number, _, _), (program, found) in zip(shown, minimise([program for _, program, _ in shown]), strict=True):
        print(f"\n--- seed {options.seed}, program {number}\n{program}")
        for name in known.unexplained(program, found, Counter()):
            a, b = found[name]
            print(f"    {name}: ours {a:x}, QEMU {b:x}")
    silent = [row for row in known.ROWS if not fired[row]] if options.only is None else []
    for row in silent:
        print(f"never fired: {row}")
    print(f"{len(numbers)} programs, {len(bad)} differ; {sum(fired.values())} by QEMU's known faults")
    return 1 if bad or silent else 0


sys.exit(main())
