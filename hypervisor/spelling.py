"""What a misspelt name is likely to mean."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def hint(name: str, known: Iterable[str]) -> str:
    """A sentence that follows another, or nothing."""
    similar = get_close_matches(name, [one for one in known if not one.startswith("_")], n=1)
    return f" Did you mean {similar[0]}?" if similar else ""
