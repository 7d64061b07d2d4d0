"""What the tests of one session have in common: the guests that there are, and what is kept and told of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hypervisor.testing.consoles import Consoles
from hypervisor.testing.failed_files import FailedFiles
from hypervisor.testing.failure_report import sections
from hypervisor.testing.guest_coverage import GuestCoverage
from hypervisor.testing.present_guests import Guest, PresentGuests
from hypervisor.testing.shared_file import exclusively

if TYPE_CHECKING:
    from hypervisor import VM

FOLDER, LIMIT = "hypervisor_failed_folder", "hypervisor_failed_limit"
COVERAGE = "guest_coverage"

_SESSION = pytest.StashKey["GuestSession"]()


class GuestSession:
    """Of one process. With pytest-xdist each worker has one."""

    def __init__(self, config: pytest.Config) -> None:
        """Raises `pytest.UsageError` for a setting that is none."""
        folder, limit = str(config.getini(FOLDER)), str(config.getini(LIMIT))
        if not limit.isdecimal():
            raise pytest.UsageError(f"{LIMIT} = {limit}: give a number of guests, 0 for none.")
        folders: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]  # what the fixture gives
        several = hasattr(config, "workerinput")  # pytest-xdist: this is one of several workers
        self.shared = folders.getbasetemp().parent if several else None
        """A folder that the processes of a session have in common, if there are several."""
        self.coverage = GuestCoverage() if config.getoption(COVERAGE) else None
        self._consoles = Consoles(config.getoption("xmlpath", None) is not None)
        watchers = [one for one in (self.coverage, self._consoles) if one is not None]
        self.guests = PresentGuests(watchers)
        self.files = FailedFiles(config.rootpath / folder if folder else None, int(limit), folders)

    @contextmanager
    def present(self, name: str, vm: VM) -> Iterator[VM]:
        """The block has a guest, which is closed at its end."""
        with self.guests.present(Guest(name, vm)) as guest:
            yield guest

    def sections(self, item: pytest.Item, told: str) -> list[tuple[str, str]]:
        """What the failure of a test shows of the guests that are there; ``told`` is its own text. They are kept."""
        guests = [*self.guests]
        found = []
        kept = self.files.keep([guest.vm for guest in guests], item)
        for number, (guest, where) in enumerate(zip(guests, kept, strict=True), 1):
            title = f"guest {number} ({guest.name})"
            found += [*sections(title, guest.vm, told), (f"{title}: as it was when the test failed", where)]
        return found

    def consoles(self) -> list[tuple[str, str]]:
        """What guests of this test have written, those that are closed included, if somebody wants that. Once."""
        return self._consoles.take(self.guests)

    def once(self, name: str, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, plain values; where several processes ask for the same ``key``, the first makes it, and
        the others get what that gave.
        """
        if self.shared is None:
            return make()
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        path = self.shared / "guests" / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}-{digest}.json"
        with exclusively(path):
            if path.exists():
                return json.loads(path.read_text())
            made = make()
            self._write(path, made)
            return made

    @staticmethod
    def _write(path: Path, values: Any) -> None:
        """Whole or not at all, whatever becomes of this process."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(values))
        part.replace(path)


def session_of(config: pytest.Config) -> GuestSession:
    """The session's, which begins when it is first asked for."""
    if _SESSION not in config.stash:
        config.stash[_SESSION] = GuestSession(config)
    return config.stash[_SESSION]


def begun_session(config: pytest.Config) -> GuestSession | None:
    """The session's, if anybody has asked for it."""
    return config.stash.get(_SESSION, None)


__all__ = ["COVERAGE", "FOLDER", "LIMIT", "GuestSession", "begun_session", "session_of"]
