"""``NAME.guest.toml`` for pytest: a file whose tests are those of the guest that it describes.

Collecting boots nothing. A guest's tests are known when it has run; so a file has the test ``run``, which brings the
others with it, and those that are named: by ``names = [...]`` in the file, or on pytest's command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hypervisor.errors import HypervisorError
from hypervisor.testing.guest_tests.guest_description import Description, descriptions
from hypervisor.testing.guest_tests.guest_outcome import GuestTests, GuestTestsFailed, run_guest_tests
from hypervisor.testing.guest_tests.guest_result import GuestResult, Outcome, unique
from hypervisor.testing.guest_tests.result_reports import heading

if TYPE_CHECKING:
    from hypervisor.testing.session import GuestSession

RUN = "run"
"""The test that a guest ran to its end, as it was meant to."""


@dataclass(frozen=True)
class Told:
    """What is known when a guest has run: what it reported, and of a run that went wrong what a failure shows."""

    tests: GuestTests
    sections: list[tuple[str, str]] = field(default_factory=list)
    consoles: list[tuple[str, str]] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As values that a file of JSON has."""
        results = [[one.name, one.outcome.value, one.reason, one.log] for one in self.tests.results]
        return {
            "results": results, "problem": self.tests.problem, "skipped": self.tests.skipped,
            "sections": self.sections, "consoles": self.consoles,
        }  # fmt: skip

    @classmethod
    def of(cls, values: dict[str, Any]) -> Told:
        """What `plain` gave."""
        results = [GuestResult(name, Outcome(outcome), *rest) for name, outcome, *rest in values["results"]]
        return cls(
            GuestTests(results, values["problem"], values["skipped"]),
            [(title, text) for title, text in values["sections"]],
            [(title, text) for title, text in values["consoles"]],
        )


class DescribedGuest:
    """A guest that is run when the first of its tests asks, in one of the processes of a session."""

    def __init__(self, path: Path, description: Description, session: GuestSession) -> None:
        self.path, self.description, self._session = path, description, session
        self._told: Told | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Tests that it must report."""
        return self.description.expected.names

    def told(self, item: pytest.Item) -> Told:
        """What it reported; ``item`` is the test that asks. Raises what booting raises."""
        if self._told is None:
            name = f"{self.path.stem}-{self.description.name}"
            values = self._session.once(name, (str(self.path), self.description.name), lambda: self._run(item).plain())
            self._told = Told.of(values)
        return self._told

    def _run(self, item: pytest.Item) -> Told:
        import hypervisor

        config = hypervisor.MachineConfig.from_values(self.description.values, f"{self.path.name}: ")
        name = self.description.name or self.path.name.partition(".")[0]
        with self._session.present(name, hypervisor.boot(config)) as vm:
            tests = run_guest_tests(vm, self.description.expected)
            tests = replace(tests, results=unique(tests.results, taken=(RUN,)))
            sections = self._session.sections(item, tests.problem) if tests.problem else []
        return Told(tests, sections, self._session.consoles())


class GuestFile(pytest.File):
    """A description."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Its guest's tests, or its guests. Raises `CollectError` for a description that is none."""
        from hypervisor.testing.session import session_of

        try:
            found = list(descriptions(self.path))
        except HypervisorError as error:
            raise self.CollectError(str(error)) from error
        for description in found:
            guest = DescribedGuest(self.path, description, session_of(self.config))
            if description.name:
                yield GuestImage.from_parent(self, name=description.name, guest=guest)
            else:
                yield from tests_of(self, guest)


class GuestImage(pytest.Collector):
    """One of several guests of a file."""

    def __init__(self, *, guest: DescribedGuest, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._guest = guest

    def collect(self) -> Iterator[pytest.Item]:
        """Its tests."""
        return tests_of(self, self._guest)


def tests_of(parent: pytest.Collector, guest: DescribedGuest) -> Iterator[pytest.Item]:
    """The run, and each test that has been named."""
    named = dict.fromkeys([*guest.names, *_asked_for(parent)])
    named.pop(RUN, None)
    yield GuestRunItem.from_parent(parent, name=RUN, guest=guest, named=frozenset(named))
    for name in named:
        yield GuestTestItem.from_parent(parent, name=name, guest=guest)


def _asked_for(parent: pytest.Collector) -> Iterator[str]:
    """Tests of this node that the command line names, as ``file::test`` or ``file::image::test``; with
    ``--last-failed`` those that failed.
    """
    config, within = parent.config, parent.nodeid.split("::")[1:]
    for argument in config.args:
        path, *names = str(argument).split("::")
        if names[:-1] == within and names and (config.invocation_params.dir / path).resolve() == parent.path:
            yield names[-1]
    if config.getoption("lf", False):
        for nodeid in config.cache.get("cache/lastfailed", {}) if config.cache is not None else ():
            begin, _, name = nodeid.rpartition("::")
            if begin == parent.nodeid:
                yield name


class _GuestItem(pytest.Item):
    guest_result: GuestResult | None = None
    """What became of it, where that is not the call's own end."""

    def __init__(self, *, guest: DescribedGuest, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.guest = guest
        self.guest_sections: list[tuple[str, str]] = []
        """What a failure shows besides its sentence."""
        self.guest_consoles: list[tuple[str, str]] = []
        """What a report for machines has of it."""

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it is, and the heading of a failure."""
        return self.path, None, heading(self.nodeid)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """A sentence where one says it all."""
        if isinstance(excinfo.value, (GuestTestsFailed, HypervisorError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)


class GuestRunItem(_GuestItem):
    """That a guest ran, reported all that it announced, and ended well. It brings results that were not named."""

    def __init__(self, *, named: frozenset[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._named = named
        self.guest_results: list[GuestResult] = []

    def runtest(self) -> None:
        """Run the guest, unless another test of it has."""
        told = self.guest.told(self)
        self.guest_results = [one for one in told.tests.results if one.name not in self._named]
        self.guest_consoles = told.consoles
        if told.tests.problem:
            self.guest_sections = told.sections
            raise GuestTestsFailed(told.tests.problem)
        if told.tests.skipped is not None:
            self.guest_result = GuestResult(RUN, Outcome.SKIPPED, told.tests.skipped)


class GuestTestItem(_GuestItem):
    """A test in a guest that has been named."""

    def runtest(self) -> None:
        """Look what became of it; the report says that."""
        tests = self.guest.told(self).tests
        try:
            self.guest_result = tests[self.name]
            self.guest_consoles = [(self.name, self.guest_result.log)]
        except KeyError as error:
            why = tests.problem.partition("\n")[0] or "its run ended well."
            raise GuestTestsFailed(f"{error.args[0][0].upper()}{error.args[0][1:]}. The guest: {why}") from None


__all__ = ["RUN", "GuestFile", "GuestRunItem", "GuestTestItem"]
