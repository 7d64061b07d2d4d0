"""What the hand-computed deliveries look at."""

from __future__ import annotations

from .event import Kind
from .events import Delivered, Shutdown, TaskGate
from .machine import word
from .state import Memory, State

EXC, INT, INT3, EXT = Kind.EXCEPTION, Kind.SOFTWARE_INT, Kind.SOFTWARE_EXCEPTION, Kind.EXTERNAL
Result = Delivered | Shutdown | TaskGate


def delivered(result: Result) -> State:
    assert isinstance(result, Delivered), result
    return result.state


def chain(result: Result) -> list[tuple[int, int | None]]:
    return [(event.vector, event.error) for event in result.chain]


def words(memory: Memory, at: int, size: int, count: int) -> list[int]:
    return [word(memory, at + size * n, size) for n in range(count)]
