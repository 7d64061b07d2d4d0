"""Cases that the engine runs by itself: with compiled handlers, while others want something, until time is over."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.vm.repeating import short_way
from hypervisor.vm.repeating.cases import BATCH

CODE = assemble(
    """
    mov esp, 0x9000
    mov al, 'R'
    out 0xe9, al
    jmp begin
begin:
    movzx eax, byte [0x500]
    cmp al, 200
    ja forever
    mov [eax * 4 + 0x600], eax
    out 0x80, al               # a handler's, if there is one
    in al, 0x81
    mov ah, al
    cmp byte [0x501], 0
    je over
    mov eax, 0x40000000
    mov ecx, [0x500]
    cpuid
    mov ah, al
over:
    mov al, ah
    out 0xf4, al
    jmp over
forever:
    inc eax
    jmp forever
    """,
    origin=0x1000,
    mode=32,
).code
WHERE = hv.Input(0x500, 4, length="rdx")


@pytest.fixture(params=[1, 2])
def ready(request: pytest.FixtureRequest) -> Iterator[hv.Snapshot]:
    with (
        hv.Host("64M", request.param) as host,
        host.create_vm(image=CODE, format="flat", at=0x1000, mode=32, memory="1M") as vm,
    ):
        assert vm.run(until=vm.debugcon.contains("R"), timeout=20).reason is hv.Reason.UNTIL
        with vm.snapshot() as snapshot:
            yield snapshot


def _with_handlers(vm: hv.VM) -> None:
    @hv.compiled(words=2)
    def add(state, regs, port, size, value):  # type: ignore[no-untyped-def]
        state[0] += value
        return 0

    @hv.compiled(words=2)
    def shown(state, regs, port, size, value):  # type: ignore[no-untyped-def]
        state[1] += 1
        return (regs[0] & 0xFF) + state[1]

    @hv.compiled(words=4)
    def told(state, regs, leaf, subleaf, value):  # type: ignore[no-untyped-def]
        regs[0] = state[subleaf & 0xFF] + 7
        state[subleaf & 0xFF] += 1
        return 1

    vm.traps.port_out(0x80, add)
    vm.traps.port_in(0x81, shown)
    vm.traps.cpuid(told, leaf=0x40000000)


def test_compiled_handlers_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their words are those of the moment for each case, one that raises ends it, and none needs `VM.run`."""
    rng = random.Random(1)
    cases = [bytes((rng.randrange(200), 0)) for _ in range(60)]
    cases += [bytes((n, 1)) for n in (0, 1, 2, 3, 4, 90)] * 3  # the last two are outside the state of `told`
    options = {"virtual_timeout": 0.001, "input": WHERE, "prepare": _with_handlers}
    with hv.boot(CODE, format="flat", at=0x1000, mode=32, memory="1M") as vm:
        _with_handlers(vm)
        vm.run(until=vm.debugcon.contains("R"), timeout=20)
        with vm.snapshot() as ready:
            short = [end for _, end in ready.map(cases, **options)]  # type: ignore[arg-type]
            with_condition = [end for _, end in ready.map(cases, lambda: False, **options)]  # type: ignore[arg-type]
            runs = _runs_counted(monkeypatch)
            again = [end for _, end in ready.map([cases[0]] * 300, **options)]  # type: ignore[arg-type]
    assert [end.status for end in short[:60]] == [2 * case[0] + 3 for case in cases[:60]]
    assert [end.reason for end in short[60:66]] == [hv.Reason.DEBUG_EXIT] * 4 + [hv.Reason.HOST_ERROR] * 2
    assert short == with_condition
    assert again == [short[0]] * 300 and len(runs) == 1  # for the words


def _runs_counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    runs: list[int] = []
    run = hv.VM.run

    def counted(vm: hv.VM, *arguments: object, **options: object) -> object:
        runs.append(1)
        return run(vm, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(hv.VM, "run", counted)
    return runs


def test_a_case_that_takes_long_ends_with_its_timeout(ready: hv.Snapshot) -> None:
    cases = [b"\xff", b"\1", b"\xff", b"\2"]
    ends = [end for _, end in ready.map(cases, timeout=0.2, input=WHERE)]
    assert [end.reason for end in ends] == [hv.Reason.TIMEOUT, hv.Reason.DEBUG_EXIT] * 2
    assert ends[0].message == "0.2 s of host time are over" and ends[0].virtual_ns > 0


def _when_it_runs(vms: list[hv.VM], act: Callable[[hv.VM], object]) -> None:
    while not (running := [vm for vm in vms if vm.place.pcpu is not None and vm.runner is not None]):
        time.sleep(0.001)
    time.sleep(0.02)
    for vm in running:
        act(vm)


@pytest.mark.parametrize("longest", [0.1, 60])  # in `VM.run`, and in the short way
def test_a_case_can_be_stopped(ready: hv.Snapshot, monkeypatch: pytest.MonkeyPatch, longest: float) -> None:
    monkeypatch.setattr(short_way, "LONGEST_S", longest)
    ended = threading.Event()

    def stop(vm: hv.VM) -> None:
        while not ended.is_set():
            vm.request_stop("enough")
            time.sleep(0.01)

    try:
        vms: list[hv.VM] = []
        other = threading.Thread(target=lambda: _when_it_runs(vms, stop))
        other.start()
        ends = [end for _, end in ready.map([b"\xff"], timeout=60, input=WHERE, prepare=vms.append)]
    finally:
        ended.set()
        other.join()
    assert [(end.reason, end.message) for end in ends] == [(hv.Reason.STOPPED, "enough")]


def test_the_host_is_not_closed_meanwhile(ready: hv.Snapshot) -> None:
    """As in any run: whoever wants to is told so, and the cases go on."""
    vms: list[hv.VM] = []
    said: list[str] = []

    def close(vm: hv.VM) -> None:
        with pytest.raises(hv.ConfigError) as told:
            vm.close()
        said.append(str(told.value))

    other = threading.Thread(target=lambda: _when_it_runs(vms, close))
    other.start()
    ends = [end for _, end in ready.map([b"\xff", b"\1"], timeout=2, input=WHERE, prepare=vms.append)]
    other.join()
    assert len(said) == 1 and "is running" in said[0]
    assert [end.reason for end in ends] == [hv.Reason.TIMEOUT, hv.Reason.DEBUG_EXIT]


@pytest.mark.parametrize("pcpus", [1, 2])
@pytest.mark.parametrize("case", ["255", "1"])
def test_an_interrupt_ends_it(pcpus: int, case: str) -> None:
    """Ctrl-C, in a case that goes on for ever, and among many short ones."""
    script = f"""
        import os, signal, sys, threading, time
        import hypervisor as hv
        code = bytes.fromhex("{CODE.hex()}")
        with hv.Host("64M", {pcpus}) as host, host.create_vm(
            image=code, format="flat", at=0x1000, mode=32, memory="1M"
        ) as vm:
            vm.run(until=vm.debugcon.contains("R"), timeout=20)
            with vm.snapshot() as ready:
                def cases():
                    while True:
                        yield bytes(({case},))
                    # no end
                seen = 0
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
                try:
                    for _ in ready.map(cases(), timeout=60, input=hv.Input(0x500, 4)):
                        seen += 1
                except KeyboardInterrupt:
                    print("interrupted", len(host.vms))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=50)
    assert done.stdout == "interrupted 1\n", done.stderr


def test_kicks_change_nothing(ready: hv.Snapshot) -> None:
    """Others want the pCPUs, again and again: what the cases end with, and cover, is the same."""
    rng = random.Random(3)
    cases = [bytes((rng.choice((1, 2, 3, 180, 255)), 0)) for _ in range(3 * BATCH)]
    options = {"virtual_timeout": 0.0005, "input": WHERE, "coverage": True}
    quiet = list(ready.map(cases, **options))  # type: ignore[arg-type]
    over = threading.Event()

    def disturb() -> None:
        while not over.is_set():
            for pcpu in ready.host.pcpus:
                pcpu.kick()
            time.sleep(random.random() / 2000)

    with ready.fork() as other:
        visitor = threading.Thread(target=disturb)
        visitor.start()
        try:
            disturbed = []
            for one in ready.map(cases, **options):  # type: ignore[arg-type]
                disturbed.append(one)
                other.memory.read(0, 4)
                if len(disturbed) % 16 == 0:
                    other.vcpu.translate(0x1000)  # which takes a pCPU for a moment
        finally:
            over.set()
            visitor.join()
    assert disturbed == quiet


@pytest.mark.stress
def test_no_case_is_lost_with_many_kicks(ready: hv.Snapshot) -> None:
    for _ in range(20):
        test_kicks_change_nothing(ready)


def test_uncompiled_it_is_the_same(tmp_path: Path) -> None:
    """The plain form of the kernels is the specification of the compiled one."""
    script = f"""
        import hypervisor as hv
        code = bytes.fromhex("{CODE.hex()}")
        with hv.boot(code, format="flat", at=0x1000, mode=32, memory="1M") as vm:
            vm.run(until=vm.debugcon.contains("R"), timeout=60)
            with vm.snapshot() as ready:
                where = hv.Input(0x500, 4, length="rdx")
                for case, end in ready.map(
                    [b"\\1", b"\\2", b"\\1", b"\\xff", b"\\3\\1", b"\\2"],
                    virtual_timeout=1e-5, input=where, coverage=True, timeout=60,
                ):
                    print(end)
    """
    told = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            env={**os.environ, "HYPERVISOR_KERNELS": form},
            capture_output=True, text=True, timeout=100, check=True,
        ).stdout
        for form in ("compiled", "plain")
    ]  # fmt: skip
    assert told[0] == told[1] and told[0].count("debug-exit") == 10
