"""Handlers that do not return, of runs in the background: asked first, then ended by an exception; named in C."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import hypervisor as hv
from hypervisor.run.threads import interrupting
from tests.core.bare import bare

LOOP = "again: inc rbx; jmp again"
NAMED = "stopped by the host, and handler 'stuck' had not returned"


def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit, "it never came so far"
        time.sleep(0.0005)


def endless(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
    while True:
        time.sleep(0.001)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interrupting, "GRACE_S", 1e6)
    yield


def _stuck(vm: hv.VM) -> None:
    vm.traps.hypercall(endless, name="stuck")
    vm.start()
    until(lambda: vm.busy_in == "handler 'stuck'")


def test_the_second_stop_ends_it(patient: None) -> None:
    with bare("vmmcall; hlt") as vm:
        _stuck(vm)
        with pytest.raises(hv.TrapError, match="handler 'stuck' of the VM bare has not returned"):
            vm.stop(timeout=0.05)
        result = vm.stop()
        assert result is not None and (result.reason, result.message) == (hv.Reason.STOPPED, NAMED)
        assert vm.busy_in == ""


def test_one_stop_is_enough_for_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupting, "GRACE_S", 0.05)
    with bare("vmmcall; hlt") as vm:
        _stuck(vm)
        result = vm.stop()
        assert result is not None and result.message == NAMED


def test_a_timeout_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupting, "GRACE_S", 0.05)
    with bare("vmmcall; hlt") as vm:
        vm.traps.hypercall(endless, name="stuck")
        vm.start(timeout=0.3)
        until(lambda: vm.result)
        assert vm.result is not None and vm.result.reason is hv.Reason.TIMEOUT
        assert vm.result.message == "0.3 s of host time are over, and handler 'stuck' had not returned"


def test_its_pcpu_goes_on_with_other_vms(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raised in its thread reaches nothing else that this executes."""
    monkeypatch.setattr(interrupting, "GRACE_S", 0.0)
    before = set(threading.enumerate())  # of hosts that other tests have not closed
    with hv.Host("16M", 1) as host, bare(LOOP, host=host) as other:
        other.start()
        for _ in range(20):
            with bare("vmmcall; hlt", host=host) as vm:
                _stuck(vm)
                result = vm.stop()
                assert result is not None and result.message == NAMED
        result = other.stop()
        assert result is not None and result.message == "stopped by the host"

        def few() -> bool:
            other.start()  # who was replaced, and waits, ends when it is woken
            other.stop()
            return sum(one.name == "hypervisor-pcpu0" for one in set(threading.enumerate()) - before) <= 1

        until(few)


def test_one_in_c_is_named_and_the_vm_is_let_go_when_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupting, "GRACE_S", 0.01)
    released = threading.Lock()
    released.acquire()
    with bare("vmmcall; hlt") as vm:

        @vm.traps.hypercall()
        def in_c(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            released.acquire()
            return hv.HANDLED

        vm.start()
        until(lambda: vm.busy_in)
        for attempt in (vm.stop, vm.stop):
            with pytest.raises(hv.TrapError, match="handler 'in_c' of the VM bare has not returned, and no exception"):
                attempt(timeout=0.1)
        with pytest.raises(hv.ConfigError, match="is running already"):
            vm.run()
        released.release()
        result = vm.wait(60)
        assert result is not None and result.message == "stopped by the host, and handler 'in_c' had not returned"


TWICE = """
import os, signal, sys, time, hypervisor as hv
from hypervisor.run.threads import interrupting
interrupting.GRACE_S = 1e6
signal.signal(signal.SIGINT, signal.default_int_handler)
def stuck(vcpu, exit):
    print("begun", flush=True)
    try:
        while True:
            time.sleep(0.001)
    except KeyboardInterrupt:
        print("ended", flush=True)
        raise
vm = hv.boot("hello", memory="16M")
vm.traps.execute(0x7C00)(stuck)
try:
    vm.run()
except KeyboardInterrupt:
    print(vm.result.message)
    vm.close()
    print("closed")
"""


def test_the_second_ctrl_c_ends_it() -> None:
    with subprocess.Popen([sys.executable, "-c", TWICE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)  # it is let finish what it does
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert rest == "ended\nKeyboardInterrupt while the guest ran, and handler 'stuck' had not returned\nclosed\n"
