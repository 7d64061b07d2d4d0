"""Figures of short cases (`hypervisor.Snapshot.map`), which one pCPU runs by itself. Each runs in a process of its own,
for `bench.process`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import hypervisor as hv
from bench.process import TIMEOUT_S
from hypervisor.assembler import assemble
from hypervisor.engine.repeating.series import PORT
from hypervisor.units import FOREVER_NS
from hypervisor.vm.repeating.short_way import ShortCases, Where

COUNT = 20_000
"""Cases that are run for a figure."""
FEW, MANY = 4, 40
"""Frames that a case stores to, its input's among them."""
_CODE = """
        mov al, 'R'
        out 0xe9, al
        jmp begin
begin:  movzx ecx, byte [0x3000]        # how many pages
        mov edi, 0x4000
        mov eax, 0
again:  add eax, [edi]
        mov [edi], ecx
        add edi, 0x1000
        dec ecx
        jnz again
        out 0xf4, al
"""
_AT, _INPUT = 0x1000, 0x3000
_LAST = _INPUT + 0x1000 * (MANY - 1)
"""Of the pages that a case stores to."""


@contextmanager
def _ready() -> Iterator[hv.Snapshot]:
    code = assemble(_CODE, origin=_AT).code
    with hv.boot(code, format="flat", at=_AT, mode=32, memory="4M") as vm:
        vm.run(until=vm.debugcon.contains("R"), timeout=TIMEOUT_S)
        with vm.snapshot() as snapshot:
            yield snapshot


def _each(coverage: bool) -> float:
    cases = [bytes((FEW - 1,))] * COUNT
    with _ready() as ready:
        for _ in range(2):
            start = time.perf_counter()
            for _, end in ready.map(cases, virtual_timeout=0.001, input=hv.Input(_INPUT, 1), coverage=coverage):
                assert end.reason is hv.Reason.DEBUG_EXIT and (end.virtual_ns < 2_000) and bool(end.edges) is coverage
        return (time.perf_counter() - start) / COUNT * 1e6


def short_case(image: Path) -> float:
    """Microseconds for each of many short cases."""
    return _each(coverage=False)


def covered_case(image: Path) -> float:
    """The same with each case's edges."""
    return _each(coverage=True)


def put_back(image: Path) -> float:
    """Microseconds to put a machine back, inside the loop, after a case that has stored to `MANY` frames."""
    seconds: list[float] = []
    with (
        _ready() as ready,
        ready.fork() as vm,
        closing(ShortCases(vm, Where(_INPUT, 1, None), FOREVER_NS, None, ready.zones)) as short,
        vm.place.entered(lambda: False) as hold,
    ):
        assert hold.pcpu is not None
        for _ in range(1000):
            series = short.series(hold.pcpu, [bytes((MANY - 1,))])
            assert series is not None and short.point is not None
            hold.pcpu.report.kick = 0
            assert series.go() and series.ends[0].stop == PORT and vm.memory.read(_LAST, 1) == b"\1"
            start = time.perf_counter()
            short.point.begin(hold.pcpu)
            seconds.append(time.perf_counter() - start)
            assert vm.memory.read(_LAST, 1) == b"\0"
            series.close()
    return sorted(seconds)[len(seconds) // 2] * 1e6
