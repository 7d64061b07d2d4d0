"""How often source lines and functions were executed, of several runs together, and the report for ``genhtml``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

Counts = dict[str, dict[int, int]]
"""By file and line: of how many runs."""
Row = tuple[str, int, str, int]
"""A function's file, line and name, and of how many runs."""


class Function(NamedTuple):
    """A function, and the line of its first instruction."""

    file: str
    line: int
    name: str


class LineCounts:
    """For each source line with code, and each function, in how many of what was added it was executed."""

    def __init__(self) -> None:
        self._files: Counts = {}
        self._functions: dict[Function, int] = {}

    def add(self, lines: Mapping[tuple[str, int], bool], functions: Mapping[Function, bool] | None = None) -> None:
        """Add a run: each line that has code, and whether it was executed; the same of functions."""
        for (file, number), executed in lines.items():
            counts = self._files.setdefault(file, {})
            counts[number] = counts.get(number, 0) + executed
        for function, executed in (functions or {}).items():
            self._functions[function] = self._functions.get(function, 0) + executed

    def add_counts(self, files: Mapping[str, Mapping[int, int]], functions: Iterable[Row] = ()) -> None:
        """Add what `files` and `functions` gave elsewhere."""
        for file, numbers in files.items():
            counts = self._files.setdefault(file, {})
            for number, count in numbers.items():
                counts[number] = counts.get(number, 0) + count
        for file, line, name, count in functions:
            function = Function(file, line, name)
            self._functions[function] = self._functions.get(function, 0) + count

    @property
    def files(self) -> Counts:
        """By file, then line, as plain values."""
        return {file: dict(sorted(counts.items())) for file, counts in sorted(self._files.items())}

    @property
    def functions(self) -> list[Row]:
        """All functions in order, as plain values."""
        return [(*function, count) for function, count in sorted(self._functions.items())]

    def totals(self) -> tuple[int, int]:
        """Lines that were executed, and all lines."""
        every = [count for counts in self._files.values() for count in counts.values()]
        return sum(count > 0 for count in every), len(every)

    def function_totals(self) -> tuple[int, int]:
        """Functions that were executed, and all functions."""
        return sum(count > 0 for count in self._functions.values()), len(self._functions)

    def lcov(self) -> str:
        """The report; see geninfo(1), "FILES"."""
        report, functions = list[str](), self._functions_by_name()
        for file, counts in self.files.items():
            mine = functions.get(file, {})
            report += ["TN:", f"SF:{file}"]
            report += [f"FN:{line},{name}" for name, (line, _) in mine.items()]
            report += [f"FNDA:{count},{name}" for name, (_, count) in mine.items()]
            report += [f"FNF:{len(mine)}", f"FNH:{sum(count > 0 for _, count in mine.values())}"] if mine else []
            report += [f"DA:{number},{count}" for number, count in counts.items()]
            report += [f"LF:{len(counts)}", f"LH:{sum(count > 0 for count in counts.values())}", "end_of_record"]
        return "".join(f"{line}\n" for line in report)

    def _functions_by_name(self) -> dict[str, dict[str, tuple[int, int]]]:
        """By file and name, which is all that a report tells functions apart by: the first line, and all counts."""
        found: dict[str, dict[str, tuple[int, int]]] = {}
        for file, line, name, count in self.functions:
            names = found.setdefault(file, {})
            first, before = names.get(name, (line, 0))
            names[name] = first, before + count
        return found


__all__ = ["Counts", "Function", "LineCounts", "Row"]
