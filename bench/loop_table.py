"""The section of docs/benchmarks.md about `bench.loops`, and the figures behind it."""

from __future__ import annotations

import json
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
_FIGURES, _DOCUMENT = DOCS / "loops.json", DOCS / "benchmarks.md"
_HEADING, _NEXT = "## Loops by the virtual clock\n", "\n## How these come about\n"
_TEXT = """
Host seconds (of CPU time) for each virtual second of guests that do one thing for ever, with the built-in handlers
(`python -m bench.loops`); bold is outside its band. What a kind costs in virtual time is in
[engine/costs.py](../hypervisor/engine/costs.py) and [firmware/bios/meter.py](../hypervisor/firmware/bios/meter.py).

| | host s per virtual s | right |
|---|--:|--:|
"""

Line = tuple[str, float, str, bool]
"""A row's name, host seconds per virtual second, its band in words, and whether it is within."""


def section() -> str:
    """The section with the published figures; nothing where there are none."""
    if not _FIGURES.exists():
        return ""
    lines: list[Line] = [tuple(line) for line in json.loads(_FIGURES.read_text())]
    cells = (
        f"| {name} | {ratio if within else f'**{ratio}**'} | {band} |\n"
        for name, number, band, within in lines
        for ratio in (f"{number:.3f}" if number < 10 else f"{number:.0f}",)
    )
    return f"{_HEADING}{_TEXT}{''.join(cells)}"


def publish(lines: list[Line]) -> None:
    """Write the figures, and put the section into the document."""
    _FIGURES.write_text("[\n " + ",\n ".join(json.dumps(line) for line in lines) + "\n]\n")
    before, _, behind = _DOCUMENT.read_text().partition(_NEXT)
    before = before.partition(_HEADING)[0].rstrip("\n")
    _DOCUMENT.write_text(f"{before}\n\n{section()}{_NEXT}{behind}")
