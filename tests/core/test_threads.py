"""Hosts that many threads use: frames belong to one VM, and so does the state on a pCPU."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

import hypervisor as hv
from hypervisor.bus.clock import TimerQueue
from hypervisor.engine.frame_kernels import frame_kernels
from hypervisor.memory import HostMemory
from hypervisor.memory.page_map import PageMap
from tests.core.smp import long_mode
from tests.memory.maps import census
from tests.sectors import boot_sector

THREADS = 6


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def _in_threads(function: Callable[[int], None]) -> None:
    problems: list[BaseException] = []

    def run(number: int) -> None:
        try:
            function(number)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def test_frames_are_handed_out_once() -> None:
    memory = HostMemory(THREADS << 20, frame_kernels())
    owners: dict[int, int] = {}

    def use(number: int) -> None:
        generator = random.Random(number)
        pages = PageMap(memory, 256)
        for _ in range(300):
            pages.lay(0, 256)
            frames = [pages.own(page) for page in generator.sample(range(256), generator.randrange(1, 64))]
            for frame in frames:
                assert owners.setdefault(frame, number) == number, f"frame {frame} belongs to two"
                assert not any(memory.bytes[frame : frame + 16])
                memory.bytes[frame : frame + 16] = bytes([number + 1]) * 16
            for frame in frames:
                assert memory.bytes[frame] == number + 1
                del owners[frame]
            pages.release()
            if generator.random() < 0.1:
                memory.trim()

    _in_threads(use)
    census(memory, [])


def test_more_vms_than_pcpus_keep_their_own_state() -> None:
    """Each VM moves between the pCPUs many times while it counts with all its vCPUs."""
    code = "mov ecx, 20000\na: inc dword ptr [0x80000]\nadd rbx, {step}\ndec ecx\njnz a\ncli\nhlt\n"
    with closing(hv.Host(memory="16M", cpus=2)) as host:

        def count(number: int) -> None:
            for step in range(3):
                with long_mode([code.format(step=number + 10 * step)] * 2, host) as vm:
                    for _ in range(200):
                        if vm.run(virtual_timeout=2e-6, timeout=60).reason is hv.Reason.HALTED:
                            break
                    assert vm.run(timeout=60, virtual_timeout=1).reason is hv.Reason.HALTED
                    assert int.from_bytes(vm.memory.read(0x80000, 4), "little") == 40000
                    assert [vcpu.rbx for vcpu in vm.vcpus] == [20000 * (number + 10 * step)] * 2

        _in_threads(count)


def test_only_the_thread_that_runs_a_vm_changes_its_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock's alarm waits for the next deadline in a thread of its own, and must only read it."""
    threads: set[int] = set()

    def watched(name: str) -> Callable[..., object]:
        real = getattr(TimerQueue, name)

        def call(self: TimerQueue, *arguments: object) -> object:
            threads.add(threading.get_ident())
            return real(self, *arguments)

        return call

    for name in ("push", "next_ns", "run_due"):
        monkeypatch.setattr(TimerQueue, name, watched(name))
    sector = boot_sector("again: sti; hlt; jmp again")
    with hv.boot(sector, memory="1M", clock="wall") as vm:
        runs_in: set[int] = set()

        def ticked() -> bool:
            runs_in.add(threading.get_ident())
            return vm.memory.read(0x46C, 1) >= b"\x03"  # three ticks of the PIT

        threads.clear()
        result = vm.run(until=ticked, timeout=60)
        assert result.reason is hv.Reason.UNTIL, result.message
        assert threads == runs_in
        assert len(runs_in) == 1


def test_closing_a_vm_leaves_the_next_owner_of_its_place_alone() -> None:
    """A VM whose state is on a pCPU is closed; while that waits for the pCPU, another VM takes the place."""
    with closing(hv.Host("4M", 1)) as host:
        with long_mode(["again: inc rbx; jmp again"], host) as stays:
            with long_mode(["again: jmp again"], host) as closes:
                stays.run(virtual_timeout=1e-4)
                closes.run(virtual_timeout=1e-4)
                closer = threading.Thread(target=closes.close)
                with host.queue.holding(stays.place) as hold:
                    closer.start()
                    while not host.queue.contended:
                        pass
                    assert hold.pcpu is not None
                    stays.place.take(hold.pcpu)
                closer.join()
            assert stays.place.loaded is not None, "its state was taken off the pCPU as if it were the other's"
            before = stays.vcpu.rbx
            assert stays.run(virtual_timeout=1e-4).reason is hv.Reason.VIRTUAL_TIMEOUT
            assert stays.vcpu.rbx > before
