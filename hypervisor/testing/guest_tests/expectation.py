"""What a guest's tests are expected to be: how they are reported, and how the run ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from hypervisor.errors import ConfigError
from hypervisor.testing.guest_tests.guest_result import joined
from hypervisor.testing.guest_tests.listening import FORMATS

TIMEOUT_S = 120.0
"""How long a guest may take for its tests unless it is told otherwise, in host seconds."""


@dataclass(frozen=True)
class Expectation:
    """``format`` is how the guest reports: one of `FORMATS`; ``output`` the console where it does (else the first with
    a report); ``names`` tests that must be reported; ``exit`` the status, or those, of a debug exit that is a success;
    ``timeout`` is in host seconds, ``virtual_timeout`` in guest seconds.

    Raises `ConfigError` for what cannot be expected.
    """

    format: str = "auto"
    output: str | None = None
    names: tuple[str, ...] = ()
    exit: tuple[int, ...] = ()
    timeout: float | None = TIMEOUT_S
    virtual_timeout: float | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ConfigError(f"format = {self.format!r}: choose one of {', '.join(FORMATS)}.")
        if self.format == "exit" and not self.exit:
            raise ConfigError("format = 'exit' needs the status that is a success: exit = 33, say.")
        for status in self.exit:
            if not isinstance(status, int) or status < 0 or not status & 1:
                raise ConfigError(f"exit = {status!r}: the status of a debug exit is (value << 1) | 1, so odd.")
        for limit in (self.timeout, self.virtual_timeout):
            if limit is not None and (not isinstance(limit, (int, float)) or isinstance(limit, bool) or limit <= 0):
                raise ConfigError(f"{limit!r} is no time limit: give seconds, more than 0.")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Expectation:
        """From keyword arguments, or a table of TOML. Raises `ConfigError`, with the name that was meant."""
        known = [each.name for each in fields(cls)]
        for name in values:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"Did you mean {close[0]}?" if close else f"There are {', '.join(known)}."
                raise ConfigError(f"{name}: tests of a guest have no such option. {hint}")
        given = dict(values)
        for name in ("output", "format"):
            if not isinstance(given.get(name, ""), str | None):
                raise ConfigError(f"{name} = {given[name]!r}: a text is needed.")
        if "exit" in given:
            given["exit"] = _several("exit", given["exit"], int)
        if "names" in given:
            given["names"] = tuple(joined(name) for name in _several("names", given["names"], str))
        return cls(**given)


def _several(name: str, value: Any, kind: type) -> tuple[Any, ...]:
    """One value, or a list of them. Raises `ConfigError`."""
    many = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not all(isinstance(one, kind) and not isinstance(one, bool) for one in many):
        raise ConfigError(f"{name} = {value!r}: give one {kind.__name__}, or a list of them.")
    return many


__all__ = ["TIMEOUT_S", "Expectation"]
