"""The queue for pCPUs: fair, exact for its VMs, and whole whatever interrupts those who wait."""

from __future__ import annotations

import ctypes
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

import hypervisor as hv
from hypervisor.run.sharing import scheduler
from hypervisor.run.sharing.runqueue import RunQueue
from tests.core.bare import bare
from tests.core.smp import long_mode
from tests.sectors import boot_sector

FOREVER = 1e6
LOOP = "again: inc rbx; jmp again"


class FakePCpu:
    """What the queue knows of a pCPU."""

    def __init__(self) -> None:
        self.owner: Any = None
        self.kicks = 0

    def kick(self) -> None:
        self.kicks += 1


def _fakes(pcpus: int, vms: int) -> tuple[Any, list[Any]]:
    queue: Any = RunQueue([FakePCpu() for _ in range(pcpus)])  # type: ignore[misc]
    return queue, [Customer(f"vm{n}") for n in range(vms)]


class Customer:
    """What the queue knows of a VM."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.last: Any = None


@pytest.fixture
def slices(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_to(seconds: float) -> None:
        monkeypatch.setattr(scheduler, "SLICE_S", seconds)

    return set_to


@pytest.fixture
def switching_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def _threads(targets: list[Any]) -> list[threading.Thread]:
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    return threads


def _until(condition: Any) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit, "it never came so far"
        time.sleep(0.001)


# --- the queue alone --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pcpus", [1, 2])
def test_32_that_never_leave_by_themselves_get_the_same_number_of_slices(pcpus: int, slices: Any) -> None:
    slices(0.0005)
    queue, vms = _fakes(pcpus, 32)
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

    for thread in _threads([lambda vm=vm: run(vm) for vm in vms]):
        thread.join()
    assert len(had) == 32 and max(had.values()) < 2 * min(had.values()), had
    assert not queue._holds


def test_who_came_first_is_served_first_and_a_free_pcpu_of_ones_own_is_preferred() -> None:
    queue, (one, two, three) = _fakes(2, 3)
    order: list[str] = []

    def come(vm: Any) -> None:
        with queue.holding(vm):
            order.append(vm.name)

    with queue.holding(one) as first:
        one.last = first.pcpu
        with queue.holding(two) as second:
            two.last = second.pcpu
            threads = _threads([lambda: come(one)])  # a second wish for a VM that has a pCPU waits until it is back
            _until(lambda: queue.contended)
            threads += _threads([lambda: come(three)])
            _until(lambda: len(queue._holds) == 4)
        _until(lambda: order == ["vm2"])
        _until(lambda: len(queue._holds) == 2)
        assert queue.contended, "two threads have the same VM"
    for thread in threads:
        thread.join()
    assert order == ["vm2", "vm0"]
    for vm, hold in ((two, second), (one, first)):
        with queue.holding(vm) as now:
            assert now.pcpu is hold.pcpu


class Interrupt(Exception):
    """Comes at any time."""


def _interrupt(thread: threading.Thread) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Interrupt))


def _storm(interrupts: int, pcpus: int = 2, workers: int = 5) -> None:
    """Workers come and go and are interrupted at any line; no pCPU is lost, or given to two."""
    queue, vms = _fakes(pcpus, workers)
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

    def guarded(vm: Any) -> None:
        while not ended.is_set():
            try:
                work(vm)
            except Interrupt:  # outside a round
                pass

    caught = Counter[str]()
    queue._watch.expect(0)  # CPython may give an exception that a thread is to raise to one which that has just begun
    threads = [threading.Thread(target=guarded, args=(vm,), daemon=True) for vm in vms]
    for thread in threads:
        thread.start()
    for _ in range(interrupts):
        _interrupt(generator.choice(threads))
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


def test_interrupts_at_any_line_leave_the_queue_whole(switching_often: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is freed is interrupted, too, and so would be pytest's notes about that.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    _storm(2000)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # hits generators that are freed, too
@pytest.mark.parametrize("waits", [False, True])
def test_an_interrupt_at_each_line_leaves_the_queue_whole(waits: bool) -> None:
    """Once at every line and call of one coming and going, alone and behind a neighbour."""
    step, hit = 0, True
    while hit:
        step += 1
        hit = False
        queue, (mine, other) = _fakes(1, 2)
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
            if frame.f_code.co_filename.endswith(("runqueue.py", "contextlib.py")):
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
def test_interrupts_at_any_line_leave_the_queue_whole_for_long(switching_often: None) -> None:
    _storm(50_000)


def test_signals_that_raise_in_the_main_thread_leave_the_queue_whole() -> None:
    queue, vms = _fakes(1, 3)
    ended = threading.Event()

    def neighbour(vm: Any) -> None:
        while not ended.is_set():
            with queue.holding(vm):
                time.sleep(0.0002)

    def raising(number: int, frame: object) -> None:
        raise Interrupt

    threads = _threads([lambda vm=vm: neighbour(vm) for vm in vms[1:]])
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


# --- guests -----------------------------------------------------------------------------------------------------------


def _beside(codes: list[tuple[str, int]], seconds: float) -> list[hv.VM]:
    with hv.Host("16M", 1) as host, ExitStack() as stack:
        vms = [stack.enter_context(bare(code, mode, host)) for code, mode in codes]
        for thread in _threads([lambda vm=vm: vm.run(timeout=seconds) for vm in vms]):
            thread.join()
        return vms


def test_two_loops_get_about_the_same() -> None:
    for _ in range(2):
        one, two = (vm.clock.now_ns for vm in _beside([(LOOP, 64)] * 2, 0.6))
        assert one and two and 1 / 4 < one / two < 4, (one, two)


def test_a_vm_that_exits_all_the_time_and_a_loop_get_their_parts() -> None:
    """Each exit is a rare event for the clock: in 20 ms of the one's time the other would wait for seconds."""
    slow = "again: mov eax, 0x40000000; cpuid; jmp again"
    with hv.Host("16M", 1) as host, bare(LOOP, host=host) as loop, bare(slow, host=host) as exits:
        calls = 0

        @exits.traps.cpuid(leaf=0x40000000)
        def slowly(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            nonlocal calls
            calls += 1
            time.sleep(0.001)
            return hv.HANDLED

        alone = loop.run(timeout=0.3).virtual_s
        results: dict[str, float] = {}

        def run(name: str, vm: hv.VM) -> None:
            results[name] = vm.run(timeout=1.2).virtual_s

        for thread in _threads([lambda: run("exits", exits), lambda: run("loop", loop)]):
            thread.join()
        assert results["loop"] > alone / 4, (results, alone)
        assert calls > 50


WORK = "mov ecx, 400000; l: inc rbx; dec ecx; jnz l; cli; hlt"
PORTS = "mov ecx, 3000; l: mov al, cl; out 0x80, al; inc rbx; dec ecx; jnz l; cli; hlt"
TICKS = """cli; xor ax, ax; mov ds, ax; mov word ptr [0x20], tick; mov [0x22], ax; mov al, 0xfe; out 0x21, al
mov al, 0x34; out 0x43, al; mov ax, 4000; out 0x40, al; mov al, ah; out 0x40, al; xor bx, bx; sti
l: hlt; cmp bx, 20; jb l; cli; hlt
tick: inc bx; push ax; mov al, 0x20; out 0x20, al; pop ax; iret
"""


def test_eight_vms_of_all_kinds_on_one_pcpu_finish_their_work() -> None:
    with hv.Host("64M", 1) as host, ExitStack() as stack:
        vms = [stack.enter_context(bare(code, host=host)) for code in (WORK, WORK, PORTS, PORTS)]
        sleepers = [
            stack.enter_context(host.create_vm(boot_sector(TICKS), memory="4M", clock=clock))
            for clock in ("wall", "wall", "wall", "virtual")
        ]
        results: dict[hv.VM, hv.RunResult] = {}

        def run(vm: hv.VM) -> None:
            results[vm] = vm.run(timeout=60)

        for thread in _threads([lambda vm=vm: run(vm) for vm in vms + sleepers]):
            thread.join()
        assert all(result.reason is hv.Reason.HALTED for result in results.values()), results
        assert [results[vm].rbx for vm in vms] == [400000, 400000, 3000, 3000]
        *by_host, virtual = [results[vm].bx for vm in sleepers]
        assert virtual == 20 and min(by_host) >= 20  # one more may come between the comparison and CLI


# --- leaving ----------------------------------------------------------------------------------------------------------


SLEEPS = "sti; again: hlt; jmp again"


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_a_vm_that_sleeps_until_something_comes_leaves_its_pcpu(clock: str, slices: Any) -> None:
    slices(FOREVER)
    with hv.Host("16M", 1) as host, bare(WORK, host=host) as other, long_mode([SLEEPS], host, clock=clock) as sleeper:
        sleeper.input_open = True
        results: list[hv.RunResult] = []
        threads = _threads([lambda: results.append(sleeper.run(timeout=60))])
        _until(lambda: sleeper.vcpu.halted)
        assert other.run(timeout=30).reason is hv.Reason.HALTED
        sleeper.request_stop("enough")
        threads[0].join()
        assert results[0].message == "enough"


def test_a_vm_whose_sleep_costs_no_host_time_gives_way() -> None:
    """Its timer ticks for ever with the interrupt masked: a sleep that only virtual time passes in."""
    with hv.Host("16M", 1) as host, bare(WORK, host=host) as other:
        with host.create_vm(boot_sector(f"mov al, 0xff; out 0x21, al; {SLEEPS}"), memory="4M") as sleeper:
            threads = _threads([lambda: sleeper.run(timeout=60)])
            _until(lambda: sleeper.vcpu.halted)
            assert other.run(timeout=30).reason is hv.Reason.HALTED
            sleeper.request_stop("enough")
            threads[0].join()


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_a_sleeper_is_woken_by_input(clock: str) -> None:
    """The UART's interrupt wakes it, and only then does it want its pCPU again."""
    code = """cli; xor ax, ax; mov ds, ax; mov word ptr [0x30], got; mov [0x32], ax; mov al, 0xef; out 0x21, al
    mov dx, 0x3fc; mov al, 8; out dx, al; mov dx, 0x3f9; mov al, 1; out dx, al; xor bx, bx; sti
    l: hlt; cmp bx, 3; jb l; cli; hlt
    got: inc bx; push ax; push dx; mov dx, 0x3f8; in al, dx; mov al, 0x20; out 0x20, al; pop dx; pop ax; iret
    """
    with hv.Host("16M", 1) as host, host.create_vm(boot_sector(code), memory="4M", clock=clock) as sleeper:
        sleeper.console.open_input()
        results: list[hv.RunResult] = []
        threads = _threads([lambda: results.append(sleeper.run(timeout=60))])
        for count in range(3):
            _until(lambda count=count: sleeper.vcpu.bx == count and sleeper.vcpu.halted)
            sleeper.serial[0].send("x")
        threads[0].join()
        assert results[0].reason is hv.Reason.HALTED and results[0].bx == 3


def test_a_vm_that_the_debugger_has_leaves_its_pcpu(slices: Any) -> None:
    slices(FOREVER)
    attended, released = threading.Event(), threading.Event()

    class Holds:
        def attend(self, ended: Any) -> None:
            attended.set()
            assert released.wait(60)

        def wake(self) -> None: ...

        def close(self) -> None: ...

    with hv.Host("16M", 1) as host, bare(WORK, host=host) as other, bare(LOOP, host=host) as paused:
        paused.debugger = Holds()
        threads = _threads([lambda: paused.run(virtual_timeout=1e-4)])
        assert attended.wait(60)
        assert other.run(timeout=30).reason is hv.Reason.HALTED
        released.set()
        threads[0].join()


def test_many_steps_give_way(slices: Any) -> None:
    slices(0.001)
    with hv.Host("16M", 1) as host, bare(WORK, host=host) as other, bare(LOOP, host=host) as stepped:
        ended = threading.Event()

        def step() -> None:
            while not ended.is_set():
                assert stepped.step(2000) == 2000

        threads = _threads([step])
        assert other.run(timeout=60).reason is hv.Reason.HALTED
        ended.set()
        threads[0].join()
        assert stepped.vcpu.rbx >= 1000


# --- waiting ----------------------------------------------------------------------------------------------------------


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

        thread = _threads([vm.run])[0]
        assert inside.wait(60)
        yield host, released
        released.set()
        thread.join()


Hog = tuple[hv.Host, threading.Event]


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_a_timeout_counts_in_the_queue(hog: Hog, clock: str) -> None:
    host, released = hog
    with host.create_vm(b"\xeb\xfe", memory="1M", format="flat", at=0x10000, mode=32, clock=clock) as vm:
        result = vm.run(timeout=0.1)  # would wait for ever
        assert result.reason is hv.Reason.TIMEOUT and not released.is_set()
        released.set()


@pytest.mark.parametrize("how", ["stop", "interrupt"])
def test_a_run_in_the_queue_is_ended_from_outside(hog: Hog, how: str) -> None:
    host, released = hog
    with bare(WORK, host=host) as vm:
        results: list[object] = []

        def run() -> None:
            try:
                results.append(vm.run().message)
            except Interrupt:
                results.append("interrupted")

        thread = _threads([run])[0]
        _until(lambda: host.queue.contended)
        if how == "stop":
            vm.request_stop("enough")
        else:
            _interrupt(thread)  # one from another thread waits until this one wakes, now and then; a signal would not
        thread.join()
        assert results == ["enough" if how == "stop" else "interrupted"]
        assert not host.queue.contended and not released.is_set()
        released.set()
        assert vm.run(timeout=30).reason is hv.Reason.HALTED


def test_closing_a_vm_tells_those_who_wait_for_it(hog: Hog) -> None:
    host, released = hog
    problems: list[str] = []
    with bare(WORK, host=host) as vm:

        def look() -> None:
            try:
                vm.vcpu.read(0x10000, 1)
            except hv.ConfigError as error:
                problems.append(str(error))

        thread = _threads([look])[0]
        _until(lambda: host.queue.contended)
        vm.close()
        thread.join()
    assert len(problems) == 1 and "is closed, and its state is gone" in problems[0] and not released.is_set()


def test_closing_the_queue_tells_those_who_wait() -> None:
    queue, (one, two) = _fakes(1, 2)
    problems: list[str] = []

    def come() -> None:
        try:
            with queue.holding(two):
                pass
        except hv.ConfigError as error:
            problems.append(str(error))

    with queue.holding(one):
        thread = _threads([come])[0]
        _until(lambda: queue.contended)
        queue.close()
        thread.join()
    assert len(problems) == 1 and "The host is closed" in problems[0]


def test_a_wait_that_could_never_end_is_an_error() -> None:
    with hv.Host("16M", 1) as host, bare("vmmcall; hlt", host=host) as one, bare(WORK, host=host) as two:

        @one.traps.hypercall()
        def looks(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            two.vcpu.read(0x10000, 1)
            return hv.HANDLED

        result = one.run(timeout=20)
        assert result.reason is hv.Reason.HOST_ERROR and "the wait would never end" in result.message
        assert two.run(timeout=20).reason is hv.Reason.HALTED


def test_two_handlers_that_look_at_each_others_vm_are_told() -> None:
    with hv.Host("16M", 2) as host, bare("vmmcall; hlt", host=host) as one, bare("vmmcall; hlt", host=host) as two:
        both = threading.Barrier(2)

        for vm, other in ((one, two), (two, one)):

            def looks(vcpu: hv.Vcpu, exit: hv.Exit, other: hv.VM = other) -> hv.Verdict:
                vcpu.rip += exit.length
                both.wait(30)
                other.vcpu.read(0x10000, 1)
                return hv.HANDLED

            vm.traps.hypercall(looks)
        results: list[hv.RunResult] = []
        for thread in _threads([lambda vm=vm: results.append(vm.run(timeout=20)) for vm in (one, two)]):
            thread.join()
        assert hv.Reason.HOST_ERROR in [result.reason for result in results], results
        assert "the wait would never end" in next(r.message for r in results if r.reason is hv.Reason.HOST_ERROR)


@pytest.mark.parametrize("pcpus", [1, 2])
def test_another_thread_looks_at_and_writes_code_of_a_vm_that_runs(pcpus: int, slices: Any) -> None:
    """It does so between two blocks, on the VM's pCPU: nothing is changed under an engine that runs."""
    slices(0.002)
    code = "again: mov eax, 1; inc qword ptr [rdi + rax * 8]; jmp again"
    with hv.Host("16M", pcpus) as host, bare(code, host=host, rdi=0x80000) as vm:
        thread = _threads([lambda: vm.run(timeout=60)])[0]
        for count in range(20):
            vm.vcpu.write(0x10001, bytes([count % 7 + 1]))
            assert vm.vcpu.read(0x10000, 2) == bytes([0xB8, count % 7 + 1])
            slot = 0x80008 + count % 7 * 8
            before = vm.memory.read(slot, 8)
            _until(lambda slot=slot, before=before: vm.memory.read(slot, 8) != before)
        vm.request_stop()
        thread.join()
