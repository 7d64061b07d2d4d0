"""What the fixture ``vm_factory`` gives: guests that are booted once in a session, and forked for each test."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypervisor.errors import ConfigError, HypervisorError
from hypervisor.testing.present_guests import Guest, PresentGuests
from hypervisor.testing.shared_file import exclusively

if TYPE_CHECKING:
    from hypervisor import VM
    from hypervisor.run.ending.conditions import Until
    from hypervisor.vm.snapshot import Snapshot

BOOT_S = 120.0
"""How long a guest may take to come to its moment unless the test says otherwise, in host seconds."""

_AGAIN = ("plugins", "board")
"""Options that are code, and so not in a file."""


class Moment:
    """A guest at one moment: each test, and each example of a test, goes on from there with a machine of its own."""

    def __init__(
        self, name: str, snapshot: Snapshot, prepare: Callable[[VM], object] | None, guests: PresentGuests
    ) -> None:
        self.name = name
        self.snapshot = snapshot
        """The machine there, for what `fork` does not do."""
        self._prepare, self._guests = prepare, guests

    @contextmanager
    def fork(self) -> Iterator[VM]:
        """``with ready.fork() as vm:`` has a guest that goes on from here. It is closed at the end of the block; if
        that fails, not before it is in the test's report, and in ``FAILED.hvs``.
        """
        vm = self.snapshot.fork(prepare=self._prepare)
        with self._guests.present(Guest(self.name, vm)):
            yield vm

    def __repr__(self) -> str:
        return f"<Moment {self.name}: {self.snapshot!r}>"


@dataclass(frozen=True)
class _Recipe:
    """How a guest comes to its moment."""

    image: Any
    options: dict[str, Any]
    prepare: Callable[[VM], object] | None
    until: Until
    reach: Callable[[VM], object] | None
    limits: dict[str, float | None]

    @property
    def means(self) -> tuple[Any, ...]:
        """What another recipe is compared with. (Functions that were written in place are new ones each time.)"""
        return self.image, self.options, None if callable(self.until) else self.until

    def boot(self, saved: Path | None) -> VM:
        """The guest before its first run, or as it was saved at its moment."""
        import hypervisor

        if saved is None:
            return hypervisor.boot(self.image, prepare=self.prepare, **self.options)
        again = {option: self.options[option] for option in _AGAIN if option in self.options}
        return hypervisor.boot(str(saved), prepare=self.prepare, **again)

    def run(self, vm: VM) -> None:
        """Bring it to its moment. Raises `GuestCrashed` if it ends before."""
        if self.reach is not None:
            self.reach(vm)
        else:
            vm.run(until=self.until, **self.limits).check()


class MomentFactory:
    """The moments of one session, by their names."""

    def __init__(self, guests: PresentGuests, shared: Path | None) -> None:
        """``shared`` is a folder that several processes which run tests of one session have in common, if they do."""
        self._guests, self._shared = guests, shared
        self._moments: dict[str, tuple[_Recipe, Moment]] = {}

    def moment(
        self,
        name: str,
        image: Any,
        *,
        until: Until = None,
        timeout: float | None = BOOT_S,
        virtual_timeout: float | None = None,
        reach: Callable[[VM], object] | None = None,
        prepare: Callable[[VM], object] | None = None,
        **options: Any,
    ) -> Moment:
        """The guest that `hypervisor.boot` makes of ``image`` and ``options``, when it has come to ``until``.

        The first call boots it and runs it to there, as `VM.run` does with ``until``, ``timeout`` and
        ``virtual_timeout``; or ``reach(vm)`` does, which may wait, type and wait again. Later calls with this name get
        the same moment. ``prepare`` is called with the guest, and with each fork, before it runs, and gives it handlers
        and the like. Where tests run in several processes (pytest-xdist), one of them boots the guest and saves it, and
        the others open the file. Raises `GuestCrashed` if the guest ends before, `ConfigError` for a name that means
        another guest already, and what `hypervisor.boot` raises.
        """
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ConfigError(f"A moment cannot be called {name!r}: letters, digits, '.', '-' and '_' make a name.")
        if (until is None) == (reach is None):
            raise ConfigError(f"The moment {name!r}: say when it is, by one of until= and reach=.")
        limits = {"timeout": timeout, "virtual_timeout": virtual_timeout}
        recipe = _Recipe(image, options, prepare, until, reach, limits)
        if name not in self._moments:
            self._moments[name] = recipe, self._new(name, recipe)
        known, moment = self._moments[name]
        if known.means != recipe.means:
            raise ConfigError(f"The moment {name!r} is another guest's already: of {known.means}, not {recipe.means}.")
        return moment

    def _new(self, name: str, recipe: _Recipe) -> Moment:
        file = None if self._shared is None else self._shared / f"{name}.hvs"
        with nullcontext() if file is None else exclusively(file):
            saved = file if file is not None and file.exists() else None
            with self._guests.present(Guest(name, recipe.boot(saved))) as vm:
                if saved is None:
                    recipe.run(vm)
                    if file is not None:
                        _save(vm, file)
                return Moment(name, vm.snapshot(), recipe.prepare, self._guests)

    def close(self) -> None:
        """Give the moments' memory back."""
        while self._moments:
            self._moments.popitem()[1][1].snapshot.close()


def _save(vm: VM, file: Path) -> None:
    """Save it for the other processes. Where that cannot be done, each of them boots its own."""
    with suppress(HypervisorError):
        vm.save(file)


__all__ = ["BOOT_S", "Moment", "MomentFactory"]
