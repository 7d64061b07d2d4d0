"""Unicorn instances that come and go."""

from __future__ import annotations

import pytest

from hypervisor.engine.frame_kernels import frame_kernels
from hypervisor.engine.instance import guest_mode
from hypervisor.engine.interposition.interpose import guard
from hypervisor.engine.pcpu import PCpu
from hypervisor.errors import EngineError
from hypervisor.memory import HostMemory


@pytest.mark.parametrize("problem", [EngineError, KeyboardInterrupt])
def test_an_engine_that_does_not_come_to_be_is_guarded_no_more(
    monkeypatch: pytest.MonkeyPatch, problem: type[BaseException]
) -> None:
    """The guard's table has addresses of blocks, and is read whenever the process is about to end."""

    def enter(*_: object) -> None:
        assert list(guard()._table) != before
        raise problem

    before = list(guard()._table)
    monkeypatch.setattr(guest_mode, "enter", enter)
    with pytest.raises(problem):
        PCpu(HostMemory(1 << 20, frame_kernels()))
    assert list(guard()._table) == before
