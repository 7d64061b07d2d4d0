"""A program whose outcome differs, made shorter while it still differs."""

from __future__ import annotations

from collections import Counter

from tests.differ import known, runs
from tests.differ.compare import differences
from tests.differ.program import Program


def differing(programs: list[Program]) -> list[dict[str, tuple[int, int]]]:
    """The differences of each program; one that a machine did not come to has the field "lost"."""
    if not programs:
        return []
    (ours, our_end), (qemu, qemu_end) = runs.ours(programs), runs.qemu(programs)
    found = []
    for n in range(len(programs)):
        if n < min(len(ours), len(qemu)):
            found.append(differences(ours[n], qemu[n]))
        elif n == min(len(ours), len(qemu)):
            print(f"lost: ours {our_end}, {len(ours)}; QEMU {qemu_end}, {len(qemu)}")
            found.append({"lost": (len(ours), len(qemu))})
        else:
            return found + differing(programs[n:])
    return found


def minimise(programs: list[Program]) -> list[tuple[Program, dict[str, tuple[int, int]]]]:
    """All at once: in each round every program loses each of its items in turn; the first that still differs stays."""
    best = list(zip(programs, differing(programs), strict=True))
    open_ = list(range(len(best)))
    while open_:
        trials = [(n, best[n][0].without(item)) for n in open_ for item in range(len(best[n][0].items))]
        shorter: dict[int, tuple[Program, dict[str, tuple[int, int]]]] = {}
        for start in range(0, len(trials), 100):
            part = trials[start : start + 100]
            for (n, trial), found in zip(part, differing([trial for _, trial in part]), strict=True):
                if known.unexplained(trial, found, Counter()) and n not in shorter and "lost" not in found:
                    shorter[n] = trial, found
        for n, pair in shorter.items():
            best[n] = pair
        open_ = list(shorter)
    return best
