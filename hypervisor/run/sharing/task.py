"""What a VM does on pCPUs, slice by slice, as the queue knows it: a run, or some steps."""

from __future__ import annotations

import contextvars
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from hypervisor.run.sharing.scheduler import Candidate
from hypervisor.run.threads.patience import Mark

if TYPE_CHECKING:
    from hypervisor.run.sharing.hold import Customer, Hold


class Next(Enum):
    """What a task wants when it has left its pCPU."""

    READY = "another slice"
    RESTS = "no pCPU until it is woken, or until `Task.wake_at`"
    APART = "to go on without a pCPU, in a thread of its own"
    OVER = "nothing: it is over"


going: set[Task] = set()
"""Those that have begun and are not over: they go on though nobody has a reference to them."""


class Task(ABC):
    """Work of a VM's that is executed by whatever pCPU it is given, with the context variables and the trace function
    of the thread that asked for it.
    """

    def __init__(self, vm: Candidate, place: Customer) -> None:
        """``vm`` is whom a scheduler sees, ``place`` the same for the queue."""
        self.candidate, self.place = vm, place
        self.wake_at: float | None = None
        """When a task that rests wants to go on at the latest, of time.monotonic; None for never."""
        self.idle_since: float | None = None
        """Since when it wants no pCPU, of time.monotonic; the queue's."""
        self.waiters: set[int] = set()
        """The threads that wait until it is over, by their numbers."""
        self.begun = False
        """Whether any of it has been executed."""
        self.over = False
        self.error: BaseException | None = None
        """What it raised instead of coming to its end."""
        self.tracer: Any = threading.gettrace() or sys.gettrace()
        self.when_over: list[Callable[[], None]] = []
        """Called when it is over, on the thread that ends it."""
        self.woken = False
        """Whether it was to be woken since its slice began; the queue's."""
        self.wants_apart = False
        """Whether it waits for a thread of its own; the queue's."""
        self._context = contextvars.copy_context()
        self.mark = Mark()
        """Set when it is over."""
        self._done = threading.Lock()
        self._done.acquire()

    # --- what it is ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def slice(self, hold: Hold) -> Next:
        """Go on, on the pCPU of ``hold`` and in its thread."""

    @abstractmethod
    def apart(self) -> Next:
        """Go on without a pCPU, in a thread that is nobody else's."""

    @property
    @abstractmethod
    def called_off(self) -> bool:
        """Whether it has something else to do than to wait for a pCPU."""

    @property
    @abstractmethod
    def stands(self) -> bool:
        """Whether it wants no pCPU though it was woken."""

    @abstractmethod
    def hurry(self) -> float:
        """End it, or what holds it up, if that is due. From any thread but those that execute it; host seconds until
        this should be called again, negative for never.
        """

    @abstractmethod
    def ask_to_end(self, error: BaseException) -> None:
        """Who waited was interrupted by this: end soon. Asked again, do not wait for what holds it up."""

    @abstractmethod
    def refuse(self, text: str) -> None:
        """The host cannot serve it: it ends with this sentence, at its next opportunity. It is woken behind this."""

    @abstractmethod
    def give_up(self) -> None:
        """Give back what it has of its VM. Called once it is over, or when it has not begun and will not."""

    def withdraw(self) -> None:
        """It has not been taken on, and will not."""
        going.discard(self)
        self.give_up()

    # --- its life -----------------------------------------------------------------------------------------------------

    def execute(self, step: Callable[..., Next], *arguments: Any) -> Next:
        """Go on by this method of its own. What that raises is its end, and a bug of ours: it lets go of its VM, which
        may need a pCPU, in a thread of its own.
        """
        self.begun = True
        try:
            if self.error is None:
                return self._context.run(step, *arguments)
            self.give_up()
        except BaseException as error:
            if self.error is None:
                self.error = error
                return Next.APART
        return Next.OVER

    def ends(self) -> None:
        """It is over: tell those who wait."""
        going.discard(self)
        self.over = True
        self._done.release()
        self.mark.set()
        for action in self.when_over:
            action()

    def wait(self, seconds: float) -> None:
        """Wait for its end, so many seconds at most if they are not negative."""
        if self._done.acquire(timeout=seconds):
            self._done.release()  # for the next one who waits


__all__ = ["Next", "Task"]
