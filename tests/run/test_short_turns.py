"""What machines are made in: no collections of garbage, and short turns of threads, and all as it was behind that."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.garbage import uncollected
from hypervisor.run.threads.short_turns import SHORT_S, short_turns


def test_what_was_set_is_set_again_whatever_happens() -> None:
    for interval, collecting in ((0.005, True), (0.02, False), (SHORT_S / 2, True)):
        before = sys.getswitchinterval()
        sys.setswitchinterval(interval)
        (gc.enable if collecting else gc.disable)()
        try:
            for error in (None, ValueError):
                try:
                    with uncollected(), short_turns(), uncollected(), short_turns():
                        assert sys.getswitchinterval() == pytest.approx(min(interval, SHORT_S))
                        assert not gc.isenabled()
                        if error:
                            raise error
                except ValueError:
                    pass
                assert sys.getswitchinterval() == pytest.approx(interval) and gc.isenabled() is collecting
        finally:
            sys.setswitchinterval(before)
            gc.enable()


def test_many_at_once_leave_it_as_it_was() -> None:
    before, barrier = sys.getswitchinterval(), threading.Barrier(8)

    def often() -> None:
        barrier.wait(30)
        for _ in range(300):
            with uncollected(), short_turns():
                pass

    threads = [threading.Thread(target=often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.getswitchinterval() == before and gc.isenabled()


def test_machines_are_made_so(tmp_path: Path) -> None:
    seen: list[tuple[bool, float]] = []

    def look(vm: hv.VM) -> None:
        seen.append((gc.isenabled(), sys.getswitchinterval()))

    before = sys.getswitchinterval()
    with hv.boot("hello", prepare=look) as vm:
        vm.save(tmp_path / "hello.hvs")
    hv.boot(tmp_path / "hello.hvs", prepare=look).close()
    assert seen == [(False, before), (False, pytest.approx(SHORT_S))]
    assert gc.isenabled() and sys.getswitchinterval() == before
