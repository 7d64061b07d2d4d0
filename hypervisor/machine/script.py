"""Scripts: what a person would do at the machine, line by line.

::

    # wait for the prompt, then list a directory
    wait "login: "
    send "root\\n"
    wait serial1 "ready"
    type "ls\\n"
    press ctrl alt delete
    sleep 0.5

``wait`` goes on when the text comes on any stream or on the screen, or on the one that is named; ``send`` sends to the
first serial port, or to the one that is named; ``type`` and ``press`` use the keyboard; ``sleep`` waits for seconds of
the guest's time. Texts are in double quotes, with the escapes \\\\n, \\\\r, \\\\t, \\\\e, \\\\\\\\, \\\\" and \\\\xNN.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypervisor.console.expecting import any_source, exact
from hypervisor.devices.scan_codes import codes, strokes
from hypervisor.errors import ConfigError
from hypervisor.run.ending.conditions import AfterTime, Condition

if TYPE_CHECKING:
    from hypervisor.console.screen import Screen
    from hypervisor.console.serial_port import SerialPort
    from hypervisor.console.streams import Stream
    from hypervisor.vm.vm import VM


def _port(number: int) -> Callable[[VM], SerialPort]:
    return lambda vm: vm.serial[number]


_SERIAL = {f"serial{number}": _port(number) for number in range(4)}
STREAMS: dict[str, Callable[[VM], Stream | Screen]] = {
    **_SERIAL,
    "debugcon": lambda vm: vm.debugcon,
    "bios": lambda vm: vm.bios_tty,
    "screen": lambda vm: vm.screen,
}
"""Where a ``wait`` may look, by name."""
_TEXT = re.compile(r'(?:(\w+)\s+)?"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "e": "\x1b", "\\": "\\", '"': '"'}


@dataclass(frozen=True)
class Step:
    """One line: its number and text, and what it does, or what it waits for."""

    line: int
    source: str
    act: Callable[[VM], object] | None = None
    wait: Callable[[VM], Condition] | None = None


class Playing(Condition):
    """A script that is played while the VM runs: the ``until=`` of that run, which never holds."""

    def __init__(self, vm: VM, steps: Sequence[Step]) -> None:
        self._vm = vm
        self._left = deque(steps)
        self._waiting: Condition | None = None

    @property
    def waits_at(self) -> Step | None:
        """The line that the script has come to; None at its end."""
        return self._left[0] if self._left else None

    @property
    def text(self) -> str:  # type: ignore[override]  # what is left of it, until nothing is
        """The line that the script has come to, for a run that ends there."""
        step = self.waits_at
        return "" if step is None else f"line {step.line} of its script ({step.source}) was played"

    def holds(self) -> bool:
        """Do what the lines say, up to one that waits."""
        while self._left:
            step = self._left[0]
            if step.act is not None:
                step.act(self._vm)
            elif step.wait is not None:
                if self._waiting is None:
                    self._waiting = step.wait(self._vm).__enter__()
                    self.deadline_ns = self._waiting.deadline_ns
                if not self._waiting.holds():
                    return False
                self._end_wait()
            self._left.popleft()
        return False

    def __exit__(self, *exc: object) -> None:
        self._end_wait()

    def _end_wait(self) -> None:
        if self._waiting is not None:
            self._waiting.__exit__(None, None, None)
        self._waiting, self.deadline_ns = None, Condition.deadline_ns


def parse(text: str, name: str) -> list[Step]:
    """The steps of a script. Raises `ConfigError` that says what is wrong in which line of ``name``."""
    steps = []
    for number, line in enumerate(text.splitlines(), 1):
        source = line.strip()
        if not source or source.startswith("#"):
            continue
        verb, _, rest = source.partition(" ")
        try:
            if verb not in _VERBS:
                raise ConfigError(f"{verb!r} is nothing that a script does; a line begins with {', '.join(_VERBS)}.")
            act, wait = _VERBS[verb](rest.strip())
        except ConfigError as error:
            raise ConfigError(f"{name}, line {number}: {error}") from None
        steps.append(Step(number, source, act, wait))
    return steps


def unescaped(text: str) -> str:
    """``text`` with its escapes replaced. Raises `ConfigError` for one that does not exist."""

    def character(match: re.Match[str]) -> str:
        if len(match[1]) == 3:
            return chr(int(match[1][1:], 16))
        if match[1] not in _ESCAPES:
            raise ConfigError(f'\\{match[1]} is not an escape; there are \\n \\r \\t \\e \\\\ \\" and \\xNN.')
        return _ESCAPES[match[1]]

    return _ESCAPE.sub(character, text)


_Does = tuple[Callable[["VM"], object] | None, Callable[["VM"], Condition] | None]


def _quoted(rest: str, verb: str) -> tuple[str | None, str]:
    """The stream that is named, and the text."""
    match = _TEXT.fullmatch(rest)
    if match is None:
        raise ConfigError(f'{rest!r} is no text in double quotes, such as {verb} "text".')
    return match[1], unescaped(match[2])


def _wait(rest: str) -> _Does:
    name, text = _quoted(rest, "wait")
    exact(text)  # an empty one is a mistake in this line
    if name is None:
        return None, lambda vm: any_source(vm.searched, exact(text))
    if name not in STREAMS:
        raise ConfigError(f"{name!r} is no stream; there are {', '.join(STREAMS)}.")
    stream = STREAMS[name]
    return None, lambda vm: stream(vm).contains(text)


def _send(rest: str) -> _Does:
    name, text = _quoted(rest, "send")
    if name is not None and name not in _SERIAL:
        raise ConfigError(f"{name!r} takes no input; send goes to serial0, serial1, serial2 or serial3.")
    port = _SERIAL[name or "serial0"]
    data = text.encode()
    return (lambda vm: port(vm).send(data)), None


def _type(rest: str) -> _Does:
    name, text = _quoted(rest, "type")
    if name is not None:
        raise ConfigError(f"type goes to the keyboard, not to {name!r}.")
    for character in text:
        strokes(character)
    return (lambda vm: vm.keyboard.type(text)), None


def _press(rest: str) -> _Does:
    keys = rest.split()
    if not keys:
        raise ConfigError("press needs keys, such as press ctrl alt delete.")
    for key in keys:
        codes(key)
    return (lambda vm: vm.keyboard.press(*keys)), None


def _sleep(rest: str) -> _Does:
    try:
        seconds = float(rest)
    except ValueError:
        seconds = -1.0
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ConfigError(f"sleep {rest!r}: give a number of seconds, such as sleep 0.5.")
    return None, lambda vm: AfterTime(vm.clock, seconds)


_VERBS: dict[str, Callable[[str], _Does]] = {
    "wait": _wait,
    "send": _send,
    "type": _type,
    "press": _press,
    "sleep": _sleep,
}
