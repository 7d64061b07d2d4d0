"""Every field of a device's state is put back, and comes out again: none is forgotten by `restore` or by `state`."""

from __future__ import annotations

from random import Random

import pytest

from tests.devices.test_contract import DEVICES, Bench
from tests.state.forgetting import not_put_back

FOLLOWS = {
    ("ioapic", "levels"): "while nothing is unmasked the inputs are what the wires say",
    ("i440fx", "config"): "most of its bits cannot be written",
    ("piix3", "config"): "most of its bits cannot be written",
    ("piix3-ide", "config"): "most of its bits cannot be written",
    ("piix4-pm", "config"): "most of its bits cannot be written",
}
"""Fields that cannot be anything, and why; `test_contract` walks through what they can be."""


@pytest.mark.parametrize("name", DEVICES)
def test_every_field_of_a_state_is_put_back(name: str) -> None:
    maker, _ = DEVICES[name]
    bench = Bench()
    device, twin = maker(bench), maker(bench)
    left = not_put_back(device, twin, Random(name), lambda path: (device.name, path[-1]) in FOLLOWS)
    assert not left, f"no other value of {left} is taken"
