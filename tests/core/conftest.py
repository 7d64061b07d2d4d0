"""Fixtures of tests about VMs that queue for pCPUs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.run.sharing import scheduler
from tests.core.bare import bare
from tests.core.queueing import threads_of


@pytest.fixture
def slices(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_to(seconds: float) -> None:
        monkeypatch.setattr(scheduler, "SLICE_S", seconds)

    return set_to


@pytest.fixture
def hog() -> Iterator[tuple[hv.Host, threading.Event]]:
    """A host whose one pCPU is kept by a handler until the event is set."""
    with hv.Host("16M", 1) as host, bare("vmmcall; hlt", host=host) as vm:
        inside, released = threading.Event(), threading.Event()

        @vm.traps.hypercall()
        def keeps(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            vcpu.rip += exit.length
            inside.set()
            assert released.wait(60)
            return hv.HANDLED

        thread = threads_of([vm.run])[0]
        assert inside.wait(60)
        yield host, released
        released.set()
        thread.join()
