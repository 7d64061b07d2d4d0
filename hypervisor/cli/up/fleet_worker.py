"""What takes a while is done beside the screen, one thing after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from hypervisor.errors import HypervisorError


class Worker:
    """A thread, from the first thing on that there is to do. ``say`` is told what is done, and what came of it."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._todo: SimpleQueue[tuple[str, Callable[[], object], bool] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._count = 0
        self._closed = False
        self._finishes = False
        """Whether what is being done is to be finished whatever happens."""

    @property
    def busy(self) -> bool:
        """Whether there is something that has not been done."""
        return self._count > 0

    def do(self, what: str, action: Callable[[], object], *, finishes: bool = False) -> None:
        """Do this behind what is to be done already; once it has begun it ``finishes`` before the end. What it returns
        is said, if that is a text.
        """
        self._count += 1
        self._todo.put((what, action, finishes))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="fleet-worker", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while (one := self._todo.get()) is not None:
            what, action, self._finishes = one
            if self._closed:
                return
            self._say(f"{what} ...")
            try:
                came = action()
                if isinstance(came, str):
                    self._say(came)
            except (HypervisorError, OSError) as error:
                self._say(f"{what}: {error}")
            finally:
                self._finishes = False
                self._count -= 1

    def close(self) -> None:
        """Nothing more is to be done. What is being done may be what only the end of a run lets go of (a pause of a
        machine whose handler does not return), so it is waited for only if it finishes by itself.
        """
        self._closed = True
        self._todo.put(None)
        if self._thread is not None and self._finishes:
            self._thread.join()
