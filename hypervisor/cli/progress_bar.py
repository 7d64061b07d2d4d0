"""How far something has come that takes long: as a bar below what the guest has written, or in words."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

SHOWN_AFTER_S = 0.5
"""Host seconds after which there is a bar: what takes less needs none."""


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows how far something has come, on stderr if that is a terminal; it is called with how much is done, and of how
    much. Nothing is left of it behind the ``with`` block.
    """
    begin = time.monotonic()
    with ExitStack() as shown:
        update: Callable[[int, int], None] | None = None

        def come(done: int, whole: int) -> None:
            nonlocal update
            if update is None and sys.stderr is not None and sys.stderr.isatty():
                if time.monotonic() - begin < SHOWN_AFTER_S:
                    return
                update = _bar(what, shown)
            if update is not None:
                update(done, whole)

        yield come


def each_second(tell: Callable[[float], object]) -> Callable[[int, int], None]:
    """Calls ``tell`` with the part that is done, from 0 to 1, when a second has passed since it last was."""
    last = time.monotonic()

    def come(done: int, whole: int) -> None:
        nonlocal last
        if time.monotonic() - last >= 1 and whole:
            last = time.monotonic()
            tell(done / whole)

    return come


def _bar(what: str, shown: ExitStack) -> Callable[[int, int], None]:
    from rich.console import Console
    from rich.progress import Progress

    progress = shown.enter_context(Progress(console=Console(stderr=True), transient=True))
    task = progress.add_task(what)
    return lambda done, whole: progress.update(task, completed=done, total=whole)


__all__ = ["each_second", "progress_bar"]
