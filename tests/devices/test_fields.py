"""Every field of a device's state is put back, and comes out again: none is forgotten by `restore` or by `state`."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from hypervisor import state as s
from hypervisor.errors import DeviceError
from hypervisor.state.kinds import Part, Parts
from hypervisor.state.record import kinds
from tests.devices.test_contract import DEVICES, Bench
from tests.state.test_records import value as any_value

Path = tuple[str | int, ...]

TRIES = 5000
"""Values of a field that a device may refuse, because they do not fit to the others, before it is asked why."""


def fields(r: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every field of a record and of those within it, with its kind."""
    for name, kind in kinds(type(r)).items():
        value = getattr(r, name)
        if isinstance(kind, Part):
            yield from fields(value, (*at, name))
        elif isinstance(kind, Parts):
            for n, one in enumerate(value):
                yield from fields(one, (*at, name, n))
        else:
            yield (*at, name), kind


def get(r: Any, path: Path) -> Any:
    for step in path:
        r = r[step] if isinstance(step, int) else getattr(r, step)
    return r


def put(r: Any, path: Path, value: Any) -> None:
    setattr(get(r, path[:-1]), str(path[-1]), value)


FOLLOWS = {
    ("ioapic", "levels"): "while nothing is unmasked the inputs are what the wires say",
    ("i440fx", "config"): "most of its bits cannot be written",
    ("piix3", "config"): "most of its bits cannot be written",
    ("piix3-ide", "config"): "most of its bits cannot be written",
    ("piix4-pm", "config"): "most of its bits cannot be written",
}
"""Fields that cannot be anything, and why; `test_contract` walks through what they can be."""


FITS = {"position": ("buffer", "end")}
"""Fields that fit to others only."""


@pytest.mark.parametrize("name", DEVICES)
def test_every_field_of_a_state_is_put_back(name: str) -> None:
    maker, _ = DEVICES[name]
    bench, rng = Bench(), Random(name)
    device, twin = maker(bench), maker(bench)
    if not s.is_record(type(device.state())):
        pytest.fail(f"the state of {name} is no record")
    for path, kind in fields(device.state()):
        if (device.name, path[-1]) not in FOLLOWS:
            assert _is_put_back(device, twin, path, kind, rng), f"no other value of {path} is taken"


def _is_put_back(device: Any, twin: Any, path: Path, kind: Any, rng: Random) -> bool:
    for _ in range(TRIES):
        state = device.state()
        before = get(state, path)
        put(state, path, any_value(kind, rng))
        near = dict(fields(get(state, path[:-1])))
        del near[path[-1:]]
        others = set(rng.sample(sorted(near), rng.randint(0, min(len(near), 3))))  # which may have to fit to it
        for other in sorted(others | {(name,) for name in FITS.get(str(path[-1]), ())} & near.keys()):
            put(state, (*path[:-1], *other), any_value(near[other], rng))
        if get(state, path) == before:
            continue
        try:
            twin.restore(s.copied(state))
        except DeviceError:
            continue
        assert twin.state() == state, f"{path} was not put back"
        return True
    return False
