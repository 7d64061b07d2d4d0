"""The pytest plugin: a fixture that boots guests, and what they said in the text of a failure.

pytest loads it by itself once the package is installed. Nothing of the hypervisor is imported before a test asks for
``vm``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hypervisor import VM

CONSOLE_LINES = 40
"""How many of a console's last lines a failure shows."""


class VmFactory:
    """What the fixture ``vm`` gives: call it as `hypervisor.boot`, as often as the test needs guests."""

    def __init__(self) -> None:
        self._vms: list[tuple[str, VM]] = []

    def __call__(self, image: Any, **options: Any) -> VM:
        """A guest booted from ``image`` with the options of `hypervisor.boot`; it is closed when the test is over."""
        import hypervisor

        vm = hypervisor.boot(image, **options)
        self._vms.append((str(image) if isinstance(image, str) else type(image).__name__, vm))
        return vm

    def close(self) -> None:
        """Close every guest, last one first; then raise the first error, if any."""
        errors: list[Exception] = []
        while self._vms:
            try:
                self._vms.pop()[1].close()
            except Exception as error:  # the other guests must be closed as well
                errors.append(error)
        if errors:
            raise errors[0]

    def sections(self, told: str = "") -> Iterator[tuple[str, str]]:
        """Heading and text for a failure: each guest's console, and its crash report or present state.

        A report that ``told``, the failure's own text, has from `RunResult.check` is not told again.
        """
        for number, (name, vm) in enumerate(self._vms, 1):
            guest = f"guest {number} ({name})"
            yield f"{guest}: console", _tail(vm.console.text)
            for number_of_port, port in vm.serial.items():
                if number_of_port and port.text:  # the first one is on the console
                    yield f"{guest}: {port.name}", _tail(port.text)
            if vm.notes:
                yield f"{guest}: what it asked for and did not get", _tail("\n".join(vm.notes))
            yield f"{guest}: state", _state(vm, told)


_FACTORY = pytest.StashKey[VmFactory]()


@pytest.fixture
def vm(request: pytest.FixtureRequest) -> Iterator[VmFactory]:
    """A function that boots a guest: ``vm("hello", memory="16M")``. Its guests are closed after the test."""
    factory = request.node.stash[_FACTORY] = VmFactory()
    try:
        yield factory
    finally:
        factory.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the guests' consoles and states to the report of a failed test, while the guests are still there."""
    report = yield
    factory = item.stash.get(_FACTORY, None)
    if report.failed and report.when == "call" and factory is not None:
        report.sections.extend(factory.sections(report.longreprtext))
    return report


def _tail(text: str) -> str:
    lines = text.splitlines()
    if not lines:
        return "(nothing)"
    left_out = len(lines) - CONSOLE_LINES
    return "\n".join(([f"... {left_out} lines left out"] if left_out > 0 else []) + lines[-CONSOLE_LINES:])


def _state(vm: Any, told: str) -> str:
    """The crash report of the last run, else registers and code as they are now."""
    from hypervisor.debug import report

    result = getattr(vm, "result", None)
    if result is not None and result.crash:
        lines = str(result.crash).splitlines()
        return "(its crash report is above)" if lines[0] in told and lines[-1] in told else str(result.crash)
    title = f"last run: {result.reason.value}, {result.message}" if result is not None else ""
    if result is not None and result.hint:
        title += f"\nlikely mistake: {result.hint}"
    try:
        return str(report(vm, title))
    except Exception as error:  # a closed or half-built guest must not hide the test's own failure
        return f"(no state: {type(error).__name__}: {error})"
