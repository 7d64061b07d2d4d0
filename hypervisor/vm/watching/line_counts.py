"""How often source lines were executed, of several runs together, and the report of it for ``genhtml``."""

from __future__ import annotations

from collections.abc import Mapping


class LineCounts:
    """For each source line with code, in how many of what was added it was executed."""

    def __init__(self) -> None:
        self._files: dict[str, dict[int, int]] = {}

    def add(self, lines: Mapping[tuple[str, int], bool]) -> None:
        """Add a run: each line that has code, and whether it was executed."""
        for (file, number), executed in lines.items():
            counts = self._files.setdefault(file, {})
            counts[number] = counts.get(number, 0) + executed

    def add_counts(self, files: Mapping[str, Mapping[int, int]]) -> None:
        """Add what `files` gave elsewhere."""
        for file, numbers in files.items():
            counts = self._files.setdefault(file, {})
            for number, count in numbers.items():
                counts[number] = counts.get(number, 0) + count

    @property
    def files(self) -> dict[str, dict[int, int]]:
        """By file, then line, as plain values."""
        return {file: dict(sorted(counts.items())) for file, counts in sorted(self._files.items())}

    def totals(self) -> tuple[int, int]:
        """Lines that were executed, and all lines."""
        every = [count for counts in self._files.values() for count in counts.values()]
        return sum(count > 0 for count in every), len(every)

    def lcov(self) -> str:
        """The report; see geninfo(1), "FILES"."""
        report = []
        for file, counts in self.files.items():
            report += ["TN:", f"SF:{file}", *(f"DA:{number},{count}" for number, count in counts.items())]
            report += [f"LF:{len(counts)}", f"LH:{sum(count > 0 for count in counts.values())}", "end_of_record"]
        return "".join(f"{line}\n" for line in report)


__all__ = ["LineCounts"]
