"""Objects whose attributes are settled once they are made."""

from __future__ import annotations

from hypervisor.spelling import hint


class Settled:
    """An object to which no attribute is added after `settle`: a misspelt name is an error, not a new attribute."""

    def settle(self) -> None:
        """All its attributes are there."""
        self.__dict__["settled"] = True

    def __setattr__(self, name: str, value: object) -> None:
        own = self.__dict__
        if name not in own and "settled" in own and not hasattr(type(self), name):
            raise AttributeError(f"a {type(self).__name__} has no {name!r} that could be set.{hint(name, dir(self))}")
        object.__setattr__(self, name, value)
