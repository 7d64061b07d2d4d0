"""``FAILED.hvs``: a guest of a test that failed, as it was then, in a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hypervisor import VM

GUESTS = 4
"""How many guests of one test are kept."""

LONGEST_NAME = 100
"""How many characters a folder's name has at most."""


class FailedFiles:
    """The files of one session."""

    def __init__(self, folder: Path | None, limit: int, folders: pytest.TempPathFactory) -> None:
        """``folder`` is where each test that fails gets a folder of its own; without, its files are in its
        ``tmp_path``, or in one of ``folders`` if it did not ask for that. No more than ``limit`` files are written.
        """
        self._folder, self._left, self._folders = folder, limit, folders
        self._made: tuple[pytest.Item | None, Path] = None, Path()

    def keep(self, vms: list[VM], item: pytest.Item) -> list[str]:
        """Write a test's guests into files; for each one a text for the test's report that says how to open it."""
        return [self._keep_one(vm, number, item) for number, vm in enumerate(vms)]

    def _keep_one(self, vm: VM, number: int, item: pytest.Item) -> str:
        if number >= GUESTS:
            return f"(not kept: {GUESTS} guests of a test are)"
        if self._left <= 0:
            return "(not kept: hypervisor_failed_limit, in pytest's configuration, says how many are)"
        try:
            path = self._folder_of(item) / f"FAILED{f'-{number + 1}' if number else ''}.hvs"
            vm.stop("its test failed")  # if it still runs
            vm.save(path)
        except Exception as error:  # which must not hide the test's own failure
            return f"(not kept: {type(error).__name__}: {error})"
        self._left -= 1
        return _how_to_open(vm, path) + _picture(vm, path.with_suffix(".png"))

    def _folder_of(self, item: pytest.Item) -> Path:
        name = re.sub(r"[^\w.-]+", "-", item.nodeid)[-LONGEST_NAME:]
        if self._folder is not None:
            folder = self._folder / name
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        found = getattr(item, "funcargs", {}).get("tmp_path")
        if not isinstance(found, Path):
            if self._made[0] is not item:
                self._made = item, self._folders.mktemp(re.sub(r"\W+", "_", item.name)[:LONGEST_NAME])
            found = self._made[1]
        return found


def _picture(vm: VM, path: Path) -> str:
    """Keep what is on the screen, too, if that is no text; a line that says where."""
    screen = getattr(vm, "screen", None)
    if screen is None or str(screen.mode).startswith("text"):
        return ""
    try:
        path.write_bytes(screen.png())
    except Exception as error:  # as above
        return f"\n(its screen was not kept: {type(error).__name__}: {error})"
    return f"\nits screen: {path}"


def _how_to_open(vm: VM, path: Path) -> str:
    handlers = [handler.name for handler in vm.traps.by_hand()]
    if handlers:
        return f"hv.boot({str(path)!r}, prepare=...), where prepare gives it its handlers: {', '.join(handlers)}"
    plugins = f", plugins=[{', '.join(name for name, _ in vm.plugins)}]" if len(vm.plugins) else ""
    command = "" if plugins else f"hypervisor run {path}\n"
    return f"{command}hv.boot({str(path)!r}{plugins})"


__all__ = ["GUESTS", "FailedFiles"]
