"""docs/traps.md says where this processor differs, from `known.OURS`: ``python -m tests.differ.document --update``."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from tests.differ.known import OURS

PAGE = Path(__file__).parents[2] / "docs" / "traps.md"
BEGIN, END = "<!-- begin: python -m tests.differ.document --update -->", "<!-- end -->"


def rendered() -> str:
    """The list."""
    points = (textwrap.fill(limit.text, 138, initial_indent="- ", subsequent_indent="  ") for limit in OURS)
    return "\n".join((BEGIN, "", *points, "", END))


def written() -> str:
    """The list as it stands in the document."""
    text = PAGE.read_text()
    return text[text.index(BEGIN) : text.index(END) + len(END)]


def main() -> int:
    """Say whether the document is in step, or make it so."""
    if "--update" in sys.argv:
        PAGE.write_text(PAGE.read_text().replace(written(), rendered()))
    return int(written() != rendered())


if __name__ == "__main__":
    sys.exit(main())
