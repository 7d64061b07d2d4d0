"""Conditions that end a run: a text on the console, an amount of virtual time, a predicate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypervisor.core.result import After
from hypervisor.errors import ConfigError

if TYPE_CHECKING:
    from hypervisor.core.vm import VM

_FOREVER = 1 << 62


class Condition:
    """Holds or not; `deadline_ns` is a virtual time at which it should be asked."""

    deadline_ns = _FOREVER
    after_each_exit = False
    """Whether it should be asked after every exit, and not only when Python looks in."""
    text = ""

    def holds(self) -> bool:
        """Whether the run should end now."""
        raise NotImplementedError

    def __enter__(self) -> Condition:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


class OnConsole(Condition):
    """A text was printed, since the last time a run ended on one."""

    def __init__(self, vm: VM, text: str) -> None:
        self._vm = vm
        self._wanted = text.encode()
        self.text = f"the console shows {text!r}"
        self._position = getattr(vm, "_until_position", 0)
        self._looked_to = self._position
        self._stop: Callable[[], None] | None = None

    def holds(self) -> bool:
        """Whether the text was printed."""
        console = self._vm.console
        if len(console) == self._looked_to:
            return False
        found = console.find(self._wanted, max(self._position, self._looked_to - len(self._wanted) + 1))
        self._looked_to = len(console)
        if found < 0:
            return False
        self._vm._until_position = found + len(self._wanted)  # type: ignore[attr-defined]
        return True

    def _written(self, data: bytes) -> None:
        pcpu = self._vm.on_pcpu
        if pcpu is not None and self._wanted[-1:] in data:
            pcpu.kick()  # look at once, not at the end of the slice

    def __enter__(self) -> Condition:
        self._stop = self._vm.console.listen(self._written)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._stop is not None:
            self._stop()


class AfterTime(Condition):
    """Virtual time has passed."""

    def __init__(self, vm: VM, seconds: float) -> None:
        self._clock = vm.clock
        self.deadline_ns = vm.clock.now_ns + int(seconds * 1e9)
        self.text = f"{seconds} s of virtual time have passed"

    def holds(self) -> bool:
        """Whether the time has come."""
        return self._clock.now_ns >= self.deadline_ns


class Predicate(Condition):
    """A function of the user's."""

    after_each_exit = True

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self.text = f"{getattr(function, '__name__', 'the condition')} holds"

    def holds(self) -> bool:
        """What the function answers."""
        return bool(self._function())


def condition(vm: VM, until: Any) -> Condition | None:
    """The condition that ``until=`` of `VM.run` means. Raises `ConfigError` for what is none."""
    if until is None:
        return None
    if isinstance(until, str):
        if vm.console is None:
            raise ConfigError("until=TEXT needs a board with a console; this VM has none.")
        if not until:
            raise ConfigError("until='' is on every console; name the text to wait for.")
        return OnConsole(vm, until)
    if isinstance(until, After):
        return AfterTime(vm, until.seconds)
    if callable(until):
        return Predicate(until)
    raise ConfigError(f"until={until!r}: give a text, hv.after(seconds) or a function without arguments.")
