"""The pytest plugin: fixtures that boot and fork guests, and what the guests said in the text of a failure.

pytest loads it by itself once the package is installed. Nothing of the hypervisor is imported before a test asks for
``vm`` or ``vm_factory``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hypervisor.testing.guest_coverage import SENT
from hypervisor.testing.guest_tests.result_reports import Teller
from hypervisor.testing.guests_of_test import VmFactory, host_of_test
from hypervisor.testing.present_guests import PresentGuests
from hypervisor.testing.session import COVERAGE, FOLDER, LIMIT, begun_session, session_of

if TYPE_CHECKING:
    from hypervisor import VM, Host
    from hypervisor.testing.guest_tests.guest_outcome import GuestTests
    from hypervisor.testing.guest_tests.guest_result import GuestResult
    from hypervisor.testing.moments import MomentFactory

ENDING = ".guest.toml"
"""What the names of descriptions of guests end with."""
MARKERS = (
    "guest(image, **options): what the fixture vm boots, and its options where the test gives none",
    "host(**options): the options of the fixture host",
)
WRITER = "hypervisor-guest-coverage"

_RESULTS: pytest.StashKey[list[GuestResult]] = pytest.StashKey()
"""What guests of one test reported."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options, and settings for pytest's configuration file."""
    parser.addini(FOLDER, "where guests of failing tests are kept (default: in the test's tmp_path)", default="")
    parser.addini(LIMIT, "how many guests of failing tests are kept in one session", default="10")
    parser.getgroup("hypervisor").addoption(
        "--guest-coverage",
        metavar="FILE",
        dest=COVERAGE,
        help="Write which source lines the tests' guests executed, as lcov. Their kernels need line numbers (-g).",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Know our markers; tell of guests' tests, and write coverage, in the process that shows reports."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if hasattr(config, "workerinput"):
        return
    config.pluginmanager.register(Teller(config), "hypervisor-teller")
    if config.getoption("xmlpath", None):
        from hypervisor.testing.consoles import JUnitConsoles

        config.pluginmanager.register(JUnitConsoles(config), "hypervisor-junit-consoles")
    if path := config.getoption(COVERAGE):
        from hypervisor.testing.guest_coverage import CoverageWriter

        writer = CoverageWriter(config.invocation_params.dir / path)
        writer.write()  # to say at once if that cannot be done, and so that no older report is taken for this one
        config.pluginmanager.register(writer, WRITER)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what a worker's guests executed, or write what all have."""
    config = session.config
    begun = begun_session(config)
    mine = None if begun is None else begun.coverage
    if hasattr(config, "workeroutput"):
        if mine is not None:
            config.workeroutput[SENT] = mine.counts.files, mine.counts.functions
    elif (writer := config.pluginmanager.get_plugin(WRITER)) is not None:
        if mine is not None:
            writer.counts.add_counts(mine.counts.files, mine.counts.functions)
        writer.write()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """``NAME.guest.toml`` describes a guest that tests itself."""
    if not file_path.name.endswith(ENDING):
        return None
    from hypervisor.testing.guest_tests.collecting import GuestFile

    return GuestFile.from_parent(parent, path=file_path)


@pytest.fixture(scope="session", name="_hypervisor_guests")
def present_guests(request: pytest.FixtureRequest) -> PresentGuests:
    """The guests that there are."""
    return session_of(request.config).guests


@pytest.fixture
def vm(request: pytest.FixtureRequest, _hypervisor_guests: PresentGuests) -> Iterator[VmFactory]:
    """A function that boots a guest: ``vm("hello", memory="16M")``. Its guests are closed after the test.

    ``@pytest.mark.guest("hello", memory="16M")`` says what ``vm()`` boots.
    """
    factory = VmFactory(_hypervisor_guests, request.node)
    try:
        yield factory
    finally:
        factory.close()


@pytest.fixture
def host(request: pytest.FixtureRequest, _hypervisor_guests: PresentGuests) -> Iterator[Host]:
    """A `hypervisor.Host` for one test: ``host.create_vm("hello", memory="16M")``. It is closed after the test.

    ``@pytest.mark.host(memory="1G", cpus=2)`` says how large it is.
    """
    with host_of_test(_hypervisor_guests, request.node) as made:
        yield made


@pytest.fixture(scope="session")
def vm_factory(request: pytest.FixtureRequest, _hypervisor_guests: PresentGuests) -> Iterator[MomentFactory]:
    """Guests that are booted once: ``ready = vm_factory.moment("ready", "kernel.elf", until="READY")``, and then, for
    each test or example, ``with ready.fork() as vm:``.
    """
    from hypervisor.testing.moments import MomentFactory

    shared = session_of(request.config).shared
    factory = MomentFactory(_hypervisor_guests, None if shared is None else shared / "moments")
    try:
        yield factory
    finally:
        factory.close()


@pytest.fixture
def guest_tests(request: pytest.FixtureRequest) -> Callable[..., GuestTests]:
    """A function that runs a guest which tests itself: ``guest_tests(vm("kernel.elf"), format="tap")``. Each result
    becomes a test of its own. The options are those of `Expectation`.

    It returns what the guest reported, and fails if that, or how the run ended, is not as it was meant to be.
    """
    from hypervisor.testing.guest_tests.expectation import Expectation
    from hypervisor.testing.guest_tests.guest_outcome import GuestTestsFailed, run_guest_tests
    from hypervisor.testing.guest_tests.guest_result import unique
    from hypervisor.testing.guest_tests.report_format import MOST_RESULTS

    results = request.node.stash.setdefault(_RESULTS, [])

    def run(vm: VM, **options: Any) -> GuestTests:
        tests = run_guest_tests(vm, Expectation.of(options))
        results[:] = unique([*results, *tests.results])[:MOST_RESULTS]
        if tests.problem:
            raise GuestTestsFailed(tests.problem)
        return tests

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the guests' consoles and states to the report of a failed test, while the guests are still there, and where
    they are kept; and let results of guests travel with it.
    """
    report = yield
    session = begun_session(item.config)
    if session is None:
        return report
    if report.when == "call":
        _tell(item, report)
    if report.failed and report.when != "teardown":
        report.sections.extend(session.sections(item, report.longreprtext))
    if report.when == "call" or report.failed:
        consoles = getattr(item, "guest_consoles", None) or session.consoles()
        if consoles:
            report.guest_consoles = consoles  # type: ignore[attr-defined]  # plain values, which pytest-xdist carries
    session.guests.forget_failed()
    return report


def _tell(item: pytest.Item, report: pytest.TestReport) -> None:
    """What is known of guests' tests when a test has run."""
    from hypervisor.testing.guest_tests.result_reports import attach, shape

    report.sections.extend(getattr(item, "guest_sections", ()))
    if (result := getattr(item, "guest_result", None)) is not None:
        shape(report, result, report.location[0])
    if results := getattr(item, "guest_results", None):
        attach(report, report.nodeid.rpartition("::")[0], results)
    elif results := item.stash.get(_RESULTS, []):
        attach(report, report.nodeid, results)
