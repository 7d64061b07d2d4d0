"""The figures of the house: ``python -m tests.house`` prints how many files the package has, and how long they are."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from tests import import_graph


def lengths() -> dict[Path, int]:
    """Lines of each file of the package, by its path from the root."""
    return {
        path.relative_to(import_graph.ROOT): path.read_text().count("\n") for path in import_graph.modules().values()
    }


def folders() -> dict[Path, int]:
    """How many files lie in each folder of the package."""
    found: dict[Path, int] = {}
    for path in lengths():
        found[path.parent] = found.get(path.parent, 0) + 1
    return found


if __name__ == "__main__":
    lines, full = lengths(), folders()
    longest, fullest = max(lines, key=lines.__getitem__), max(full, key=full.__getitem__)
    print(f"{len(lines)} files with a median of {median(lines.values()):.0f} lines")
    print(f"the longest of {lines[longest]}: {longest}")
    print(f"{full[fullest]} in the fullest folder: {fullest}")
    circles = import_graph.circles(import_graph.imports())
    print(f"{max(map(len, circles), default=1)} files at most in a circle of imports")
