"""Debuggers and coverage tools of whoever runs a VM see its handlers, which other threads execute."""

from __future__ import annotations

import bdb
import sys
import threading
import trace
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

import hypervisor as hv
from tests.core.bare import bare

CODE = "mov ecx, 3; again: vmmcall; dec ecx; jnz again; hlt"


@pytest.fixture(autouse=True)
def _not_traced() -> Iterator[None]:
    ours, threads = sys.gettrace(), threading.gettrace()
    yield
    threading.settrace(threads)  # type: ignore[arg-type]  # as it was
    sys.settrace(ours)


def handler(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
    vcpu.rip += exit.length
    return hv.HANDLED  # the line that is looked for


LINE = handler.__code__.co_firstlineno + 2


def counted(vm: hv.VM, run: Callable[[], object]) -> int:
    """How often the standard library's coverage tool saw that line."""
    tool = trace.Trace(count=True, trace=False)
    tool.runfunc(run)
    return sum(times for (name, line), times in tool.results().counts.items() if (name, line) == (__file__, LINE))


@pytest.mark.parametrize("in_background", [False, True])
def test_a_coverage_tool(in_background: bool) -> None:
    with bare(CODE) as vm:
        vm.traps.hypercall(handler)

        def run() -> None:
            vm.vcpu.rip, vm.vcpu.halted = 0x10000, False
            if in_background:
                vm.start(timeout=60)
                vm.wait()
            else:
                vm.run(timeout=60)
            assert vm.result is not None and vm.result.reason is hv.Reason.HALTED

        run()  # the pCPU's thread begins without a tool
        assert [counted(vm, run) for _ in range(3)] == [3, 3, 3]
        run()
        assert counted(vm, run) == 3


class Debugger(bdb.Bdb):
    """Notes what it finds at its breakpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []

    def user_line(self, frame: FrameType) -> None:
        if frame.f_lineno == LINE:
            self.found.append(frame.f_locals["vcpu"].ecx)
        self.set_continue()


def test_a_debuggers_breakpoint_in_a_handler() -> None:
    with bare(CODE) as vm:
        vm.traps.hypercall(handler)
        debugger = Debugger()
        assert debugger.set_break(__file__, LINE) is None
        debugger.runcall(vm.run, timeout=60)
        assert debugger.found == [3, 2, 1]


def test_two_vms_of_two_callers() -> None:
    """Each is seen by the tool of its own caller, on one pCPU in turn."""
    with hv.Host("8M", 1) as host, bare(CODE, host=host) as one, bare(CODE, host=host) as two:
        one.traps.hypercall(handler)
        two.traps.hypercall(handler)
        debugger = Debugger()
        debugger.set_break(__file__, LINE)
        two.start(timeout=60)
        debugger.runcall(one.run, timeout=60)
        two.wait()
        assert debugger.found == [3, 2, 1]
