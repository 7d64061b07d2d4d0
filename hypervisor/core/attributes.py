"""Objects whose attributes are settled once they are made."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any


class Settled:
    """An object to which no attribute is added after `settle`: a misspelt name is an error, not a new attribute."""

    def settle(self) -> None:
        """All its attributes are there."""
        self.__dict__["settled"] = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__ and "settled" in self.__dict__ and not hasattr(type(self), name):
            similar = get_close_matches(name, [known for known in dir(self) if not known.startswith("_")], n=1)
            hint = f" Did you mean {similar[0]}?" if similar else ""
            raise AttributeError(f"a {type(self).__name__} has no {name!r} that could be set.{hint}")
        super().__setattr__(name, value)
