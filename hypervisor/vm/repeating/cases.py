"""Many short runs from one moment: each case begins with the same machine, bit for bit, and has an end.

Cases are taken in batches, run on all pCPUs of the host, and given back in their order before the next batch is taken.
So what makes the cases has seen the same ends each time, and finds the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from itertools import count, islice
from typing import Any, NamedTuple, Protocol, TypeVar

from hypervisor.engine.repeating.series import IN_PYTHON
from hypervisor.engine.state import GPR
from hypervisor.errors import ConfigError
from hypervisor.outcome.result import Reason, RunResult
from hypervisor.run.vm_clock import VmClock
from hypervisor.symbols.symbol_table import SymbolTable
from hypervisor.units import FOREVER_NS, nanoseconds
from hypervisor.vcpu.processor import Processor
from hypervisor.vm.repeating.short_way import Found, ShortCases, Where, Words, sparse
from hypervisor.vm.watching.coverage import Coverage

Case = TypeVar("Case", bound="bytes | Callable[[Any], object]")
BATCH = 256
"""Cases that are taken before their ends are given."""
_LEAST_CHUNK = 8
_AGAIN_S = 0.05
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

    def request_stop(self, text: str) -> None:
        """See `VM.request_stop`."""
        ...


Zones = Sequence[tuple[int, int]]
"""Of a machine's map, which have memory: from one on, how many."""
Begin = Callable[[Any], object]
"""Called with a subject: makes it the machine that every case begins with."""


class _Bench:
    """A machine for cases, one after the other."""

    def __init__(
        self, vm: Subject, begin: Begin, limits: Limits, where: Input | None, edges: bool, zones: Zones
    ) -> None:
        self._vm, self._begin, self._limits, self._edges = vm, begin, limits, edges
        self._where = None if where is None else _resolved(vm, where)
        if edges:
            vm.coverage.start(blocks=False)
        self._short: ShortCases | None = None
        if zones and self._where is not None and limits.until is None and vm.coverage.running is edges:
            begin(vm)
            machine: Any = vm
            seconds = limits.virtual_timeout
            limit_ns = FOREVER_NS if seconds is None else nanoseconds(seconds)
            self._short = ShortCases(machine, self._where, limit_ns, limits.timeout, zones)
        self._clean = False
        """Whether the machine stands where cases begin."""
        self._called_off = False

    def close(self) -> None:
        """No case comes any more."""
        if self._short is not None:
            self._short.close()

    def call_off(self) -> None:
        """Nobody wants to know the ends any more; from any thread, again and again until that is seen."""
        self._called_off = True
        self._vm.request_stop("nobody waits for this case any longer")

    def _check_wanted(self) -> None:
        if self._called_off:
            raise CancelledError

    def ends_of(self, cases: Sequence[bytes | Callable[[Any], object]]) -> list[CaseEnd]:
        """Run cases, as many as can in the short way."""
        ends: list[CaseEnd] = []
        while len(ends) < len(cases):
            self._check_wanted()
            left = cases[len(ends) :]
            short = _bytes_first(left)
            if self._short is None or not self._short.possible or not short:
                ends.append(self.end_of(left[0]))
                continue
            if not self._clean:
                self._begin(self._vm)
                self._clean = True
            found = self._short.ends(short)
            ends += [self._in_words(case, one) for case, one in zip(short, found, strict=False)]
        return ends

    def _in_words(self, case: Any, found: Found) -> CaseEnd:
        assert self._short is not None
        end = found.end
        words = found.words or self._short.words(end)
        if words is not None:
            return CaseEnd(*words, end.virtual_ns, end.edges)
        whole = self.end_of(case)
        if end.stop != IN_PYTHON and whole.virtual_ns == end.virtual_ns:
            self._short.learn(end, Words(whole.reason, whole.message, whole.status))
        return whole

    def end_of(self, case: bytes | Callable[[Any], object]) -> CaseEnd:
        """Run one case, whatever it needs."""
        self._check_wanted()
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
            sparse(edges),
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


def _bytes_first(cases: Sequence[bytes | Callable[[Any], object]]) -> list[bytes]:
    """The cases of bytes before the first other one."""
    first: list[bytes] = []
    for case in cases:
        if not isinstance(case, bytes):
            break
        first.append(case)
    return first


def _resolved(vm: Subject, where: Input) -> Where:
    """The same with addresses instead of symbols."""
    length = where.length
    if length is not None and length not in GPR:
        length = vm.symbols.address(length)
    if not 0 < where.size < 1 << (8 * _LENGTH_SIZE):
        raise ConfigError(f"Input(size={where.size!r}): give how many bytes a case has at most, 1 or more.")
    return Where(vm.symbols.address(where.at), where.size, length)


def ends_of(
    cases: Iterable[Case],
    subjects: Sequence[Subject],
    begin: Begin,
    limits: Limits,
    where: Input | None,
    coverage: bool,
    zones: Zones = (),
) -> Iterator[tuple[Case, CaseEnd]]:
    """The ends of cases, in their order; as many run at the same time as there are subjects. Without ``zones`` none is
    run in the short way.
    """
    source = iter(cases)
    with ExitStack() as stack:
        benches = []
        for vm in subjects:
            benches.append(_Bench(vm, begin, limits, where, coverage, zones))
            stack.callback(benches[-1].close)
        pool = None if len(subjects) == 1 else stack.enter_context(ThreadPoolExecutor(len(subjects)))
        while batch := list(islice(source, BATCH)):
            yield from zip(batch, _ran(batch, benches, pool), strict=True)


def _ran(batch: Sequence[Any], benches: Sequence[_Bench], pool: ThreadPoolExecutor | None) -> list[CaseEnd]:
    """The ends of a batch, whose cases the machines take some at a time."""
    ends: dict[int, CaseEnd] = {}
    numbers, chunk = count(), BATCH if pool is None else max(BATCH // (2 * len(benches)), _LEAST_CHUNK)

    def take(bench: _Bench) -> None:
        while (first := chunk * next(numbers)) < len(batch):
            ends.update(enumerate(bench.ends_of(batch[first : first + chunk]), first))

    if pool is None:
        take(benches[0])
    else:
        _together([pool.submit(take, bench) for bench in benches], benches)
    return [ends[number] for number in range(len(batch))]


def _together(futures: Sequence[Future[None]], benches: Sequence[_Bench]) -> None:
    """Wait until all are done. What one of them raises, or a signal's handler here, is the end of all."""
    try:
        for future in futures:
            future.result()
    except BaseException:
        while wait(futures, timeout=0).not_done:
            for bench in benches:
                bench.call_off()
            wait(futures, timeout=_AGAIN_S)
        raise


__all__ = ["BATCH", "Case", "CaseEnd", "Input", "Limits", "Subject", "ends_of"]
