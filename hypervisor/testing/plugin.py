"""The pytest plugin: fixtures that boot and fork guests, and what the guests said in the text of a failure.

pytest loads it by itself once the package is installed. Nothing of the hypervisor is imported before a test asks for
``vm`` or ``vm_factory``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from hypervisor.testing.failed_files import FailedFiles
from hypervisor.testing.failure_report import sections
from hypervisor.testing.present_guests import Guest, PresentGuests

if TYPE_CHECKING:
    from hypervisor import VM
    from hypervisor.testing.moments import MomentFactory

FOLDER, LIMIT = "hypervisor_failed_folder", "hypervisor_failed_limit"

_PRESENT = pytest.StashKey[PresentGuests]()
_FILES = pytest.StashKey[FailedFiles]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Settings for pytest's configuration file."""
    parser.addini(FOLDER, "where guests of failing tests are kept (default: in the test's tmp_path)", default="")
    parser.addini(LIMIT, "how many guests of failing tests are kept in one session", default="10")


@pytest.fixture(scope="session", name="_hypervisor_guests")
def present_guests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PresentGuests:
    """The guests that there are, and where those of failing tests are kept."""
    config = request.config
    folder, limit = str(config.getini(FOLDER)), str(config.getini(LIMIT))
    if not limit.isdecimal():
        raise pytest.UsageError(f"{LIMIT} = {limit}: give a number of guests, 0 for none.")
    config.stash[_FILES] = FailedFiles(config.rootpath / folder if folder else None, int(limit), tmp_path_factory)
    config.stash[_PRESENT] = PresentGuests()
    return config.stash[_PRESENT]


class VmFactory:
    """What the fixture ``vm`` gives: call it as `hypervisor.boot`, as often as the test needs guests."""

    def __init__(self, present: PresentGuests) -> None:
        self._present = present
        self._guests: list[Guest] = []

    def __call__(self, image: Any, **options: Any) -> VM:
        """A guest booted from ``image`` with the options of `hypervisor.boot`; it is closed when the test is over."""
        import hypervisor

        vm = hypervisor.boot(image, **options)
        guest = Guest(str(image) if isinstance(image, str) else type(image).__name__, vm)
        self._guests.append(guest)
        self._present.add(guest)
        return vm

    def close(self) -> None:
        """Close every guest, last one first; then raise the first error, if any."""
        self._present.close(self._guests)


@pytest.fixture
def vm(_hypervisor_guests: PresentGuests) -> Iterator[VmFactory]:
    """A function that boots a guest: ``vm("hello", memory="16M")``. Its guests are closed after the test."""
    factory = VmFactory(_hypervisor_guests)
    try:
        yield factory
    finally:
        factory.close()


@pytest.fixture(scope="session")
def vm_factory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _hypervisor_guests: PresentGuests
) -> Iterator[MomentFactory]:
    """Guests that are booted once: ``ready = vm_factory.moment("ready", "kernel.elf", until="READY")``, and then, for
    each test or example, ``with ready.fork() as vm:``.
    """
    from hypervisor.testing.moments import MomentFactory

    several = hasattr(request.config, "workerinput")  # pytest-xdist: this is one of several workers
    shared = tmp_path_factory.getbasetemp().parent / "moments" if several else None
    factory = MomentFactory(_hypervisor_guests, shared)
    try:
        yield factory
    finally:
        factory.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the guests' consoles and states to the report of a failed test, while the guests are still there, and where
    they are kept.
    """
    report = yield
    present = item.config.stash.get(_PRESENT, None)
    if present is None:
        return report
    if report.failed and report.when != "teardown":
        guests = [*present]
        kept = item.config.stash[_FILES].keep([guest.vm for guest in guests], item)
        for number, (guest, where) in enumerate(zip(guests, kept, strict=True), 1):
            title = f"guest {number} ({guest.name})"
            report.sections.extend(sections(title, guest.vm, report.longreprtext))
            report.sections.append((f"{title}: as it was when the test failed", where))
    present.forget_failed()
    return report
