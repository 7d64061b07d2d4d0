"""Who may run a VM, and for how long."""

from __future__ import annotations

import threading
import time

import pytest

import hypervisor as hv
from hypervisor.errors import ConfigError
from tests.core.bare import bare


def test_two_threads_cannot_run_a_vm_at_once() -> None:
    with bare("a: jmp b\nb: jmp a") as vm:
        inside, errors = threading.Barrier(3), []

        def run() -> None:
            inside.wait()
            try:
                vm.run(timeout=30, virtual_timeout=0.3)
            except ConfigError as error:
                errors.append(str(error))

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        inside.wait()
        for thread in threads:
            thread.join()
        assert len(errors) == 1
        assert "is running already: one run at a time" in errors[0]
        assert vm.run(timeout=30, virtual_timeout=0.01).reason is hv.Reason.VIRTUAL_TIMEOUT  # and then it runs again


def test_a_run_that_was_refused_does_not_keep_others_out() -> None:
    with bare("hlt") as vm:
        with pytest.raises(ConfigError):
            vm.run(until=5)
        assert vm.run(timeout=10).reason is hv.Reason.HALTED


def test_a_timeout_is_kept_where_a_handler_takes_long_for_little_guest_time() -> None:
    """20 ms of the guest's time would be 40,000 of these exits."""
    with bare("a: cpuid\njmp a") as vm:

        @vm.traps.cpuid
        def slow(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            time.sleep(0.001)
            return hv.PASS

        result = vm.run(timeout=0.2)
        assert result.reason is hv.Reason.TIMEOUT
        assert result.virtual_s < 0.02


@pytest.mark.parametrize("mode", [32, 64])
def test_code_without_an_end_ends_where_it_does(mode: int) -> None:
    result = hv.run_asm("nop", mode=mode)
    assert result.reason is hv.Reason.CRASHED and "#BP" in result.message
    assert result.rip == 0x10001 and result.exits == {"exception": 1, "shutdown": 1}


def test_a_loop_without_an_end_is_a_virtual_timeout() -> None:
    result = hv.run_asm("again: inc eax; jmp again")
    assert result.reason is hv.Reason.VIRTUAL_TIMEOUT and 0.1 <= result.virtual_s < 0.2
