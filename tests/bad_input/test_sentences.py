"""Each mistake gets its sentence, and nothing is left running afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.errors import (
    ImageError,
    PluginError,
)
from tests.bad_input import booting, handling, running
from tests.bad_input.cases import HALT, Case

CASES = (*booting.CASES, *handling.CASES, *running.CASES)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_the_sentence(case: Case, tmp_path: Path) -> None:
    with pytest.raises(case.error) as caught:
        case.do(tmp_path)
    assert case.sentence in str(caught.value)


def test_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 25


def test_running_twice_goes_on() -> None:
    """Not an error: a run that ended on a condition continues, and one that cannot go on ends in the same way."""
    with hv.boot(HALT, memory="4M") as vm:
        assert [vm.run(timeout=20).reason for _ in range(2)] == [hv.Reason.HALTED] * 2


def test_a_failed_boot_gives_its_memory_back() -> None:
    with hv.Host("8M") as host:
        for _ in range(20):
            with pytest.raises(ImageError):
                host.create_vm(b"garbage" * 100, memory="8M")
            with pytest.raises(PluginError):
                host.create_vm(HALT, memory="8M", plugins=[booting.Raising])
        assert host.memory.free == 8 << 20
        assert host.create_vm(HALT, memory="8M").run(timeout=20).reason is hv.Reason.HALTED
