"""Waiting for text: on one stream or screen, or on any of a VM's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hypervisor.errors import ConfigError, ExpectError
from hypervisor.run.ending.conditions import Condition

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine

EXPECT_S = 60.0
"""How long `expect` waits unless it is told, in host seconds."""
TAIL = 2000
"""Characters of a source's end that an `ExpectError` shows."""


@dataclass(frozen=True)
class Match:
    """What was waited for: ``match``, found on the stream or screen ``source``, and the text ``before`` it, from the
    end of the match before.
    """

    source: str
    before: str
    match: re.Match[str]

    @property
    def text(self) -> str:
        """The text that matched."""
        return self.match.group()

    def __getitem__(self, group: int | str) -> str | None:
        return self.match[group]


class Wait(Condition):
    """A condition that leaves what it found in ``found``."""

    found: Match | None = None


class Source(Protocol):
    """Something that shows text: a stream, or a screen. `VM.searched` holds those that ``until="text"`` looks at."""

    name: str

    @property
    def text(self) -> str:
        """What is here now, for messages."""
        ...

    def waiting_for(self, pattern: re.Pattern[str], *, named: bool) -> Wait:
        """The condition that text matching ``pattern`` is new here: that it came after the last match.

        ``named`` waits are for this source alone, and do not care for matches elsewhere.
        """
        ...

    def catch_up(self) -> None:
        """A wait for any source ended elsewhere: nothing that is here now is new for the next one.

        (The BIOS writes each character to two places, its stream and the screen, and kernels often do.)
        """
        ...


class AnySource(Wait):
    """The text came on one of several sources."""

    def __init__(self, sources: list[Source], pattern: re.Pattern[str]) -> None:
        self._waits = [(source, source.waiting_for(pattern, named=False)) for source in sources]
        self.deadline_ns = min(wait.deadline_ns for _, wait in self._waits)
        self.text = f"some output shows {shown(pattern)!r}"
        self.looks_at_guest = any(wait.looks_at_guest for _, wait in self._waits)

    def holds(self) -> bool:
        """Whether it came."""
        for source, wait in self._waits:
            if wait.holds():
                self.found, self.text = wait.found, wait.text
                for other, _ in self._waits:
                    if other is not source:
                        other.catch_up()
                return True
        return False

    def went_back(self) -> None:
        """See `Condition`."""
        for _, wait in self._waits:
            wait.went_back()

    def __enter__(self) -> AnySource:
        for _, wait in self._waits:
            wait.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        for _, wait in self._waits:
            wait.__exit__(*exc)


def any_source(sources: list[Source], pattern: re.Pattern[str]) -> AnySource:
    """The condition that text comes on any stream or screen of a VM. Raises `ConfigError` where there is none."""
    if not sources:
        raise ConfigError("Waiting for text needs a board with a console; this VM has none.")
    return AnySource(sources, pattern)


def expect(
    vm: Machine, sources: list[Source], wait: Wait, timeout: float | None, virtual_timeout: float | None
) -> Match:
    """Run ``vm`` until ``wait`` holds; raises `ExpectError` with what ``sources`` show if it does not."""
    why = ""
    if not wait.holds():
        result = vm.run(until=wait, timeout=timeout, virtual_timeout=virtual_timeout)
        why = f"the run ended as {result.reason.value}: {result.message}"
        if wait.found is None:
            wait.holds()  # the guest may have written it and switched off in one go
    if wait.found is not None:
        return wait.found
    said = [(source.name, source.text.rstrip()[-TAIL:]) for source in sources]
    tails = "".join(f"\n--- {name} ends with:\n{text}" for name, text in said if text)
    raise ExpectError(f"Waited until {wait.text}, but {why}.{tails or ' Nothing was written there.'}")


def exact(text: object) -> re.Pattern[str]:
    """The pattern of a plain text. Raises `ConfigError` if there is nothing to wait for."""
    if not isinstance(text, str) or not text:
        raise ConfigError(f"{text!r} is no text to wait for: name the text that the guest will write.")
    return re.compile(re.escape(text))


def compiled(regex: str | re.Pattern[str]) -> re.Pattern[str]:
    """``regex``, compiled. Raises `ConfigError`, with the reason."""
    try:
        pattern = re.compile(regex)
    except (re.error, TypeError) as error:
        raise ConfigError(f"{regex!r} is not a regular expression: {error}.") from error
    if not isinstance(pattern.pattern, str):
        raise ConfigError(f"{regex!r} is a pattern of bytes; give one of text.")
    return pattern


def literal(pattern: re.Pattern[str]) -> str | None:
    """The text that ``pattern`` stands for, if it has no operators."""
    plain = re.sub(r"\\([^a-zA-Z0-9])", r"\1", pattern.pattern)
    return plain if re.escape(plain) == pattern.pattern and not pattern.flags & re.IGNORECASE else None


def shown(pattern: re.Pattern[str]) -> str:
    """``pattern`` as a user wrote it."""
    return literal(pattern) or pattern.pattern
