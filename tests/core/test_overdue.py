"""The timeout of a run counts inside handlers, devices and conditions, too."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.devices.parts.device_state import Stateless
from hypervisor.run.threads import interrupting
from tests.core.bare import bare

PORT = 0x300
CODE = f"mov dx, {PORT:#x}; in al, dx; vmmcall; hlt"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupting, "GRACE_S", 0.05)


def endless(*arguments: Any) -> Any:
    while True:
        time.sleep(0.001)


class Endless(Stateless):
    name = "endless"

    def read(self, offset: int, size: int) -> int:
        return int(endless())

    def write(self, offset: int, size: int, value: int) -> None:
        endless()


STUCK: dict[str, tuple[Callable[[hv.VM], object], dict[str, Any]]] = {
    "handler 'stuck'": (lambda vm: vm.traps.hypercall(endless, name="stuck"), {}),
    "handler 'watch'": (lambda vm: vm.traps.hypercall(endless, name="watch", mode="observe"), {}),
    "handler 'port'": (lambda vm: vm.traps.port_in(PORT, endless, name="port"), {}),
    "device 'endless'": (lambda vm: vm.attach(Endless(), ports=range(PORT, PORT + 1)), {}),
    "until=endless": (lambda vm: None, {"until": endless}),
    "endless()": (lambda vm: vm.clock.call_at(vm.clock.now_ns, endless), {}),
}


def run_into_it(vm: hv.VM, **options: Any) -> hv.RunResult:
    """A run that ends while something is stuck: on a slow host time may be over before the guest has come there."""
    while (result := vm.run(timeout=0.1, **options)).message == "0.1 s of host time are over":
        pass
    return result


@pytest.mark.parametrize("whose", STUCK)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["main", "thread"])
def test_what_does_not_return_ends_with_the_timeout(whose: str, elsewhere: bool) -> None:
    setup, options = STUCK[whose]
    results: list[hv.RunResult] = []
    with bare(CODE) as vm:
        setup(vm)
        thread = threading.Thread(target=lambda: results.append(run_into_it(vm, **options)))
        if elsewhere:
            thread.start()
            thread.join(30)
        else:
            thread.run()
        (result,) = results
        assert result.reason is hv.Reason.TIMEOUT and result.crash is None
        assert result.message == f"0.1 s of host time are over, and {whose} had not returned"
        assert vm.runner is None and vm.busy_in == ""


def test_the_vm_can_go_on_behind_it() -> None:
    with bare(CODE) as vm:
        vm.traps.hypercall(endless, name="stuck")
        assert run_into_it(vm).reason is hv.Reason.TIMEOUT
        vm.traps.replace("stuck", lambda vcpu, exit: hv.HANDLED)
        assert vm.run(timeout=20).reason is hv.Reason.HALTED


def test_one_that_catches_everything_is_asked_again() -> None:
    caught: list[BaseException] = []

    def stubborn(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        while len(caught) < 3:
            try:
                endless()
            except BaseException as error:
                caught.append(error)
        return hv.HANDLED

    with bare(CODE) as vm:
        vm.traps.hypercall(stubborn)
        while not caught:
            result = vm.run(timeout=0.1)
    assert result.reason is hv.Reason.TIMEOUT and [type(error) for error in caught] == [interrupting.Overdue] * 3


def test_one_that_returns_a_little_late_is_let_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupting, "GRACE_S", 30.0)
    finished: list[int] = []

    def late(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        time.sleep(0.2)
        finished.append(1)
        return hv.HANDLED

    with bare("vmmcall; l: jmp l", rflags=0x202) as vm:
        vm.traps.hypercall(late)
        while not finished:
            result = vm.run(timeout=0.1)
    assert finished == [1] and result.message == "0.1 s of host time are over"


def test_a_guest_that_does_not_return_is_no_handler() -> None:
    with bare("l: inc eax; jmp l") as vm:
        vm.traps.hypercall(endless)
        assert vm.run(timeout=0.3).message == "0.3 s of host time are over"


def test_it_can_be_asked_who_holds_up_the_guest() -> None:
    goes_on, seen = threading.Event(), []

    def waits(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        goes_on.wait(20)
        return hv.HANDLED

    with bare(CODE) as vm:
        vm.traps.hypercall(waits)
        thread = threading.Thread(target=vm.run)
        thread.start()
        deadline = time.monotonic() + 20
        while not seen and time.monotonic() < deadline:
            if busy := vm.busy_in:
                seen.append(busy)
        goes_on.set()
        thread.join(20)
    assert seen == ["handler 'waits'"]


TRACED = """
import sys, time
import hypervisor as hv
from hypervisor.run.threads import interrupting
interrupting.GRACE_S = 0.05
def stuck(vcpu, exit):
    while True:
        time.sleep(0.001)
for timeout, reason in ((20, "halted"), (0.05, "timeout")):
    setup = lambda vm: vm.traps.hypercall(stuck) if timeout < 1 else None
    result = hv.run_asm("vmmcall; hlt" if timeout < 1 else "hlt", setup=setup, timeout=timeout)
    assert result.reason.value == reason, result
    sys.settrace(lambda *arguments: None)
    (lambda: None)()
    sys.settrace(None)
print("fine")
"""


def test_a_run_leaves_no_exception_on_its_way() -> None:
    """CPython 3.11 looks for one before every jump and call until it is taken, and never enters a traced function."""
    run = subprocess.run([sys.executable, "-c", TRACED], timeout=60, capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("fine\n", "")
