"""What coverage counts is the guest's alone, and the guest does not see it."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any

import pytest

import hypervisor as hv
from hypervisor._face import CODE
from hypervisor.engine import block as b
from hypervisor.guests import names
from tests.core.bare import bare

NOPS = "nop; " * 70
PROGRAMS = {
    "a loop": ("mov ecx, 300; l: dec ecx; jnz l; hlt", 64),
    "calls": ("mov ecx, 7; l: call f; dec ecx; jnz l; hlt; f: test cl, 1; jz g; nop; g: ret", 64),
    "strings": ("mov rdi, 0x80000; mov ecx, 5; rep stosb; mov ecx, 3; nop; rep stosb; hlt", 64),
    "exits within": ("mov ecx, 4; l: rdtsc; nop; sgdt [0x80000]; nop; pushfq; popfq; dec ecx; jnz l; hlt", 64),
    "exits": ("mov esi, 4; l: xor eax, eax; cpuid; mov al, 1; out 0x80, al; in al, 0x60; dec esi; jnz l; hlt", 64),
    "long blocks": (f"mov ecx, 3; l: {NOPS} dec ecx; jnz l; hlt", 64),
    "code that changes itself": (
        "mov ecx, 3; l: inc byte ptr [rip + m + 1]; nop; m: mov al, 5; nop; dec ecx; jnz l; hlt", 64
    ),
    "sixteen bits": ("mov cx, 9; l: dec cx; jnz l; hlt", 16),
    "refused": ("mov ecx, 3; l: nop; lock bt eax, ecx; dec ecx; jnz l; hlt", 64),
}  # fmt: skip


def _by_steps(vm: hv.VM) -> None:
    while vm.vcpu.step() == 1:
        pass


def _by_run(vm: hv.VM) -> None:
    vm.run(timeout=20)


def _by_hooks(vm: hv.VM) -> None:
    """It is left before each instruction."""
    for address in range(CODE, CODE + 256):
        vm.traps.execute(address, lambda vcpu, exit: hv.PASS, name=f"at {address:#x}")
    vm.run(timeout=20)


def _with_listeners(vm: hv.VM) -> None:
    """What is served inside a block leaves it."""
    for kind in ("rdtsc", "sgdt", "pushf", "popf", "port_in", "port_out", "cpuid"):
        getattr(vm.traps, kind)(lambda vcpu, exit: hv.PASS, name=kind)
    vm.run(timeout=20)


@contextmanager
def _kicked(vm: hv.VM) -> Any:
    over, rng = threading.Event(), random.Random(1)

    def kick() -> None:
        while not over.wait(rng.random() / 3000):
            vm.host.pcpus[0].kick()

    thread = threading.Thread(target=kick)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _counted(name: str, how: Callable[[hv.VM], None], clock: str = "virtual") -> tuple[bytes, dict[int, int]]:
    source, mode = PROGRAMS[name]
    with bare(source, mode, clock=clock) as vm:
        vm.traps.exception(6, lambda vcpu, exit: _over(vcpu), name="#UD")
        vm.coverage.start()
        how(vm)
        assert vm.coverage.complete
        return vm.coverage.edges, vm.coverage.blocks


def _over(vcpu: hv.Vcpu) -> hv.Verdict:
    vcpu.rip += 4
    return hv.HANDLED


@pytest.mark.parametrize("how", [_by_steps, _by_hooks, _with_listeners])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_block_counts_once_however_it_is_executed(name: str, how: Callable[[hv.VM], None]) -> None:
    assert _counted(name, how) == _counted(name, _by_run)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_clock_of_the_host_counts_the_same(name: str) -> None:
    assert _counted(name, _by_run, "wall") == _counted(name, _by_run)


def _number(address: int) -> int:
    return (address * 0x9E3779B97F4A7C15 & (1 << 64) - 1) >> 48


def _map(blocks: Iterable[int]) -> bytes:
    counts: Counter[int] = Counter()
    previous = 0
    for address in blocks:
        counts[_number(address) ^ previous] += 1
        previous = _number(address) >> 1
    return bytes(counts[at] & 0xFF for at in range(1 << 16))


def test_the_map_is_that_of_the_blocks_that_were_executed() -> None:
    edges, blocks = _counted("a loop", _by_run)
    start, loop, end = CODE, CODE + 5, CODE + 9
    assert edges == _map([start, *[loop] * 299, end])
    assert blocks == {start: 9, loop: 4, end: 1}
    edges, _ = _counted("calls", _by_run)
    call, back, function, odd, ret, end = CODE + 5, CODE + 10, CODE + 15, CODE + 20, CODE + 21, CODE + 14
    order = [CODE]
    for left in range(7, 0, -1):
        order += ([] if left == 7 else [call]) + [function] + ([odd] if left & 1 else [ret]) + [back]
    assert edges == _map([*order, end])


@pytest.mark.parametrize("name", names())
def test_the_guest_does_not_see_it_and_runs_count_the_same(name: str) -> None:
    def run(prepare: Callable[[hv.VM], None], skips: int = 1) -> tuple[Any, ...]:
        with hv.boot(name, memory="4M") as vm:
            prepare(vm)
            vm.host.pcpus[0].words[b.SKIPS >> 3] = skips
            with _kicked(vm):
                reason = vm.run(virtual_timeout=0.004, timeout=60).reason
            state = vm.state()
            seen = reason, vm.clock.now_ns, dict(vm.stats), vm.console.bytes, state.parts["memory"]
            return seen, vm.coverage.edges, vm.coverage.blocks

    without, nothing, none = run(lambda vm: None)
    assert not any(nothing) and not none
    seen, edges, blocks = run(lambda vm: vm.coverage.start())
    assert seen == without and any(edges) and blocks
    assert run(lambda vm: vm.coverage.start(blocks=False), skips=0) == (without, edges, {})


def test_vms_with_it_and_without_share_a_physical_cpu() -> None:
    with hv.Host("8M", 1) as host:
        maps, steps = [], 0
        with bare("l: inc rax; jmp l", host=host) as one, bare("l: inc rax; jmp l", host=host) as other:
            one.coverage.start()
            while steps < 5:
                for vm in (one, other):
                    vm.run(virtual_timeout=0.00001)
                maps.append(sum(one.coverage.edges))
                steps += 1
            assert one.vcpu.rax == other.vcpu.rax
            assert not any(other.coverage.edges)
            one.coverage.stop()
            one.run(virtual_timeout=0.00001)
            assert not any(one.coverage.edges)
        assert len(set(maps)) > 1


def test_what_was_put_back_and_what_was_forked_count_the_same_again() -> None:
    with hv.boot("preempt", memory="4M") as vm:
        vm.run(virtual_timeout=0.0012345)
        with vm.snapshot() as moment, moment.fork() as fork:
            assert not fork.coverage.running
            maps = set()
            for each in (vm, vm, fork, vm):
                each.revert(moment)
                each.coverage.start()
                each.run(virtual_timeout=0.002)
                maps.add(each.coverage.edges)
                assert each.coverage.blocks
    assert len(maps) == 1


def test_lines_of_blocks_that_were_executed() -> None:
    class Lines:
        def line(self, address: int) -> tuple[str, int] | None:
            return (f"{'ab'[address & 1]}.c", (address - CODE) // 5) if address < CODE + 9 else None

        def all_lines(self) -> set[tuple[str, int]]:
            return {("a.c", 1), ("b.c", 7), ("c.c", 3), ("c.c", 0)}

        def functions(self) -> dict[int, str]:
            return {CODE + 7: "main", CODE + 2: "main.cold", CODE + 99: "without a line"}

    with bare(PROGRAMS["a loop"][0]) as vm:
        vm.coverage.start()
        vm.run()
        text = vm.coverage.lcov(Lines())  # type: ignore[arg-type]
        with pytest.raises(hv.ConfigError, match="table of symbols"):
            vm.coverage.lcov("kernel.elf")  # type: ignore[arg-type]
    assert text.split("end_of_record\n") == [
        "TN:\nSF:a.c\nDA:1,1\nLF:1\nLH:1\n",
        "TN:\nSF:b.c\nFN:1,main\nFNDA:1,main\nFNF:1\nFNH:1\nDA:1,1\nDA:7,0\nLF:2\nLH:1\n",
        "TN:\nSF:c.c\nDA:3,0\nLF:1\nLH:0\n",
        "",
    ]
