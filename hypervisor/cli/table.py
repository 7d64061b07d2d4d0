"""Tables on stdout: aligned and coloured for a person, one line a row for a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text


def print_table(rows: Sequence[Sequence[Text]]) -> None:
    """Print ``rows``. Without a terminal nothing is wrapped or coloured, and tabs separate the columns."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        for row in rows:
            print(*(cell.plain for cell in row), sep="\t")
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    console.print(table)
