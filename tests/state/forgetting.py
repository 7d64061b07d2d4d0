"""Records one field at a time: what a part of a machine must put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Protocol

from hypervisor import state as s
from hypervisor.errors import ConfigError, DeviceError
from hypervisor.state.kinds import Kind, Number, Part, Parts, Words
from hypervisor.state.record import kinds
from tests.state.test_records import value as any_value

Path = tuple[str | int, ...]
"""The way to a field: names of fields, numbers in lists of records, and, behind a dict's name, a key."""

TRIES = 5000
"""Values of a field that may be refused, because they do not fit to the others, before it counts as a mistake."""

FITS = {"position": ("buffer", "end")}
"""Fields that fit to others only."""


class Stateful(Protocol):
    def state(self) -> Any: ...
    def restore(self, state: Any) -> object: ...


def fields(r: Any, at: Path = ()) -> Iterator[tuple[Path, Kind]]:
    """Every field of a record and of those within it, with its kind; of a dict that is not empty every key."""
    for name, kind in kinds(type(r)).items():
        value = getattr(r, name)
        if isinstance(kind, Part):
            yield from fields(value, (*at, name))
        elif isinstance(kind, Parts):
            for n, one in enumerate(value):
                yield from fields(one, (*at, name, n))
        elif isinstance(kind, Words) and value:
            for key in value:
                yield (*at, name, key), Number(kind.low, kind.high)
        else:
            yield (*at, name), kind


def get(r: Any, path: Path) -> Any:
    for step in path:
        r = r[step] if isinstance(step, int) or isinstance(r, dict) else getattr(r, step)
    return r


def put(r: Any, path: Path, value: Any) -> None:
    owner, last = get(r, path[:-1]), path[-1]
    if isinstance(owner, dict):
        owner[last] = value
    else:
        setattr(owner, str(last), value)


def is_put_back(
    part: Stateful, twin: Stateful, path: Path, kind: Kind, rng: Random, leave_out: Callable[[Path], bool]
) -> bool:
    """Whether a field of ``part`` has another value that ``twin`` takes; if so it must come out again as it is."""
    for _ in range(TRIES):
        state = s.copied(part.state())
        before = get(state, path)
        put(state, path, any_value(kind, rng))
        near = {} if isinstance(get(state, path[:-1]), dict) else dict(fields(get(state, path[:-1])))
        near = {
            name: theirs
            for name, theirs in near.items()
            if len(name) == 1 and name != path[-1:] and not leave_out(name)
        }
        others = set(rng.sample(sorted(near), rng.randint(0, min(len(near), 3))))  # which may have to fit to it
        for other in sorted(others | {(name,) for name in FITS.get(str(path[-1]), ())} & near.keys()):
            put(state, (*path[:-1], *other), any_value(near[other], rng))
        if get(state, path) == before:
            continue
        try:
            twin.restore(s.copied(state))
        except (DeviceError, ConfigError):
            continue
        now = twin.state()
        wrong = [other for other, _ in fields(state) if get(now, other) != get(state, other)]
        assert now == state, f"{wrong} was not put back"
        is_still = getattr(twin, "is_still", None)
        if is_still is not None:
            theirs = part.state()
            assert is_still(now) and is_still(theirs) is (theirs == now), f"{path} is not asked for"
        return True
    return False


def not_put_back(part: Stateful, twin: Stateful, rng: Random, leave_out: Callable[[Path], bool]) -> list[Path]:
    """The fields of which no other value is taken; raises AssertionError for one that does not come out again."""
    found = [(path, kind) for path, kind in fields(part.state()) if not leave_out(path)]
    return [path for path, kind in found if not is_put_back(part, twin, path, kind, rng, leave_out)]
