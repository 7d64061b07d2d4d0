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
        self._todo: SimpleQueue[tuple[str, Callable[[], object]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._count = 0

    @property
    def busy(self) -> bool:
        """Whether there is something that has not been done."""
        return self._count > 0

    def do(self, what: str, action: Callable[[], object]) -> None:
        """Do this behind what is to be done already. What it returns is said, if that is a text."""
        self._count += 1
        self._todo.put((what, action))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="fleet-worker", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while (one := self._todo.get()) is not None:
            what, action = one
            self._say(f"{what} ...")
            try:
                came = action()
                if isinstance(came, str):
                    self._say(came)
            except (HypervisorError, OSError) as error:
                self._say(f"{what}: {error}")
            finally:
                self._count -= 1

    def close(self) -> None:
        """Nothing more is to be done; what has begun is waited for."""
        self._todo.put(None)
        if self._thread is not None:
            self._thread.join()
