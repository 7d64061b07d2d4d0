"""A process that forks: hosts that run nothing go on in the child, each for itself; others stay the parent's."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable

import pytest

import hypervisor as hv
from tests.core.bare import bare

WORK = "mov ecx, 100000; again: inc rax; dec ecx; jnz again; hlt"
LOOP = "again: inc rbx; jmp again"
PARENTS = "The host was running VMs when this process was forked, and only the parent goes on with them"


def in_a_child(function: Callable[[], None]) -> None:
    """Call it in a forked process, which must do it without an error."""
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_host_that_runs_nothing_is_the_childs_too() -> None:
    with hv.Host("8M", 2) as host, bare(WORK, host=host) as vm:
        assert vm.run(virtual_timeout=1e-4).reason is hv.Reason.VIRTUAL_TIMEOUT

        def goes_on() -> None:
            vm.start(timeout=60)
            result = vm.wait(60)
            assert result is not None and result.rax == 100000
            with bare(WORK, host=host) as other:
                assert other.run(timeout=60).rax == 100000
            vm.close()
            host.close()
            assert threading.active_count() == 1

        for _ in range(3):
            in_a_child(goes_on)
        assert vm.run(timeout=60).rax == 100000


def test_a_host_that_runs_vms_stays_the_parents() -> None:
    with hv.Host("8M", 1) as host, bare(LOOP, host=host) as vm, bare(LOOP, host=host) as paused:
        vm.start()
        paused.start()
        assert paused.pause()

        def is_told() -> None:
            for function in (vm.run, paused.wait, host.create_vm):
                with pytest.raises(hv.ConfigError, match=PARENTS):
                    function()
            vm.close()
            host.close()
            assert hv.run_asm("hlt").reason is hv.Reason.HALTED

        in_a_child(is_told)
        for one in (vm, paused):
            result = one.stop()
            assert result is not None and result.message == "stopped by the host"


def test_a_handler_forks() -> None:
    with bare("vmmcall; hlt") as vm:

        @vm.traps.hypercall()
        def forks(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            in_a_child(lambda: None)
            return hv.HANDLED

        assert vm.run(timeout=60).reason is hv.Reason.HALTED
