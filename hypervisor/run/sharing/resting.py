"""Tasks that want no pCPU, until somebody wakes them or their time has come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hypervisor.run.threads.watch import NEVER, Alarm

if TYPE_CHECKING:
    from hypervisor.run.sharing.task import Task


class Resting:
    """Those of a host. Times are of time.monotonic.

    The host's watch rings when the first one is due. It needs a processor for that, which on a busy host it gets some
    milliseconds late; so the pCPUs' threads look here, too, wherever they choose who is next.
    """

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm
        self._tasks: list[Task] = []
        self.next_at = NEVER
        """Nobody is due before that."""

    def __iter__(self) -> Iterator[Task]:
        return iter(list(self._tasks))

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def add(self, task: Task) -> None:
        """It rests."""
        self._tasks.append(task)
        if task.wake_at is not None:
            self._expect(task.wake_at)

    def remove(self, task: Task | None) -> None:
        """It does no longer, if it did."""
        self._tasks[:] = [one for one in self._tasks if one is not task]

    def due(self, now: float) -> list[Task]:
        """Those whose time has come."""
        if now < self.next_at:
            return []
        return [one for one in self._tasks if one.wake_at is not None and one.wake_at <= now]

    def look_again(self, now: float) -> None:
        """Those that were due rest no longer: be woken for the next one."""
        if now >= self.next_at:
            self.next_at = NEVER
            self._expect(min((one.wake_at for one in self._tasks if one.wake_at is not None), default=NEVER))

    def _expect(self, wake_at: float) -> None:
        if wake_at < self.next_at:
            self.next_at = wake_at
            self._alarm.set(wake_at)


__all__ = ["Resting"]
