"""``--timeout`` counts from before the image is loaded."""

from __future__ import annotations

import time

from hypervisor.cli.run_command import MOMENT, time_left
from tests.cli.fakes import FakeVm, ends


def test_loading_counts() -> None:
    vm = FakeVm(ends())
    vm.began = time.monotonic() - 3
    left = time_left(5.0, vm)  # type: ignore[arg-type]
    assert left is not None and MOMENT < left <= 2
    vm.began -= 100
    assert time_left(5.0, vm) == MOMENT  # type: ignore[arg-type]
    assert time_left(None, vm) is None  # type: ignore[arg-type]
