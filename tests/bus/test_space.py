"""Which device answers at an address, against a model that holds one for each address."""

from __future__ import annotations

import random

import pytest

from hypervisor.bus import AddressSpace
from hypervisor.devices.parts.device_state import Stateless
from hypervisor.errors import DeviceError

LIMIT = 64


class Named(Stateless):
    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, offset: int, size: int) -> int:
        return offset

    def write(self, offset: int, size: int, value: int) -> None:
        raise AssertionError("nobody writes here")


@pytest.mark.parametrize("seed", range(20))
def test_devices_come_and_go(seed: int) -> None:
    rng = random.Random(seed)
    space, model = AddressSpace("ports", LIMIT), dict[int, tuple[Named, int]]()
    devices = [Named(f"device {number}") for number in range(6)]
    for _ in range(200):
        device, start = rng.choice(devices), rng.randrange(LIMIT)
        where = range(start, min(start + rng.randrange(1, 12), LIMIT))
        action = rng.choice(["attach", "replace", "detach", "find", "find"])
        if action == "detach":
            space.detach(device)
            model = {address: found for address, found in model.items() if found[0] is not device}
        elif action == "attach" and any(address in model for address in where):
            with pytest.raises(DeviceError, match="overlaps"):
                space.attach(device, where)
        elif action != "find":
            space.attach(device, where, replace=action == "replace")
            model |= {address: (device, where.start) for address in where}
        for address in rng.choices(range(LIMIT), k=8):
            mapping = space.find(address)
            assert (None if mapping is None else (mapping.device, mapping.base)) == model.get(address)
        for start in rng.choices(range(LIMIT), k=4):
            end = start + rng.randrange(1, 9)
            assert space.occupied(start, end) == any(address in model for address in range(start, end))


def test_what_follows_from_many_changes_is_done_once() -> None:
    space, done = AddressSpace("ports", LIMIT), list[str]()

    def rebuilt() -> None:
        done.append("rebuilt")
        space.follow(told)

    def told() -> None:
        done.append(f"told of {len(list(space))}")

    space.follow(told)
    with space.changing():
        for start in range(3):
            space.attach(Named("device"), range(start, start + 1))
            space.follow(rebuilt)
            with space.changing():  # the inner one is part of the outer one
                space.follow(told)
        assert done == ["told of 0"]
    assert done[1:].count("rebuilt") == 1 and done[-1] == "told of 3"
    done.clear()
    with pytest.raises(DeviceError), space.changing():
        space.follow(told)
        space.attach(Named("device"), range(0, 1))
    assert done == ["told of 3"]
    space.follow(told)  # the block has ended, and nothing waits any more
    assert done == ["told of 3"] * 2
