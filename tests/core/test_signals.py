"""Signals, and the end of the process, while a guest runs: nothing of the guest's is lost, nothing is done twice.

Handlers of signals run on the main thread, at whatever Python code comes next; a guest that talks to devices makes
that the middle of its instructions unless it runs elsewhere.
"""

from __future__ import annotations

import contextvars
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import cast

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.run.sharing.scheduler import Candidate, RoundRobin
from hypervisor.run.threads import interrupting
from hypervisor.run.threads.waiting import Wait

ROOT = Path(__file__).parents[2]
ROUNDS = 3000
PORT = 0x80
COUNTS = f"""
    mov edi, 0
again:
    inc edi
    mov eax, edi
    out {PORT:#x}, eax
    in eax, {PORT:#x}
    add esi, eax
    mov ecx, 300
wait: dec ecx
    jnz wait
    cmp edi, {ROUNDS}
    jb again
    cli
    hlt
"""


class RingError(Exception):
    """What the handler of a signal raises."""


def _wait(frame: FrameType | None) -> Wait | None:
    """The wait for a run that this frame is part of."""
    while frame is not None:
        if frame.f_code is Wait.for_task.__code__:
            return cast(Wait, frame.f_locals["self"])
        frame = frame.f_back
    return None


@contextmanager
def ringing(seconds: float, raising: bool, progress: Callable[[], int]) -> Iterator[list[int]]:
    """A signal each so many seconds; how often it came while the guest ran. It raises only where the guest has come
    further, so that a slow host does not stand still, and once in each run, as the second would end a handler.
    """
    rings, last = [0], [0]

    def ring(number: int, frame: FrameType | None) -> None:
        wait = _wait(frame)
        if wait is not None:
            rings[0] += 1
            now = progress()
            if raising and wait.quiet and now > last[0] + 10:
                last[0] = now
                raise RingError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield rings
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("raising", [False, True])
def test_a_storm_of_signals_loses_no_access(clock: str, raising: bool) -> None:
    written: list[int] = []
    with hv.boot(assemble(COUNTS, origin=0x10000, mode=32).code, "4M", format="flat", at=0x10000, mode=32,
                 clock=clock) as vm:  # fmt: skip

        @vm.traps.port_out(PORT)
        def take(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            written.append(exit.value or 0)
            return hv.HANDLED

        @vm.traps.port_in(PORT)
        def give(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            exit.value = len(written)
            return hv.HANDLED

        with ringing(0.003, raising, lambda: len(written)) as rings:
            result = None
            while result is None:
                try:
                    result = vm.run(timeout=60)
                except RingError:
                    assert vm.result is not None
                    assert vm.result.message == "RingError while the guest ran" or vm.result.reason is hv.Reason.HALTED
        assert result.reason is hv.Reason.HALTED, result.message
        assert rings[0] > 3
        assert written == list(range(1, ROUNDS + 1))
        assert vm.vcpu.rsi == ROUNDS * (ROUNDS + 1) // 2 & 0xFFFFFFFF


@pytest.mark.parametrize("seed", range(4))
def test_two_signals_in_quick_succession_leave_no_run_behind(seed: int) -> None:
    """In a process of its own: pytest listens to what finalisers raise, and a signal may strike in those."""
    command = [sys.executable, "-m", "tests.core.two_signals", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


def test_a_signal_in_a_schedulers_code_is_not_the_schedulers_mistake() -> None:
    class Rings(RoundRobin):
        def wakes(self, vm: Candidate, running: Sequence[Candidate]) -> Candidate | None:
            if armed:
                armed.pop()
                signal.raise_signal(signal.SIGALRM)
            return super().wakes(vm, running)

    def ring(number: int, frame: FrameType | None) -> None:
        raise RingError

    armed, before = [True], signal.signal(signal.SIGALRM, ring)
    try:
        with hv.Host("16M", 1, scheduler=Rings()) as host, host.create_vm("hello", memory="4M") as vm:
            with pytest.raises(RingError):
                vm.run()
            assert vm.runner is None
            vm.reset()
            assert vm.run().reason is hv.Reason.POWERED_OFF
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_handler_that_does_not_come_back_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of it: the exception reaches the caller, and the VM is not left running."""
    monkeypatch.setattr(interrupting, "GRACE_S", 0.1)
    ended: list[str] = []
    with hv.boot(assemble("out 0x80, al; cli; hlt", origin=0x10000, mode=32).code, "4M", format="flat", at=0x10000,
                 mode=32) as vm:  # fmt: skip

        @vm.traps.port_out(PORT)
        def stuck(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            try:
                while True:
                    time.sleep(0.001)
            except BaseException as error:
                ended.append(type(error).__name__)
                raise

        main = threading.get_ident()
        timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            vm.run(timeout=60)
        timer.join()
        assert ended == ["KeyboardInterrupt"]
        assert vm.runner is None


def test_one_that_no_exception_reaches_is_named_by_the_next_signal() -> None:
    """It sits in C: the second signal's exception comes without it, and says whose code that is."""
    program = """
import signal, sys, threading, time, hypervisor as hv
from hypervisor.run.threads import interrupting
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupting.GRACE_S = 0.1
def interrupt():
    while True:
        time.sleep(0.3)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
def stuck(vcpu, exit):
    threading.Thread(target=interrupt, daemon=True).start()
    time.sleep(1000)
vm = hv.boot("hello", memory="16M")
vm.traps.execute(0x7C00)(stuck)
vm.run()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGINT
    assert "KeyboardInterrupt\nhandler 'stuck' of the VM hello has not returned; it cannot be" in done.stderr


def test_context_variables_are_the_callers() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    variable.set("the caller's")
    seen: list[str] = []
    result = hv.run_asm("vmmcall; hlt", setup=lambda vm: vm.traps.hypercall(lambda vcpu, exit: seen.append(
        variable.get()) or hv.HANDLED))  # fmt: skip
    assert result.reason is hv.Reason.HALTED, result.message
    assert seen == ["the caller's"]


@pytest.mark.parametrize("busy", ["again: inc ecx; jmp again", "again: out 0x80, al; jmp again"])
def test_the_process_may_end_while_a_thread_runs_a_guest(busy: str) -> None:
    program = f"""
import threading, time, hypervisor as hv
from hypervisor.assembler import assemble
vm = hv.boot(assemble({busy!r}, origin=0x10000, mode=32).code, "1M", format="flat", at=0x10000, mode=32)
threading.Thread(target=vm.run, daemon=True).start()
while not vm.clock.now_ns:
    time.sleep(0.001)
print("ends")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")
