"""Execute traps that come and go: each is hit when its instruction is executed, and little is translated again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

import hypervisor as hv
from hypervisor.engine.instance.trapping import MOST_HOOKS
from tests.core.bare import DATA, addresses, bare

CODE, ROUNDS, PLACES = 0x10000, 50, 120
PROGRAM = "\n".join(
    (
        f"mov ecx, {ROUNDS}",
        "again:",
        *(f"inc dword ptr [{DATA + 4 * n}]; jmp p{n}; nop; p{n}: nop" for n in range(PLACES)),
        "dec ecx; jnz again; vmmcall",
        f"mov ecx, {ROUNDS}; jmp again",
    )
)


def _places() -> list[int]:
    """The linear address of each `inc`."""
    return addresses(PROGRAM)[1 : 1 + 4 * PLACES : 4]


class Trapped:
    """A VM whose traps change between its runs; every hit is counted."""

    def __init__(self, vm: hv.VM) -> None:
        self.vm = vm
        self.hits: dict[int, int] = {}
        self.wanted: set[int] = set()

        @vm.traps.hypercall()
        def round_(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            vcpu.rip += exit.length
            return hv.stop("round")

    def _hit(self, vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        self.hits[exit.address] = self.hits.get(exit.address, 0) + 1
        return hv.PASS

    def want(self, places: set[int]) -> None:
        """Trap these instructions and no others."""
        for place in self.wanted - places:
            self.vm.traps.remove(f"at {place}")
        for place in places - self.wanted:
            self.vm.traps.execute(place, self._hit, name=f"at {place}")
        self.wanted = set(places)

    def run(self) -> None:
        """All rounds once; each trap is hit in each."""
        self.hits.clear()
        assert self.vm.run(timeout=30).message == "round"
        assert self.hits == dict.fromkeys(self.wanted, ROUNDS)


@contextmanager
def trapped(host: hv.Host, count: int) -> Iterator[list[Trapped]]:
    with ExitStack() as stack:
        yield [Trapped(stack.enter_context(bare(PROGRAM, host=host))) for _ in range(count)]


def _code(host: hv.Host) -> int:
    return host.pcpus[0].memory.translated_bytes


def test_a_trap_costs_its_block() -> None:
    """Not all that the engine has translated, and that only once."""
    place = _places()[PLACES // 2]
    with hv.Host("4M", 1) as host, trapped(host, 1) as (one,):
        one.run()
        whole = _code(host)
        one.want({place})
        one.run()
        first = _code(host) - whole
        assert 0 < first < whole / 20
        for _ in range(5):
            one.want(set())
            one.run()
            one.want({place})
            one.run()
        assert _code(host) == whole + first


def test_vms_with_other_traps_at_the_same_addresses() -> None:
    places = _places()
    with hv.Host("8M", 1) as host, trapped(host, 3) as vms:
        for one in vms:
            one.run()
        whole = _code(host)
        for turn in range(4):
            for n, one in enumerate(vms):
                one.want({places[10 * n], places[40]} if n and turn else set())
                one.run()
        made = _code(host) - whole
        for one in vms:
            one.run()
        assert 0 < made < whole / 5 and _code(host) - whole == made


@pytest.mark.parametrize("seed", [1, 2])
def test_more_traps_than_hooks_are_kept(seed: int) -> None:
    choice, places = random.Random(seed), _places()
    assert PLACES > MOST_HOOKS + 20
    with hv.Host("8M", 1) as host, trapped(host, 2) as vms:
        for _ in range(12):
            for one in vms:
                one.want(set(choice.sample(places, choice.choice((0, 1, 5, 40, PLACES)))))
                one.run()


def _moving_breakpoint(enables: int) -> int:
    """Bytes of code that a guest makes which writes ever new addresses into DR0."""
    loop = "again: mov dr0, rbx; add rbx, 16; dec ecx; jnz again; hlt"
    code = f"mov rbx, 0x12000; mov ecx, 40; mov eax, {enables}; mov dr7, rax; {loop}"
    with hv.Host("4M", 1) as host, trapped(host, 1) as (other,), bare(code, host=host) as vm:
        other.run()
        other.run()
        before = _code(host)
        assert vm.run(timeout=30).reason is hv.Reason.HALTED
        own = _code(host) - before
        other.run()
        assert _code(host) == before + own  # nothing of a neighbour's is forgotten
    return own


def test_breakpoints_that_move_cost_nobody_his_code() -> None:
    assert _moving_breakpoint(0x401) <= 1.1 * _moving_breakpoint(0x400)
