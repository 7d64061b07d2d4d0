"""Slices that end by foresight, with nobody else to end them: where they end, and how often a guest is left for it. It
is none of the guest's business: what that counts of its interrupts, instructions and time is what was.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.run.sharing import scheduler
from hypervisor.run.sharing.accounts import Accounts
from hypervisor.run.sharing.hold import Hold
from hypervisor.run.threads.foresight import Foresight
from tests.core.bare import bare, with_idt
from tests.core.smp import Vectors
from tests.meanwhile import again_and_again, kick
from tests.sharing.guests import at_once, until_computed

SLICE_S = 0.002
VECTOR = 0x40
GUEST = """
    sti
again:
    inc rbx
    rdtsc
    shl rdx, 32
    or rax, rdx
    cmp rax, rbp
    jae later
    inc r10
later:
    mov rbp, rax
    inc r9
    jmp again
"""
"""RBX and R9 count rounds, R10 those in which the time went back; R8 its interrupts."""


class Heard(Vectors):
    """Vectors, with ``taken`` called before each is delivered."""

    def __init__(self, vcpu: hv.Vcpu, taken: Callable[[], None]) -> None:
        super().__init__(vcpu)
        self._taken = taken

    def acknowledge(self) -> int:
        self._taken()
        return super().acknowledge()


class Ticks:
    """A timer that asks for one interrupt after the other, at random times of the guest's clock: seldom enough that few
    slices end where the guest is left for one.
    """

    def __init__(self, vm: hv.VM, seed: int) -> None:
        self._clock, self._rng, self._vectors = vm.clock, random.Random(seed), Heard(vm.vcpu, self._taken)
        self._due = self._asked_for = 0
        self.asked = self.too_early = 0
        self.over = False
        self._again()

    def _taken(self) -> None:
        self.too_early += self._clock.now_ns < self._asked_for

    def _again(self) -> None:
        self._due = self._clock.now_ns + self._rng.randrange(8_000_000)
        self._clock.call_at(self._due, self._ring)

    def _ring(self) -> None:
        if self.over:
            return
        if not self._vectors.pending():
            self.asked += 1
            self._asked_for = self._due
            self._vectors.send(VECTOR)
        self._again()


@contextmanager
def ticking(host: hv.Host, clock: str, seed: int) -> Iterator[tuple[hv.VM, Ticks]]:
    """A guest that computes and counts ticks."""
    with bare(GUEST, host=host, clock=clock) as vm:
        with_idt(vm, {VECTOR: "inc r8; iretq"})
        yield vm, Ticks(vm, seed)


@pytest.fixture
def by_foresight_alone(monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], list[None]]:
    """The watch never ends a slice. By how many seconds of the CPU clock each was too long, and how often a guest was
    told where its slice ends.
    """
    too_long, told = list[float](), list[None]()
    leaves, leave_at = Accounts.leaves, Foresight.leave_at

    def seen(self: Accounts, hold: Any) -> tuple[float, float]:
        if hold.wanted and hold.spent:
            too_long.append(hold.cpu_left - hold.cpu_end)
        return leaves(self, hold)

    def asked(self: Foresight, *where: Any) -> int:
        told.append(None)
        return leave_at(self, *where)

    monkeypatch.setattr(scheduler, "SLICE_S", SLICE_S)
    monkeypatch.setattr(scheduler, "LONGEST", 1)
    monkeypatch.setattr(Hold, "left", lambda hold, now: 1.0)
    monkeypatch.setattr(Accounts, "leaves", seen)
    monkeypatch.setattr(Foresight, "leave_at", asked)
    return too_long, told


@pytest.mark.parametrize("kicked", [False, True])
@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_no_guest_can_tell(clock: str, kicked: bool, by_foresight_alone: tuple[list[float], list[None]]) -> None:
    too_long, told = by_foresight_alone
    rng, kicks = random.Random(3), 0
    with hv.Host("16M", 1) as host, ExitStack() as stack:
        both = [stack.enter_context(ticking(host, clock, seed)) for seed in (1, 2)]
        vms = [vm for vm, _ in both]
        at_once(vms, hv.VM.start)

        def kick_one() -> None:
            nonlocal kicks
            kicks += 1
            kick(vms[kicks % 2])

        with again_and_again(kick_one, 0.0005, rng) if kicked else ExitStack():
            until_computed(vms, 0.3, 60)
        for _, ticks in both:
            ticks.over = True
        until_computed(vms, 0.02, 60)
        at_once(vms, hv.VM.request_stop)
        for vm, ticks in both:
            result = vm.wait()
            assert result is not None and result.reason is hv.Reason.STOPPED, result
            counts = {name: vm.vcpu.get(name) for name in ("r8", "r9", "r10", "rbx")}
            assert ticks.asked > 10 and counts["r8"] == ticks.asked, "each interrupt arrives once"
            assert ticks.too_early == 0
            assert counts["r10"] == 0, "no time goes back"
            assert counts["rbx"] > 10_000 and counts["rbx"] - counts["r9"] in (0, 1), (
                "each instruction is executed once"
            )
        asked = sum(ticks.asked for _, ticks in both)
    too_long.sort()
    assert len(too_long) > 20 and too_long[len(too_long) * 9 // 10] < 0.001, too_long
    assert len(told) < 3 * (len(too_long) + asked + kicks), "it is left where its slice ends, and not before"
