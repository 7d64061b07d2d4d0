"""The long form: ``python -m tests.differ --programs 20000 --seed 1``; ``--only NUMBER`` runs one program again."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from tests.differ import known
from tests.differ.leaks import leak, unexplained_behind
from tests.differ.minimise import minimise, unexplained
from tests.differ.program import Program, make

BATCH = 150


def _show_alone(seed: int, programs: dict[int, Program]) -> None:
    """Programs that differ alone, made shorter."""
    for number, (program, found) in zip(programs, minimise(list(programs.values())), strict=True):
        print(f"\n--- seed {seed}, program {number}\n{program}")
        for name in known.unexplained(program, found, Counter()):
            a, b = found.fields[name]
            print(f"    {name}: ours {a:x}, QEMU {b:x}")


def _show_behind(seed: int, programs: dict[int, Program], number: int, program: Program, causes: list[Program]) -> None:
    """A program that differs behind others, which are among ``programs``."""
    numbers = [n for n, one in programs.items() if one in causes]
    which = f"behind {', '.join(map(str, numbers))}" if numbers else "in its batch, neither alone nor behind the others"
    print(f"\n--- seed {seed}, program {number} differs only {which}")
    for one in (*causes, program):
        print(one)
    print(f"    {', '.join(unexplained_behind(causes, program))}")


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
        bad += [number for number, names in zip(part, left, strict=True) if names]
        print(f"{start + len(part)} programs, {len(bad)} differ", file=sys.stderr)
    alone = {}
    for number in bad[: options.show]:
        first = number - (number - numbers[0]) % BATCH
        before = {n: make(options.seed, n) for n in range(first, number)}
        program = make(options.seed, number)
        causes = leak(list(before.values()), program)
        if causes is None:
            alone[number] = program
        else:
            _show_behind(options.seed, before, number, program, causes)
    _show_alone(options.seed, alone)
    never = [row for row in known.ALL if not fired[row]] if options.only is None else []
    for row in never:
        print(f"never fired: {row}")
    silent = [row for row in never if row in known.ROWS]  # some limits of ours are met once in 100,000 programs
    print(f"{len(numbers)} programs, {len(bad)} differ; rows fired {sum(fired.values())} times")
    return 1 if bad or silent else 0


sys.exit(main())
