"""Local APICs and turns that the engine serves: the same as in Python, bit for bit, and nothing is lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.devices.parts.x2apic import X2Apic
from hypervisor.run.serving.accesses import InPlace
from hypervisor.run.sharing.turns import Turns
from tests.core import apic_guest as guest
from tests.counting import ways
from tests.engine.test_plain import in_form

MAILS = 20_000
"""Interrupts that each vCPU sends."""


BOTH_MODES = pytest.mark.parametrize("x2apic", [False, True], ids=["xapic", "x2apic"])


def _compare(cpus: int, seed: int, operations: int, how: Callable[[hv.VM], None], x2apic: bool) -> None:
    there = guest.run(cpus, seed, operations, x2apic=x2apic)
    here = guest.run(cpus, seed, operations, how, x2apic)
    assert there == here, {name for name in there if there[name] != here[name]}


@BOTH_MODES
@pytest.mark.parametrize("how", [guest.in_python, guest.watched])
@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_what_the_engine_serves_is_what_the_model_says(cpus: int, how: Callable[[hv.VM], None], x2apic: bool) -> None:
    _compare(cpus, cpus, 4000, how, x2apic)


@BOTH_MODES
@pytest.mark.stress
@pytest.mark.parametrize("seed", range(10, 20))
@pytest.mark.parametrize("cpus", [2, 3, 4, 8])
def test_thousands_of_operations_are_the_same_in_python(cpus: int, seed: int, x2apic: bool) -> None:
    _compare(cpus, seed, 20_000, guest.in_python, x2apic)


@BOTH_MODES
def test_the_uncompiled_kernels_serve_the_same(x2apic: bool) -> None:
    code = f"from tests.core.apic_guest import run; print(run(2, 3, 200, x2apic={x2apic}))"
    outputs = [in_form(form, "-c", code) for form in ("compiled", "plain")]
    assert [done.returncode for done in outputs] == [0, 0], outputs[-1].stderr[-2000:]
    assert outputs[0].stdout == outputs[1].stdout


@BOTH_MODES
def test_the_engine_serves_alone_what_it_can(monkeypatch: pytest.MonkeyPatch, x2apic: bool) -> None:
    """Without this the comparisons would hold if it served nothing."""
    asked = 0

    def count(self: InPlace, kind: int, serve: Callable[[InPlace, int], int] = InPlace.__call__) -> int:
        nonlocal asked
        asked += 1
        return serve(self, kind)

    def store(self: X2Apic, number: int, value: int, put: Callable[..., bool] = X2Apic.write) -> bool:
        nonlocal asked
        asked += 1
        return put(self, number, value)

    entered = 0

    def enter(self: Turns, *arguments: Any, put: Callable[..., None] = Turns.enter) -> None:
        nonlocal entered
        entered += 1
        put(self, *arguments)

    monkeypatch.setattr(InPlace, "__call__", count)
    monkeypatch.setattr(X2Apic, "write", store)
    monkeypatch.setattr(Turns, "enter", enter)
    with guest.guest("mails", 2, 1, MAILS, x2apic) as vm:
        exits = vm.run(timeout=120).exits
    assert exits["wrmsr" if x2apic else "mmio_write"] > (2 if x2apic else 4) * MAILS and 0 < asked < 30
    assert exits["hlt"] > 2000 and entered < exits["hlt"]


@BOTH_MODES
@pytest.mark.parametrize("seconds", [0.0007, 0.0021])
def test_a_state_goes_on_in_another_machine(seconds: float, x2apic: bool) -> None:
    """Taken in the middle of what they do to each other."""
    with guest.guest("random", 2, 9, 3000, x2apic) as vm, guest.guest("random", 2, 1, 1, x2apic) as twin:
        assert vm.run(virtual_timeout=seconds).reason is hv.Reason.VIRTUAL_TIMEOUT
        assert vm.devices["lapic"].apics[1].page.x2apic is x2apic
        twin.restore(vm.state())
        there, here = (guest.outcome(one, one.run(timeout=300, virtual_timeout=60)) for one in (vm, twin))
    assert there == here and there["reason"] is hv.Reason.DEBUG_EXIT


@BOTH_MODES
@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_each_interrupt_that_is_sent_is_taken_once(cpus: int, clock: str, x2apic: bool) -> None:
    """Kicked at random, and looked at from outside."""
    with guest.guest("mails", cpus, 7, MAILS, x2apic, clock=clock) as vm, ways.kicks(vm, random.Random(cpus)):
        result = vm.run(timeout=120)
        assert result.reason is hv.Reason.DEBUG_EXIT, (result.reason, result.message)
        sent = sum(guest.word(vm, number, guest.SENT) for number in range(cpus))
        assert sent == MAILS * cpus
        assert sum(guest.word(vm, number, guest.TAKEN) for number in range(cpus)) == sent
        got = [[guest.word(vm, to, guest.GOT + 4 * sender) for to in range(cpus)] for sender in range(cpus)]
        assert [sum(row) for row in got] == [MAILS] * cpus
