"""What a guest sees of its TLB is its own doing: not the host's, not its neighbours'."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack, closing
from typing import Any

import pytest

import hypervisor as hv
from hypervisor._face import CODE as BARE
from hypervisor.run.sharing import left, scheduler
from tests.core.accessed import outcome, watcher
from tests.core.bare import bare
from tests.meanwhile import again_and_again

ROUNDS = 150_000
SEEDS = (1, 2, 3)


def _alone(rounds: int = ROUNDS, clock: str = "virtual") -> dict[int, tuple[Any, ...]]:
    """Each guest on a host of its own."""
    return {seed: _beside(1, rounds, clock, (seed,))[seed][0] for seed in SEEDS}


def _beside(
    pcpus: int, rounds: int = ROUNDS, clock: str = "virtual", seeds: tuple[int, ...] = SEEDS, runs: int = 1
) -> dict[int, list[tuple[Any, ...]]]:
    """All guests on one host, each in a thread of its own."""
    outcomes: dict[int, list[tuple[Any, ...]]] = {seed: [] for seed in seeds}
    with closing(hv.Host(f"{4 * len(seeds)}M", pcpus)) as host:

        def run(seed: int) -> None:
            for _ in range(runs):
                with watcher(host, rounds, seed, clock) as vm:
                    outcomes[seed].append(outcome(vm, vm.run(timeout=120)))

        threads = [threading.Thread(target=run, args=(seed,)) for seed in seeds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return outcomes


def test_a_guest_sees_what_it_has_accessed() -> None:
    """The sums differ from seed to seed: they would not if nothing was seen."""
    sums = {seen[1] for seen in _alone().values()}
    assert len(sums) == len(SEEDS)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("pcpus", [1, 2])
def test_neighbours_and_moves_show_in_no_accessed_bit(pcpus: int, clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three guests take the pCPUs from each other as often as can be."""
    alone = _alone(clock=clock)
    monkeypatch.setattr(scheduler, "SLICE_S", 0.0002)
    beside = _beside(pcpus, clock=clock, runs=2)
    assert beside == {seed: [seen] * 2 for seed, seen in alone.items()}


def test_a_neighbours_breakpoint_shows_in_no_accessed_bit() -> None:
    """It stands at a linear address that the next guest on the pCPU maps, too, and never uses."""
    with closing(hv.Host("8M", 1)) as host:
        with bare("nop; hlt", host=host) as vm:
            vm.traps.execute(BARE)(lambda vcpu, exit: hv.PASS)
            assert vm.run(timeout=20).reason is hv.Reason.HALTED
            with watcher(host, 1000) as neighbour:
                seen = outcome(neighbour, neighbour.run(timeout=20))
    assert seen == _beside(1, 1000, seeds=(1,))[1][0]


@pytest.mark.parametrize("moment_ms", [1, 7, 20])
def test_a_twin_sees_what_its_original_sees(moment_ms: int) -> None:
    """The state has the TLB: no more is walked than in the original, and nothing found that the twin had before."""
    with closing(hv.Host("8M", 1)) as host, watcher(host, ROUNDS) as vm, watcher(host, ROUNDS, 2) as twin:
        twin.run(until=hv.after(0.003), timeout=60)
        vm.run(until=hv.after(moment_ms / 1000), timeout=60)
        twin.restore(vm.state().to_bytes())
        seen, other = (outcome(one, one.run(timeout=60)) for one in (vm, twin))
    assert seen == other


def test_what_was_set_aside_shows_in_no_accessed_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The TLB of a guest that has left its pCPU is packed, here at once."""
    monkeypatch.setattr(left, "COLD_S", 0.0)
    rounds, packed = 10_000, 0
    with closing(hv.Host(f"{4 * len(SEEDS)}M", 1)) as host, ExitStack() as stack:
        vms = {seed: stack.enter_context(watcher(host, rounds, seed)) for seed in SEEDS}
        ends: dict[int, tuple[Any, ...]] = {}
        while len(ends) < len(SEEDS):
            for seed in vms.keys() - ends.keys():
                result = vms[seed].run(virtual_timeout=0.0002, timeout=60)
                packed += sum(vm.vcpu.state.tlb.packed for vm in vms.values())
                if result.reason is not hv.Reason.VIRTUAL_TIMEOUT:
                    ends[seed] = outcome(vms[seed], result)
        assert packed > 20
    for seed, alone in _alone(rounds).items():
        assert ends[seed][:4] + ends[seed][5:] == alone[:4] + alone[5:]  # but for the exits, of the last piece


def _disturb(vm: hv.VM, choice: random.Random) -> None:
    """What the host may do to Unicorn's TLB and to translated code between two blocks."""
    pcpu = vm.place.pcpu
    assert pcpu is not None
    what = choice.randrange(4)
    if what == 0:
        pcpu.memory.flush()
    elif what == 1:
        vm.memory.show()
    else:
        pcpu.memory.forget_code()
        if what == 2:  # as when its frames had been written elsewhere
            for page in range(vm.memory.size // 4096):
                vm.host.memory.outdate(vm.memory.pages.word(page) & ~0xFFF)


@pytest.mark.parametrize("seed", SEEDS)
def test_flushes_by_the_host_show_in_no_accessed_bit(seed: int) -> None:
    choice, disturbed = random.Random(seed), 0
    with closing(hv.Host("4M", 1)) as host, watcher(host, ROUNDS, seed) as vm:

        def disturb() -> None:
            nonlocal disturbed
            disturbed += 1
            _disturb(vm, choice)

        vm.watchers.append(disturb)
        with again_and_again(vm.look, 0.0002):
            seen = outcome(vm, vm.run(timeout=120))
    assert disturbed > 10
    assert seen == _beside(1, seeds=(seed,))[seed][0]
