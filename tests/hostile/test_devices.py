"""Each device of the board bears random operations; ``python -m tests.hostile.devices`` is the long form."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import hypervisor as hv
from tests.hostile.device_programs import PROGRAMS
from tests.hostile.devices import Machine, names, operate


@pytest.fixture(scope="module")
def host() -> Iterator[hv.Host]:
    with hv.Host("16M", 1) as made:
        yield made


def test_a_thousand_operations_on_each_device(host: hv.Host) -> None:
    found = names(host)
    assert PROGRAMS.keys() <= set(found) and len(found) >= 36
    problems = [one.problem for device in found if (one := operate(host, device, 1000, seed=3)).problem]
    assert not problems, "\n".join(problems)


@pytest.mark.stress
def test_a_million_operations_on_each_device(host: hv.Host) -> None:
    problems = [one.problem for device in names(host) if (one := operate(host, device, 1_000_000, seed=4)).problem]
    assert not problems, "\n".join(problems)


def test_what_a_device_raises_is_told_with_its_operation(host: hv.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(machine: Machine) -> tuple[str, object]:
        return "breaking", lambda: 1 // 0

    monkeypatch.setattr(Machine, "_pass_time", breaks)
    outcome = operate(host, "rtc", 1000, seed=3)
    assert "ZeroDivisionError" in outcome.problem and "breaking" in outcome.problem
    assert f"--seed 3 --device rtc --operations {outcome.operations}" in outcome.problem
