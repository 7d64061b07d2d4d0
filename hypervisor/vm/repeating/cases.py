"""Many short runs from one moment: each case begins with the same machine, bit for bit, and has an end.

Cases are taken in batches, run on all pCPUs of the host, and given back in their order before the next batch is taken.
So what makes the cases has seen the same ends each time, and finds the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count, islice
from typing import Any, NamedTuple, Protocol, TypeVar

from hypervisor.engine.repeating.short_runs import ShortEnd
from hypervisor.engine.state import GPR
from hypervisor.errors import ConfigError
from hypervisor.outcome.result import Reason, RunResult
from hypervisor.run.vm_clock import VmClock
from hypervisor.symbols.symbol_table import SymbolTable
from hypervisor.units import nanoseconds
from hypervisor.vcpu.processor import Processor
from hypervisor.vm.coverage import Coverage
from hypervisor.vm.repeating.short_cases import Place, ShortCases, Words

Case = TypeVar("Case", bound="bytes | Callable[[Any], object]")
BATCH, CHUNK = 64, 16
"""Cases that are taken before their ends are given; and those of them that a pCPU takes at once."""
_LENGTH_SIZE = 4


class Input(NamedTuple):
    """Where the bytes of a case go: ``size`` bytes at most, at a linear address or a symbol. What a case does not fill
    is what it was. How many bytes the case has is put into ``length``: a register of 64 bits by its name, or 32 bits at
    a linear address or a symbol.
    """

    at: int | str
    size: int
    length: int | str | None = None


class CaseEnd(NamedTuple):
    """How a case ended: as `hypervisor.RunResult` has it."""

    reason: Reason
    message: str
    status: int | None
    virtual_ns: int
    """Virtual time that it took, in nanoseconds."""
    edges: Mapping[int, int]
    """What it counts in `Coverage.edges` that is not zero, if it was asked for."""


class Limits(NamedTuple):
    """What ends each case, as `VM.run` has it."""

    until: Any
    timeout: float | None
    virtual_timeout: float | None


class Subject(Protocol):
    """A machine that cases run on: what they need of a VM."""

    clock: VmClock
    symbols: SymbolTable
    coverage: Coverage

    @property
    def vcpu(self) -> Processor:
        """Its first vCPU."""
        ...

    def run(self, until: Any, timeout: float | None, virtual_timeout: float | None) -> RunResult:
        """See `VM.run`."""
        ...


Shortcut = Callable[[Any], Callable[[], object]]
"""Called with a subject: gives what puts its memory back, and nothing else."""
Begin = Callable[[Any], object]
"""Called with a subject: makes it the machine that every case begins with."""


class _Bench:
    """A machine for cases, one after the other."""

    def __init__(
        self, vm: Subject, begin: Begin, limits: Limits, where: Input | None, edges: bool, shortcut: Shortcut | None
    ) -> None:
        self._vm, self._begin, self._limits, self._edges = vm, begin, limits, edges
        self._where = None if where is None else _resolved(vm, where)
        if edges:
            vm.coverage.start(blocks=False)
        self._short: ShortCases | None = None
        if shortcut is not None and self._where is not None and limits.until is None and limits.virtual_timeout:
            begin(vm)
            machine: Any = vm
            short = ShortCases(machine, self._where, nanoseconds(limits.virtual_timeout), shortcut(vm))
            self._short = short if short.possible else None
        self._clean = False
        """Whether the machine stands where cases begin."""

    def ends_of(self, cases: Sequence[bytes | Callable[[Any], object]]) -> list[CaseEnd]:
        """Run cases, as many as can in the short way."""
        plain = [case for case in cases if isinstance(case, bytes)]
        if self._short is None or not plain:
            return [self.end_of(case) for case in cases]
        if not self._clean:
            self._begin(self._vm)
        self._clean = True
        found = iter(self._short.ends(plain))
        return [self._end_in_words(case, next(found) if isinstance(case, bytes) else None) for case in cases]

    def _end_in_words(self, case: Any, short: tuple[ShortEnd, Words | None, bytes] | None) -> CaseEnd:
        if short is None or self._short is None:
            return self.end_of(case)
        end, words, edges = short
        if words is not None:
            return CaseEnd(*words, end.virtual_ns, _sparse(edges))
        whole = self.end_of(case)
        if whole.virtual_ns == end.virtual_ns:
            self._short.learn(end, Words(whole.reason, whole.message, whole.status))
        return whole

    def end_of(self, case: bytes | Callable[[Any], object]) -> CaseEnd:
        """Run one case, whatever it needs."""
        vm, self._clean = self._vm, False
        self._begin(vm)
        if self._edges:
            vm.coverage.clear()
        if callable(case):
            case(vm)
        else:
            self._put(case)
        before = vm.clock.now_ns
        result = vm.run(self._limits.until, timeout=self._limits.timeout, virtual_timeout=self._limits.virtual_timeout)
        edges = vm.coverage.edges if self._edges else b""
        return CaseEnd(
            result.reason,
            result.message,
            result.status,
            vm.clock.now_ns - before,
            _sparse(edges),
        )

    def _put(self, case: bytes) -> None:
        if self._where is None:
            raise ConfigError(
                "A case of bytes needs to know where they go: give map(..., input=hypervisor.Input(...))."
            )
        at, size, length = self._where
        if len(case) > size:
            raise ConfigError(f"A case has {len(case)} bytes, and its input={self._where.at!r} has room for {size}.")
        vcpu = self._vm.vcpu
        vcpu.write(at, case)
        if isinstance(length, str):
            vcpu.set(length, len(case))
        elif length is not None:
            vcpu.write(length, len(case).to_bytes(_LENGTH_SIZE, "little"))


def _sparse(edges: bytes) -> dict[int, int]:
    """Where the map of edges is not zero, and what it says there."""
    if not edges:
        return {}
    import numpy as np  # which takes longer to import than all of this

    rows = np.frombuffer(edges, np.uint8).reshape(-1, 8)
    used = np.flatnonzero(rows.view(np.uint64))
    row, column = rows[used].nonzero()
    return dict(zip((8 * used[row] + column).tolist(), rows[used][row, column].tolist(), strict=True))


def _resolved(vm: Subject, where: Input) -> Place:
    """The same with addresses instead of symbols."""
    length = where.length
    if length is not None and length not in GPR:
        length = vm.symbols.address(length)
    if not 0 < where.size < 1 << (8 * _LENGTH_SIZE):
        raise ConfigError(f"Input(size={where.size!r}): give how many bytes a case has at most, 1 or more.")
    return Place(vm.symbols.address(where.at), where.size, length)


def ends_of(
    cases: Iterable[Case],
    subjects: Sequence[Subject],
    begin: Begin,
    limits: Limits,
    where: Input | None,
    coverage: bool,
    shortcut: Shortcut | None = None,
) -> Iterator[tuple[Case, CaseEnd]]:
    """The ends of cases, in their order; as many run at the same time as there are subjects."""
    source, workers = iter(cases), len(subjects)
    benches = [_Bench(vm, begin, limits, where, coverage, shortcut) for vm in subjects]
    with ExitStack() as stack:
        pool = None if workers == 1 else stack.enter_context(ThreadPoolExecutor(workers))
        while batch := list(islice(source, BATCH)):
            yield from zip(batch, _ran(batch, benches, pool), strict=True)


def _ran(batch: Sequence[Any], benches: Sequence[_Bench], pool: ThreadPoolExecutor | None) -> list[CaseEnd]:
    """The ends of a batch, whose cases the machines take one by one."""
    ends: dict[int, CaseEnd] = {}
    numbers = count()

    def take(bench: _Bench) -> None:
        while (first := CHUNK * next(numbers)) < len(batch):
            ends.update(enumerate(bench.ends_of(batch[first : first + CHUNK]), first))

    if pool is None:
        take(benches[0])
    else:
        list(pool.map(take, benches))
    return [ends[number] for number in range(len(batch))]


__all__ = ["Case", "CaseEnd", "Input", "Limits", "Subject", "ends_of"]
