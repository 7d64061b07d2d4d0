"""The long form: ``python -m tests.differ --programs 20000 --seed 1``; ``--only NUMBER`` runs one program again."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from tests.differ import known
from tests.differ.minimise import minimise, unexplained
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
        left = unexplained(programs, fired)
        bad += [(number, program) for number, program, names in zip(part, programs, left, strict=True) if names]
        print(f"{start + len(part)} programs, {len(bad)} differ", file=sys.stderr)
    shown = bad[: options.show]
    for (number, _), (program, found) in zip(shown, minimise([program for _, program in shown]), strict=True):
        print(f"\n--- seed {options.seed}, program {number}\n{program}")
        for name in known.unexplained(program, found, Counter()):
            a, b = found.fields[name]
            print(f"    {name}: ours {a:x}, QEMU {b:x}")
    never = [row for row in known.ALL if not fired[row]] if options.only is None else []
    for row in never:
        print(f"never fired: {row}")
    silent = [row for row in never if row in known.ROWS]  # some limits of ours are met once in 100,000 programs
    print(f"{len(numbers)} programs, {len(bad)} differ; rows fired {sum(fired.values())} times")
    return 1 if bad or silent else 0


sys.exit(main())
