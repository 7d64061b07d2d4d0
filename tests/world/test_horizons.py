"""Machines of a world do the same whoever runs when, and none hears of anything in its past."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from hypervisor.devices import ethernet_port as e
from hypervisor.network.link import Link
from tests.world.automata import Automaton, play, world

FAULTY = Link(latency=60e-6, loss=0.1, duplicate=0.1, reorder=0.3, bandwidth=20e6)
WORLDS = {
    "two": (2, [Link()], 1, 1),
    "three, faulty": (3, [FAULTY], 1, 1),
    "many things at once": (4, [Link(latency=50e-6), Link(latency=100e-6)], 1, 10_000),
    "cables of several lengths": (4, [Link(latency=50e-6), Link(latency=0.001), FAULTY], 1, 1),
    "two networks": (3, [Link(latency=70e-6, reorder=0.2), Link(latency=300e-6)], 2, 1),
    "six": (6, [FAULTY], 1, 1),
}


def one_step_of_the_last(ready: list[Automaton]) -> tuple[Automaton, int]:
    """As one processor would that always takes the machine that is behind the others."""
    return min(ready, key=lambda one: one.clock.now_ns), 1


def at_random(seed: int) -> Any:
    rng = random.Random(seed)
    favourite = rng.randrange(8)

    def order(ready: list[Automaton]) -> tuple[Automaton, int]:
        chosen = rng.choice(ready)
        if rng.random() < 0.5:  # somebody is favoured, as on a busy host
            chosen = next((one for one in ready if one.number == favourite), chosen)
        return chosen, rng.choice((1, 3, 1000))

    return order


def outcome(automata: list[Automaton]) -> list[object]:
    return [(one.log, one.clock.now_ns) for one in automata]


@pytest.mark.parametrize("name", WORLDS)
def test_the_order_in_which_machines_run_does_not_matter(name: str) -> None:
    kind = WORLDS[name]
    for seed in range(2):
        automata, timing = world(seed, *kind)
        play(automata, one_step_of_the_last)
        expected = outcome(automata)
        assert sum(kind == "heard" for one in automata for _, kind, _ in one.log) > 20
        state = [copy.deepcopy(network.state()) for network in timing.networks]
        for order in range(4):
            automata, timing = world(seed, *kind)
            play(automata, at_random(order))
            assert outcome(automata) == expected
            assert [network.state() for network in timing.networks] == state


def test_machines_do_run_at_once() -> None:
    """The bound lets them: when one is at its horizon, the others have not all been waited for step by step."""
    automata, _ = world(1, 2, [Link(latency=0.001)])
    one, other = automata
    while not (one.waits or one.over):
        one.step()
    ahead_ns = one.clock.now_ns - other.clock.now_ns
    assert 1_000_000 <= ahead_ns <= 5_000_000  # a way there and back, and the end of a block


def test_who_stands_still_holds_up_the_others_and_who_is_gone_does_not() -> None:
    automata, _ = world(2, 3, [Link()])
    still, *others = automata
    ready = others
    while ready := [one for one in ready if not (one.waits or one.over)]:
        ready[0].step()
    assert all(one.waits and one.clock.now_ns < 1_000_000 for one in others)
    still.member.leave()
    assert not any(one.waits for one in others)
    play([one for one in automata if one is not still], one_step_of_the_last)
    assert max(one.clock.now_ns for one in others) > 2_000_000


def test_what_is_sent_comes_no_earlier_than_others_have_relied_on() -> None:
    """A machine that slept, and was changed by hand while it stood, may send something at a time that is over."""
    automata, timing = world(2, 2, [Link()])
    sender = automata[0]
    sender.member.station.promised_ns = 5_000_000
    sender.frame = bytes(60)
    sender.devices[0].write(e.TX_LENGTH, 4, 60)
    assert [one.at_ns for one in timing.networks[0].coming] == [5_100_000] and sender.clock.now_ns == 0
