"""A cable between a machine and a switch: how long frames take, and what becomes of some of them.

Each frame's fate is drawn from the seed of its direction and the frame's number on it alone. So it does not matter when
the frame is looked at, and a link's state is a count.
"""

from __future__ import annotations

import hashlib
import heapq
import struct
from dataclasses import dataclass
from functools import cached_property

from hypervisor.errors import ConfigError
from hypervisor.network.ethernet import OVERHEAD
from hypervisor.state import number, numbers, record, time_ns
from hypervisor.units import NS_PER_S, nanoseconds

LEAST_LATENCY_NS = 50_000
"""Machines may run apart by what the links between them take; below this they would do little but wait."""
MOST_LATENCY_NS = 10 * NS_PER_S
LEAST_BANDWIDTH, MOST_BANDWIDTH = 1_000, 1 << 40
MOST_UNDER_WAY = 2048
"""Frames that one direction holds, queued or on the wire; more are lost."""
MAX_SENT = 1 << 62
_DRAWS = struct.Struct("<4Q")
_ONE = 1 << 64


@dataclass(frozen=True, kw_only=True)
class Link:
    """What a cable does to frames, in each direction.

    ``latency`` is how long a frame travels, in seconds, at least 50 us. ``bandwidth`` in bits per second has frames
    queue for the wire; without it they take no time to be sent. ``loss``, ``duplicate`` and ``reorder`` are the shares
    of frames (0 to 1) that are lost, that come twice, and that are held back, by up to ``hold`` seconds, so that later
    ones pass them; ``hold`` is four latencies unless said otherwise. Raises `ConfigError`.
    """

    latency: float = 0.0001
    bandwidth: float | None = None
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    hold: float | None = None

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder"):
            share = getattr(self, name)
            if not _is_number(share) or not 0 <= share <= 1:
                raise ConfigError(f"{name}={share!r}: give the share of frames, from 0 to 1.")
        if not _is_number(self.latency) or not LEAST_LATENCY_NS <= nanoseconds(self.latency) <= MOST_LATENCY_NS:
            raise ConfigError(
                f"latency={self.latency!r}: give seconds, from {LEAST_LATENCY_NS / NS_PER_S} (50 us) to "
                f"{MOST_LATENCY_NS // NS_PER_S}. Machines wait for each other as often as the shortest link takes."
            )
        if self.bandwidth is not None and not (
            _is_number(self.bandwidth) and LEAST_BANDWIDTH <= self.bandwidth <= MOST_BANDWIDTH
        ):
            raise ConfigError(
                f"bandwidth={self.bandwidth!r}: give bits per second, from 1,000 on, or None for no limit."
            )
        if self.hold is not None and not (_is_number(self.hold) and 0 < nanoseconds(self.hold) <= MOST_LATENCY_NS):
            raise ConfigError(f"hold={self.hold!r}: give seconds, up to {MOST_LATENCY_NS // NS_PER_S}.")

    @cached_property
    def latency_ns(self) -> int:
        """`latency` in nanoseconds. (It is asked for a dozen times for each frame.)"""
        return nanoseconds(self.latency)

    @property
    def hold_ns(self) -> int:
        """The longest that a frame is held back, in nanoseconds."""
        return 4 * self.latency_ns if self.hold is None else nanoseconds(self.hold)

    def wire_ns(self, size: int) -> int:
        """How long a frame of so many bytes has the wire for itself."""
        return 0 if self.bandwidth is None else (size + OVERHEAD) * 8 * NS_PER_S // int(self.bandwidth)


@record
class DirectionState:
    """When the wire is free again, how many frames have been sent, and when those under way arrive."""

    free_ns: int = time_ns()
    sent: int = number(0, MAX_SENT)
    lost: int = number(0, MAX_SENT)
    under_way: list[int] = numbers(2 * MOST_UNDER_WAY, 0, 1 << 62)


class Direction:
    """One way through a cable."""

    def __init__(self, link: Link, seed: str) -> None:
        self.link = link
        self._key = hashlib.blake2b(seed.encode(), digest_size=32).digest()
        self.state = DirectionState()

    def send(self, now_ns: int, size: int) -> list[int]:
        """A frame of ``size`` bytes is sent at this time, which is no earlier than that of the last one; when it
        arrives: once, twice, or never.
        """
        link, state = self.link, self.state
        state.sent += 1
        while state.under_way and state.under_way[0] <= now_ns:
            heapq.heappop(state.under_way)
        if len(state.under_way) >= MOST_UNDER_WAY:
            state.lost += 1
            return []
        begin = max(now_ns, state.free_ns)
        state.free_ns = begin + link.wire_ns(size)
        arrival = state.free_ns + link.latency_ns
        lost, twice, held, by = self._draws(state.sent)
        if lost < link.loss * _ONE:
            state.lost += 1
            return []
        if held < link.reorder * _ONE:
            arrival += 1 + link.hold_ns * by // _ONE
        arrivals = [arrival, arrival + max(link.wire_ns(size), 1)] if twice < link.duplicate * _ONE else [arrival]
        for one in arrivals:
            heapq.heappush(state.under_way, one)
        return arrivals

    def _draws(self, frame: int) -> tuple[int, int, int, int]:
        digest = hashlib.blake2b(frame.to_bytes(8, "little"), key=self._key, digest_size=_DRAWS.size).digest()
        return _DRAWS.unpack(digest)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


__all__ = ["Direction", "DirectionState", "Link"]
