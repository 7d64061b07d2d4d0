"""Where in a guest's time its slice will be over, as far as one can tell by the last one.

The pCPU's thread ends a slice where the guest is left and its CPU clock has come to the end. The guest is left when the
host's watch kicks, which on a busy host may come late: it needs a processor and the interpreter, too, and a slice of
2 ms has taken 25. So the guest is left by itself a little behind that place. It goes on from there as behind a kick.

To look for it at each of a guest's turns took 1.4% of the time of one that computes, whose turns are of 0.7 ms. So
it is looked for again when the guest is half of the way there: one that has become half as fast has just had its slice
then.
"""

from __future__ import annotations

import time

LATE_S = 0.0003
"""By how much the watch may be late, in host seconds: where it is not, nothing is done twice."""

ENOUGH_S = 0.0002
"""For how long the guest must have computed for that to tell how fast it is, in host seconds."""


LEAST_SPEED = 0.2e9
"""How fast a guest is of which nothing is known yet, in nanoseconds a second: one that does nothing but LOOP. A slower
one is left later, and not so often that it comes no further.
"""

FAR_S = 1.0
"""Nobody looks further than that, in host seconds."""

NOWHERE = -1.0, -1.0
"""Instead of the ends of a slice: nobody has looked for them."""


class Foresight:
    """Of one run, whose guest comes so many nanoseconds of its own time further in a second of the CPU clock."""

    def __init__(self) -> None:
        self._speed = LEAST_SPEED
        self._began_ns = 0
        self._known = NOWHERE
        self._leave_at = self._again_ns = 0

    def begin(self, now_ns: int) -> None:
        """A slice begins."""
        self._began_ns = now_ns
        self._known = NOWHERE

    def look(self, began: float, now_ns: int) -> float:
        """See how fast the guest is, which has come to here in this slice, that began there on the CPU clock; what that
        says now.
        """
        now = time.thread_time()
        if now - began > ENOUGH_S:
            self._speed = max((now_ns - self._began_ns) / (now - began), LEAST_SPEED)
        return now

    def leave_at(self, began: float, end: float, look_at: float, now_ns: int) -> int:
        """Where the guest, which is here now, is to be left in a slice that ends there on the CPU clock, or where the
        queue is to be asked at this time of time.monotonic, at the latest.
        """
        if (end, look_at) != self._known or now_ns >= self._again_ns:
            self._known = end, look_at
            left = min(end - self.look(began, now_ns), look_at - time.monotonic())
            self._leave_at = now_ns + int(min(max(left, 0.0) + LATE_S, FAR_S) * self._speed)
            self._again_ns = (now_ns + self._leave_at) // 2
        return self._leave_at


__all__ = ["Foresight"]
