"""A program whose outcome differs, made shorter while it still differs."""

from __future__ import annotations

from collections import Counter

from tests.differ import known, runs
from tests.differ.compare import Difference, differences
from tests.differ.program import Program


def differing(programs: list[Program]) -> list[Difference]:
    """The differences of each program; one that a machine did not come to has the field "lost"."""
    if not programs:
        return []
    (ours, our_end), (qemu, qemu_end) = runs.ours(programs), runs.qemu(programs)
    found: list[Difference] = []
    ended = min(len(ours), len(qemu))
    if (
        (our_end == runs.STUCK or qemu_end != runs.DONE) and ended and len(programs) > 1
    ):  # who is wild may have got at others' records
        half = ended if ended < len(programs) else ended // 2
        return differing(programs[:half]) + differing(programs[half:])
    for n in range(len(programs)):
        if n < ended:
            found.append(differences(ours[n], qemu[n]))
        elif n == ended:
            found.append(_lost(programs[n], len(ours) - n, our_end, len(qemu) - n, qemu_end))
        else:
            return found + differing(programs[n:])
    return found


def _lost(program: Program, ours: int, our_end: str, qemu: int, qemu_end: str) -> Difference:
    """A program that one machine, or both, did not come to the end of."""
    if (ours, our_end) == (qemu, qemu_end):
        return Difference()
    print(f"lost: {program.mode.name}: ours {our_end}, QEMU {qemu_end}")
    shut = ours == 0 and our_end == runs.SHUTDOWN and program.mode.place.real
    return Difference({"lost": (ours, qemu)}, (-1 if shut else 0, 0))


def unexplained(programs: list[Program], fired: Counter[known.Row]) -> list[list[str]]:
    """Fields of each program that differ, and neither a row nor what follows from one explains."""
    found = differing(programs)
    left = [known.unexplained(*pair, fired) for pair in zip(programs, found, strict=True)]
    rows = {n: known.followed(programs[n], found[n]) for n, names in enumerate(left) if names}
    changed = {n: known.without(programs[n], about) for n, about in rows.items() if about}
    for (n, program), again in zip(changed.items(), differing(list(changed.values())), strict=True):
        left[n] = known.unexplained(program, again, fired)
        fired.update(rows[n] if not left[n] else ())
    return left


def minimise(programs: list[Program]) -> list[tuple[Program, Difference]]:
    """All at once: in each round every program loses each of its items in turn; the first that still differs stays."""
    best = list(zip(programs, differing(programs), strict=True))
    open_ = list(range(len(best)))
    while open_:
        trials = [(n, best[n][0].without(item)) for n in open_ for item in range(len(best[n][0].items))]
        shorter: dict[int, tuple[Program, Difference]] = {}
        for start in range(0, len(trials), 100):
            part = trials[start : start + 100]
            for (n, trial), found in zip(part, differing([trial for _, trial in part]), strict=True):
                if known.unexplained(trial, found, Counter()) and n not in shorter and "lost" not in found.fields:
                    shorter[n] = trial, found
        for n, pair in shorter.items():
            best[n] = pair
        open_ = list(shorter)
    return best
