"""The queue for pCPUs, alone: fair, and whole whatever interrupts those who wait."""

from __future__ import annotations

import linecache
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.core.queueing import Interrupt, fakes, interrupt, threads_of, until

FILES = (
    "runqueue.py",
    "allotment.py",
    "affinity.py",
    "accounts.py",
    "hold.py",
    "policy.py",
    "slices.py",
    "contextlib.py",
)
"""Where an interrupt may come at each line."""


@pytest.fixture
def switching_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("pcpus", [1, 2])
def test_32_that_never_leave_by_themselves_get_the_same_number_of_slices(pcpus: int, slices: Any) -> None:
    slices(0.0005)
    queue, vms = fakes(pcpus, 32)
    ended, had, all_there = threading.Event(), Counter[str](), threading.Barrier(32)

    def run(vm: Any) -> None:
        all_there.wait(60)
        while not ended.is_set():
            with queue.holding(vm) as hold:
                had[vm.name] += 1
                if sum(had.values()) >= 32 * 20:
                    ended.set()
                while not (hold.over or ended.is_set()):
                    time.sleep(0.0001)

    for thread in threads_of([lambda vm=vm: run(vm) for vm in vms]):
        thread.join()
    assert len(had) == 32 and max(had.values()) < 2 * min(had.values()), had
    assert not queue._holds


def test_who_came_first_is_served_first_and_a_free_pcpu_of_ones_own_is_preferred() -> None:
    queue, (one, two, three) = fakes(2, 3)
    order: list[str] = []

    def come(vm: Any) -> None:
        with queue.holding(vm):
            order.append(vm.name)

    with queue.holding(one) as first:
        one.last = first.pcpu
        with queue.holding(two) as second:
            two.last = second.pcpu
            threads = threads_of([lambda: come(one)])  # a second wish for a VM that has a pCPU waits until it is back
            until(lambda: queue.contended)
            threads += threads_of([lambda: come(three)])
            until(lambda: len(queue._holds) == 4)
        until(lambda: order == ["vm2"])
        until(lambda: len(queue._holds) == 2)
        assert queue.contended, "two threads have the same VM"
    for thread in threads:
        thread.join()
    assert order == ["vm2", "vm0"]
    for vm, hold in ((two, second), (one, first)):
        with queue.holding(vm) as now:
            assert now.pcpu is hold.pcpu


def _storm(interrupts: int, pcpus: int = 2, workers: int = 5) -> None:
    """Workers come and go and are interrupted at any line; no pCPU is lost, or given to two."""
    queue, vms = fakes(pcpus, workers)
    clashes: list[str] = []
    generator = random.Random(7)
    ended = threading.Event()

    def work(vm: Any) -> None:
        while not ended.is_set():
            try:
                with queue.holding(vm) as hold:
                    for _ in range(generator.randrange(30)):
                        clashes.extend(h.vm.name for h in list(queue._holds) if h.pcpu is hold.pcpu and h is not hold)
            except Interrupt:
                caught[vm.name] += 1

    caught = Counter[str]()
    queue._watch.expect(0)  # CPython may give an exception that a thread is to raise to one which that has just begun
    threads = [threading.Thread()] * workers
    for _ in range(interrupts):
        for number, thread in enumerate(threads):
            if not thread.is_alive():  # it had not begun, or was hit outside a round
                threads[number] = threading.Thread(target=work, args=(vms[number],), daemon=True)
                threads[number].start()
        interrupt(generator.choice(threads))
        time.sleep(generator.random() * 0.0005)
    time.sleep(0.01)
    ended.set()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), [(h.vm.name, h.pcpu) for h in queue._holds]
    assert not clashes
    assert sum(caught.values()) > interrupts / 10, caught
    assert not queue._holds
    with ExitStack() as stack:  # every pCPU is there
        assert len({stack.enter_context(queue.holding(vm)).pcpu for vm in vms[:pcpus]}) == pcpus


@pytest.fixture
def escaped(monkeypatch: pytest.MonkeyPatch) -> list[type[BaseException]]:
    """What ended threads, but for interrupts outside a round. Types only: pytest would keep the exceptions, and by
    their tracebacks a visit that one of them came out of, which would not end before they are dropped.
    """
    types: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda raised: types.append(raised.exc_type))
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # what is freed is interrupted, too
    return types


def test_interrupts_at_any_line_leave_the_queue_whole(
    switching_often: None, escaped: list[type[BaseException]]
) -> None:
    _storm(2000)
    assert set(escaped) <= {Interrupt}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # hits generators that are freed, too
@pytest.mark.parametrize("waits", [False, True])
def test_an_interrupt_at_each_line_leaves_the_queue_whole(waits: bool) -> None:
    """Once at every line and call of one coming and going, alone and behind a neighbour."""
    step, hit = 0, True
    while hit:
        step += 1
        hit = False
        queue, (mine, other) = fakes(1, 2)
        entered, leave, left = threading.Event(), threading.Event(), threading.Event()

        def neighbour(
            queue: Any = queue, vm: Any = other, entered: Any = entered, leave: Any = leave, left: Any = left
        ) -> None:
            with queue.holding(vm):
                entered.set()
                assert leave.wait(30)
            left.set()

        def trace(frame: Any, event: str, argument: object, step: int = step) -> Any:
            nonlocal seen, hit, where
            if frame.f_code.co_filename.endswith(FILES):
                # Python looks for interrupts at calls and in loops: not where a with block ends, and in `holding` not
                # between the end of the block and the try.
                leaves = linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with ")
                if event == "call" or (event == "line" and not leaves and frame.f_code.co_name != "holding"):
                    seen += 1
                    if seen == step:
                        hit = True
                        where = f"{event} {frame.f_code.co_name}:{frame.f_lineno}"
                        raise Interrupt
                return trace
            return None

        seen, where = 0, ""
        thread = threading.Thread(target=neighbour)
        if waits:
            thread.start()
            assert entered.wait(30)
            threading.Timer(0.001, leave.set).start()
        sys.settrace(trace)
        try:
            with queue.holding(mine):
                if not waits:
                    thread.start()
                    leave.set()
        except Interrupt:
            pass
        finally:
            sys.settrace(None)
        if not waits and not thread.ident:
            thread.start()
            leave.set()
        assert left.wait(10), f"the neighbour never got the pCPU after an interrupt in {where}"
        thread.join()
        assert not queue._holds, where
    assert step > 40


@pytest.mark.stress
def test_interrupts_at_any_line_leave_the_queue_whole_for_long(
    switching_often: None, escaped: list[type[BaseException]]
) -> None:
    _storm(50_000)
    assert set(escaped) <= {Interrupt}


def test_signals_that_raise_in_the_main_thread_leave_the_queue_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, vms = fakes(1, 3)
    ended = threading.Event()

    def neighbour(vm: Any) -> None:
        while not ended.is_set():
            with queue.holding(vm):
                time.sleep(0.0002)

    here = sys._getframe()

    def raising(number: int, frame: object) -> None:
        if frame is not here:  # there it would end the test
            raise Interrupt

    # One that is raised in a finalizer is told to pytest's hook, in which the next one may be raised.
    monkeypatch.setattr(sys, "unraisablehook", lambda told: told.exc_type is Interrupt or sys.__unraisablehook__(told))
    threads = threads_of([lambda vm=vm: neighbour(vm) for vm in vms[1:]])
    old = signal.signal(signal.SIGALRM, raising)
    interrupts = rounds = 0
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0013, 0.0017)
        while rounds < 400 or interrupts < 50:
            try:
                with queue.holding(vms[0]):
                    rounds += 1
            except Interrupt:
                interrupts += 1
    except Interrupt:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        ended.set()
    for thread in threads:
        thread.join()
    assert not queue._holds
    with queue.holding(vms[0]) as hold:
        assert hold.pcpu is not None
