"""What the text of a test's failure has of a guest: its console, and its crash report or present state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypervisor import VM

CONSOLE_LINES = 40
"""How many of a console's last lines a failure shows."""


def sections(guest: str, vm: VM, told: str) -> Iterator[tuple[str, str]]:
    """Heading and text for each thing that a failure shows of a guest, which messages call ``guest``.

    A report that ``told``, the failure's own text, has from `RunResult.check` is not told again.
    """
    yield f"{guest}: console", _tail(vm.console.text)
    for number_of_port, port in vm.serial.items():
        if number_of_port and port.text:  # the first one is on the console
            yield f"{guest}: {port.name}", _tail(port.text)
    if screen := _screen(vm):
        yield f"{guest}: screen", screen
    if vm.notes:
        yield f"{guest}: what it asked for and did not get", _tail("\n".join(vm.notes))
    yield f"{guest}: state", _state(vm, told)


def _tail(text: str) -> str:
    lines = text.splitlines()
    if not lines:
        return "(nothing)"
    left_out = len(lines) - CONSOLE_LINES
    return "\n".join(([f"... {left_out} lines left out"] if left_out > 0 else []) + lines[-CONSOLE_LINES:])


def _screen(vm: Any) -> str:
    """The rows of a text mode, or which picture there is; empty for a board without a screen, and for one without
    anything on it that is not on the console.
    """
    screen = getattr(vm, "screen", None)
    if screen is None:
        return ""
    if text := screen.text.strip("\n"):
        return "" if all(line in vm.console.text for line in text.splitlines()) else str(text)
    mode = str(screen.mode)
    return "" if mode.startswith("text") else f"(a picture, {mode})"


def _state(vm: Any, told: str) -> str:
    """The crash report of the last run, else registers and code as they are now."""
    from hypervisor.debug.crash import LAST_EVENTS, report

    result = getattr(vm, "result", None)
    if result is not None and result.crash:
        lines = str(result.crash).splitlines()
        return "(its crash report is above)" if lines[0] in told and lines[-1] in told else str(result.crash)
    title = f"last run: {result.reason.value}, {result.message}" if result is not None else ""
    if result is not None and result.hint:
        title += f"\nlikely mistake: {result.hint}"
    try:
        return str(report(vm, title, events=vm.events(LAST_EVENTS)))
    except Exception as error:  # a closed or half-built guest must not hide the test's own failure
        return f"(no state: {type(error).__name__}: {error})"


__all__ = ["CONSOLE_LINES", "sections"]
