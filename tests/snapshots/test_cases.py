"""Many short runs from one moment: each ends as a fork that is run by itself does."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.engine.repeating.series import HALTED, IN_PYTHON, PORT, TIME, Series
from hypervisor.engine.repeating.starting_point import Area, Place, StartingPoint
from hypervisor.units import FOREVER_NS
from hypervisor.vm.repeating.cases import BATCH
from hypervisor.vm.repeating.short_way import ShortCases, Where

SOURCE = """
    org 0x7c00
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7000
    mov al, 'R'
    out 0xe9, al
    jmp begin
begin:
    mov cx, [0x600]
    mov si, 0x500
again:
    test cx, cx
    jz over
    lodsb
    dec cx
    cmp al, 10
    jb store
    cmp al, 20
    jb spin
    cmp al, 30
    jb stop
    cmp al, 40
    jb die
    jmp again
store:
    mov bx, ax
    shl bx, 8
    add [bx + 0x2000], cx
    add dx, [bx + 0x2000]
    jmp again
spin:
    add dx, ax
    jmp spin
stop:
    hlt
die:
    lidt [0x800]
    int 3
over:
    mov al, dl
    out 0xf4, al
    jmp over
"""
"""A boot sector that does what each byte of its input says: it stores, runs on for ever, halts, or dies. It jumps
behind the text that is waited for, as a run ends at the end of a block.
"""
WHERE = hv.Input(0x500, 256, length=0x600)


def _image(folder: Path) -> Path:
    code = assemble(SOURCE.replace("org 0x7c00", ""), origin=0x7C00, mode=16).code
    image = folder / "cases.bin"
    image.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa")
    return image


@pytest.fixture(params=[1, 2])
def ready(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[hv.Snapshot]:
    with hv.Host("64M", request.param) as host, host.create_vm(image=str(_image(tmp_path)), memory="4M") as vm:
        assert vm.run(until=vm.debugcon.contains("R"), timeout=20).reason is hv.Reason.UNTIL
        with vm.snapshot() as snapshot:
            yield snapshot


def _cases(count: int, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    return [bytes(rng.choice((1, 5, 9, 9, 15, 25, 35, 99)) for _ in range(rng.randrange(1, 9))) for _ in range(count)]


def _alone(ready: hv.Snapshot, case: bytes) -> tuple[object, ...]:
    with ready.fork() as vm:
        vm.coverage.start(blocks=False)
        vm.memory.write(0x500, case)
        vm.memory.write(0x600, len(case).to_bytes(4, "little"))
        result = vm.run(virtual_timeout=0.0001, timeout=20)
        edges = {at: times for at, times in enumerate(vm.coverage.edges) if times}
        return result.reason, result.message, result.status, vm.clock.now_ns - ready.now_ns, edges


def test_each_case_ends_as_it_does_alone(ready: hv.Snapshot) -> None:
    cases = _cases(BATCH + 3, 1)
    ends = list(ready.map(cases, virtual_timeout=0.0001, input=WHERE, coverage=True))
    assert [case for case, _ in ends] == cases
    assert {end.reason for _, end in ends} == {
        hv.Reason.VIRTUAL_TIMEOUT, hv.Reason.HALTED, hv.Reason.CRASHED, hv.Reason.DEBUG_EXIT
    }  # fmt: skip
    known = dict(ends)
    for case in list(known)[:20]:
        assert tuple(known[case]) == _alone(ready, case)
    assert ends == list(ready.map(cases, virtual_timeout=0.0001, input=WHERE, coverage=True))


@pytest.mark.parametrize(("count", "seed"), [(300, 2), pytest.param(20_000, 3, marks=pytest.mark.stress)])
def test_the_short_way_and_the_long_one_end_alike(ready: hv.Snapshot, count: int, seed: int) -> None:
    cases = _cases(count, seed)
    short = [end for _, end in ready.map(cases, virtual_timeout=0.0001, input=WHERE, coverage=True)]
    with_condition = ready.map(cases, lambda: False, virtual_timeout=0.0001, input=WHERE, coverage=True)
    assert short == [end for _, end in with_condition]


def test_nothing_is_left_of_short_cases(ready: hv.Snapshot) -> None:
    cases = _cases(200, 4)
    with ready.fork() as vm, ready.fork() as other:
        with closing(ShortCases(vm, Where(0x500, 256, 0x600), 100_000, None, ready.zones)) as short:
            assert short.possible
            found = short.ends(cases)
            assert {one.end.stop for one in found} == {IN_PYTHON, PORT, HALTED, TIME}
            assert len(found) == len(cases) and sum(one.end.stop != IN_PYTHON for one in found) > 100
            assert vm.state() == other.state()
            vm.memory.write(0x2000, b"1")
            assert vm.state() != other.state()


def test_the_translations_are_those_of_the_moment_again() -> None:
    with hv.boot("pagefault", memory="4M") as vm:
        vm.run(virtual_timeout=0.00005, timeout=20)
        with vm.snapshot() as ready, ready.fork() as other, vm.place.entered(lambda: False) as hold:
            assert hold.pcpu is not None
            areas = [Area(zone, ready.memory.leaf_at(zone), count) for zone, count in ready.zones]
            timed = [(ctypes.addressof(register), ctypes.sizeof(register)) for _, _, register in vm.ports.timed()]
            point = StartingPoint(hold.pcpu, vm.vcpu.state, vm.turns, areas, timed, None)
            point.aim(Place([0], 0), None)
            point.limit(1_000_000, FOREVER_NS, range(0))
            known = _known(vm)
            series = Series(point, hold.pcpu, [b""])
            hold.pcpu.report.kick = 0
            assert series.go() and series.ends[0].virtual_ns > 0
            assert known and _known(vm) != known
            series.close()
            assert _known(vm) == known
            state = other.state()
        assert vm.state() == state


def _known(vm: hv.VM) -> bytes:
    """The translations in the vCPU's TLB, packed."""
    return vm.vcpu.state.tlb.entries(vm.vcpu.registers.word("guest_tlb_age"))


def test_who_makes_the_cases_has_seen_the_ends_of_earlier_batches(ready: hv.Snapshot) -> None:
    batch, seen = BATCH, []

    def cases() -> Iterator[bytes]:
        for number in range(2 * batch + 1):
            assert len(seen) == number // batch * batch
            yield bytes((number % 10,))

    for _, end in ready.map(cases(), virtual_timeout=0.0001, input=WHERE):
        assert not end.edges
        seen.append(end)
    assert len(seen) == 2 * batch + 1


def test_a_case_may_prepare_the_machine(ready: hv.Snapshot) -> None:
    def with_status(value: int) -> Callable[[hv.VM], None]:
        def prepare(vm: hv.VM) -> None:
            vm.vcpu.dl = value
            vm.memory.write(0x600, bytes(4))

        return prepare

    ends = [end for _, end in ready.map([with_status(n) for n in range(5)], timeout=20)]
    assert [end.status for end in ends] == [2 * n + 1 for n in range(5)]


def test_until_and_handlers(ready: hv.Snapshot) -> None:
    def prepare(vm: hv.VM) -> None:
        vm.traps.hlt(lambda vcpu, exit: hv.stop("it halts"))

    ends = [
        end
        for _, end in ready.map(
            [bytes((25,)), bytes((15,))], until=hv.after(0.00005), input=WHERE, prepare=prepare, timeout=20
        )
    ]
    assert [end.reason for end in ends] == [hv.Reason.STOPPED, hv.Reason.UNTIL]
    assert ends[0].message == "it halts"


def test_what_cannot_be_a_case(ready: hv.Snapshot) -> None:
    with pytest.raises(hv.ConfigError, match="needs to know where they go"):
        list(ready.map([b"1"]))
    with pytest.raises(hv.ConfigError, match="has room for 256"):
        list(ready.map([bytes(257)], input=WHERE))
    with pytest.raises(hv.ConfigError, match="how many bytes"):
        list(ready.map([b""], input=hv.Input(0x500, 0)))
    assert not ready.host.vms[1:]
