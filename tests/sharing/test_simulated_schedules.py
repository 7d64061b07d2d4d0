"""Schedules as text: what each policy does with workloads that are data.

A row for each VM: the pCPU that it is on, - while it waits for one, . while it wants none. What is compared is read
first; ``python -m tests.sharing.simulated`` prints all of them.
"""

from __future__ import annotations

import pytest

from tests.sharing.scenes import SCENES


@pytest.mark.parametrize("name", SCENES)
def test_a_schedule_is_the_one_that_was_read(name: str) -> None:
    scene = SCENES[name]
    assert scene.text() == scene.expected.removeprefix("\n")
