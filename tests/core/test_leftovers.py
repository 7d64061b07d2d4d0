"""What one VM leaves in the words of a pCPU decides nothing for the next one.

The results of a page walk, a decoded instruction, a fault on its way: each is written before it is read, within one
instruction. If one is read first, it is another VM's where the VM has just come to the pCPU, and of its own walk
elsewhere, so that a host's choice shows. Here what is left is nonsense, at many places of each guest.
"""

from __future__ import annotations

import random
from contextlib import closing
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.engine import block
from tests.core.accessed import watcher
from tests.real.disturbed import guests, summary

_GROUPS = ("w_", "d_", "n_", "fault", "event_rip", "fill_place", "scratch", "chain", "frame_", "x_info")
NAMES = block.names()
LEFTOVERS = [n for n, name in enumerate(NAMES) if name.startswith(_GROUPS)]
"""Words that are written and read within one instruction."""
LIKELY = {"w_shift": (21, 30), "d_length": (1, 2, 7)}
"""What another VM would leave."""
NONSENSE = (0, 1, 2, 7, 12, 14, 21, 30, 0x0F01, 0x1000, 0x40000000, 0xFFFF_F000, 1 << 38, -1, -(1 << 47))
PIECES = {"accessed-1": 1000, "accessed-2": 4000, "accessed-large": 2000}
"""How often a guest is stopped at most; those more often that look at what the host does to their TLB."""
BOOTS = guests(rounds=2500)


def _scramble(host: hv.Host, choice: random.Random) -> None:
    for pcpu in host.pcpus:
        for n in LEFTOVERS:
            pcpu.words[n] = choice.choice(LIKELY.get(NAMES[n], NONSENSE))


def _in_pieces(name: str, seed: int, scrambled: bool) -> tuple[dict[str, Any], int]:
    """The outcome of a guest that is stopped at random, at the same places in each run; and how often it was."""
    places, choice, pieces = random.Random(seed), random.Random(~seed), 0
    with closing(hv.Host("16M", 2)) as host, BOOTS[name](host) as vm:
        while True:
            step = 10 ** places.uniform(-9, -7) if pieces < PIECES.get(name, 400) else 1.0
            result = vm.run(virtual_timeout=step, timeout=60)
            if result.reason is not hv.Reason.VIRTUAL_TIMEOUT:
                return summary(vm, result), pieces
            pieces += 1
            vm.place.set_down()
            if scrambled:
                _scramble(host, choice)


def test_the_words_are_there() -> None:
    names = {NAMES[n] for n in LEFTOVERS}
    assert {"w_vector", "w_perm", "w_shift", "d_length", "d_ea", "n_vector", "fault", "fault_address"} <= names
    assert not any(block.VCPU <= 8 * n < block.VCPU_END for n in LEFTOVERS)


def _sum_by_the_wall_clock(scrambled: bool) -> int:
    """What the guest that looks at its TLB has added up, stopped where the host's alarm finds it."""
    choice, pieces = random.Random(3), 0
    with closing(hv.Host("16M", 2)) as host, watcher(host, 100_000, 2, "wall") as vm:
        while True:
            result = vm.run(virtual_timeout=1e-7 if pieces < 500 else 10.0, timeout=60)
            if result.reason is not hv.Reason.VIRTUAL_TIMEOUT:
                assert result.reason is hv.Reason.HALTED and pieces > 10
                return vm.vcpu.get("r13")
            pieces += 1
            vm.place.set_down()
            if scrambled:
                _scramble(host, choice)


def test_nor_do_they_by_the_wall_clock() -> None:
    """Without its time, which is the host's, the guest is the same."""
    assert _sum_by_the_wall_clock(scrambled=True) == _sum_by_the_wall_clock(scrambled=False)


@pytest.mark.parametrize("name", BOOTS)
def test_leftovers_decide_nothing(name: str) -> None:
    seen, pieces = _in_pieces(name, 1, scrambled=True)
    assert pieces >= 10
    assert seen == _in_pieces(name, 1, scrambled=False)[0]
