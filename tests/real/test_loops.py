"""The loops of `bench.loops` go on for ever, so that what they measure is what their names say."""

from __future__ import annotations

from contextlib import closing

import pytest

import hypervisor as hv
from bench.loop_rows import ROWS, Row
from bench.loops import machine


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_loop_goes_on(row: Row) -> None:
    with closing(machine(row)) as vm:
        result = vm.run(timeout=60, virtual_timeout=5e-4)
        assert result.reason is hv.Reason.VIRTUAL_TIMEOUT, result.message
