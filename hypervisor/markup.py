"""Tables as HTML, for notebooks: what ``_repr_html_`` of our objects returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_CELL = "text-align:left;font-family:monospace;white-space:pre"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with its title. Whatever is in it, a guest's texts too, is shown as text."""
    head = "".join(f"<th style='text-align:left'>{escape(column)}</th>" for column in columns)
    lines = ["".join(f"<td style='{_CELL}'>{escape(str(cell))}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    above = f"<thead><tr>{head}</tr></thead>" if any(columns) else ""
    return f"<table><caption>{escape(title)}</caption>{above}<tbody>{body}</tbody></table>"


__all__ = ["table"]
