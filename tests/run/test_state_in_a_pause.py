"""A machine's state is taken while its run is paused."""

from __future__ import annotations

import threading
import time

import pytest

import hypervisor as hv
from tests.core.bare import bare


def test_a_run_that_is_not_paused_has_no_state() -> None:
    with bare("again: inc rbx; jmp again") as vm:
        vm.start()
        with pytest.raises(hv.ConfigError, match="is running already"):
            vm.state()
        with vm.paused():
            vm.state()
            with pytest.raises(hv.ConfigError, match="is running already"):
                vm.restore(vm.state())
        vm.stop()


def test_nobody_else_resumes_a_run_whose_state_is_taken() -> None:
    """Each state is of one moment, though others let the run go on all the time."""
    code = "again: inc rbx; mov [0x80000], rbx; jmp again"
    with bare(code) as vm:
        vm.start()
        over = threading.Event()

        def resumes() -> None:
            while not over.is_set():
                vm.resume()

        thread = threading.Thread(target=resumes)
        thread.start()
        end_at = time.monotonic() + 1.0
        taken = 0
        while time.monotonic() < end_at or taken < 5:
            with vm.paused():
                before = vm.clock.now_ns, vm.vcpu.rbx
                vm.state()
                assert (vm.clock.now_ns, vm.vcpu.rbx) == before
                taken += 1
        over.set()
        thread.join()
        vm.stop()
