"""What a disk may do in a second of its machine's time, and what it is made to do wrong, for tests.

Limits are token buckets, kept as the time at which each is empty: a command begins when all that was allowed to the
ones before it is over, so over any time a guest gets what was said, whatever it asks for. What goes wrong is drawn from
the seed and the command's number, so a machine that goes on, or goes back, has the same faults again.
"""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass

from hypervisor.errors import ConfigError
from hypervisor.state import number, record, time_ns
from hypervisor.units import NS_PER_S, nanoseconds, parse_size

MOST_DELAY_S = 60.0
LEAST_BANDWIDTH, LEAST_IOPS, MOST_IOPS = 4096, 0.1, 1e9
_ONE = 1 << 64


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


@record
class PaceState:
    """When the disk has done what it was allowed, by bytes and by commands; and how many commands there were."""

    bytes_done: int = time_ns()
    commands_done: int = time_ns()
    issued: int = number(0, 1 << 62)


@dataclass(frozen=True, kw_only=True)
class DiskLimits:
    """``bandwidth`` in bytes a second (a number, or text such as ``"10M"``), ``iops`` commands a second; ``delay``
    seconds, up to which each command is delayed by chance; ``read_errors`` and ``write_errors``, the shares of commands
    (0 to 1) that fail, as ``seed`` says. All in virtual time, or the wall clock's if the machine follows that. Raises
    `ConfigError`.
    """

    bandwidth: str | int | None = None
    iops: float | None = None
    delay: float = 0.0
    read_errors: float = 0.0
    write_errors: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bandwidth is not None and (
            not isinstance(self.bandwidth, (str, int)) or parse_size(self.bandwidth) < LEAST_BANDWIDTH
        ):
            raise ConfigError(f"bandwidth={self.bandwidth!r}: give bytes a second, {LEAST_BANDWIDTH} at least.")
        if self.iops is not None and not (_is_number(self.iops) and LEAST_IOPS <= self.iops <= MOST_IOPS):
            raise ConfigError(f"iops={self.iops!r}: give commands a second, {LEAST_IOPS} at least.")
        if not (_is_number(self.delay) and 0 <= self.delay <= MOST_DELAY_S):
            raise ConfigError(f"delay={self.delay!r}: give seconds, up to {MOST_DELAY_S:g}.")
        for name in ("read_errors", "write_errors"):
            share = getattr(self, name)
            if not (_is_number(share) and 0 <= share <= 1):
                raise ConfigError(f"{name}={share!r}: give the share of commands, from 0 to 1.")
        if not isinstance(self.seed, int):
            raise ConfigError(f"seed={self.seed!r}: a whole number is needed.")

    @property
    def limited(self) -> bool:
        """Whether anything is other than with an ordinary disk."""
        return self != DiskLimits(seed=self.seed)

    def begin(self, state: PaceState, now_ns: int, size: int) -> int:
        """A command for ``size`` bytes comes; in how many nanoseconds it may begin."""
        state.issued += 1
        start = now_ns
        if self.bandwidth is not None and size:
            start = max(start, state.bytes_done)
            state.bytes_done = max(now_ns, state.bytes_done) + size * NS_PER_S // parse_size(self.bandwidth)
        if self.iops is not None:
            start = max(start, state.commands_done)
            state.commands_done = max(now_ns, state.commands_done) + int(NS_PER_S / self.iops)
        if self.delay:
            start += nanoseconds(self.delay) * self._draw(state, "delay") // _ONE
        return start - now_ns

    def check(self, state: PaceState, *, writes: bool) -> None:
        """Raises `OSError` if the command that has begun is to fail."""
        share, what = (self.write_errors, "write") if writes else (self.read_errors, "read")
        if share and self._draw(state, what) < share * _ONE:
            raise OSError(errno.EIO, f"{what} error number {state.issued} of the seed {self.seed}")

    def _draw(self, state: PaceState, what: str) -> int:
        text = f"{self.seed} {what} {state.issued}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


UNLIMITED = DiskLimits()

__all__ = ["UNLIMITED", "DiskLimits", "PaceState"]
