"""What a cable does to frames: counted, and compared with what it promises."""

from __future__ import annotations

import random

import pytest

from hypervisor.errors import ConfigError
from hypervisor.network.link import MOST_UNDER_WAY, Direction, Link
from hypervisor.state import copied

FRAMES = 20_000


def arrivals(link: Link, count: int = FRAMES, apart: int = 1_000_000, seed: str = "one") -> list[list[int]]:
    """When frames that are sent one after the other come, less the time when each was sent."""
    direction = Direction(link, seed)
    return [[at - n * apart for at in direction.send(n * apart, 100)] for n in range(count)]


def test_a_good_cable_takes_its_latency() -> None:
    assert arrivals(Link(latency=0.001), 100) == [[1_000_000]] * 100


def test_frames_queue_for_the_wire() -> None:
    direction = Direction(Link(latency=0.0001, bandwidth=10_000_000), "")
    wire = (100 + 24) * 8 * 100  # at 10 Mbit/s a bit takes 100 ns
    assert [direction.send(0, 100) for _ in range(3)] == [[100_000 + n * wire] for n in (1, 2, 3)]
    assert direction.send(10 * wire, 100) == [100_000 + 11 * wire]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("fault", ["loss", "duplicate", "reorder"])
def test_as_many_frames_are_faulty_as_was_said(fault: str, share: float) -> None:
    came = arrivals(Link(latency=0.0001, hold=0.0005, **{fault: share}))
    faulty = {
        "loss": sum(not one for one in came),
        "duplicate": sum(len(one) == 2 for one in came),
        "reorder": sum(one != [100_000] for one in came),
    }
    deviation = (FRAMES * share * (1 - share)) ** 0.5
    assert abs(faulty.pop(fault) - FRAMES * share) <= 5 * deviation
    if fault != "reorder":
        assert all(at in (100_000, 100_001) for one in came for at in one)
    else:
        held = [one[0] - 100_000 for one in came if one != [100_000]]
        assert all(0 < by <= 500_001 for by in held)
        assert not held or 230_000 < sum(held) / len(held) < 270_000 or len(held) < 1000
    assert not any(faulty[other] for other in faulty if other != "reorder")


def test_fates_follow_from_the_seed_and_the_number_alone() -> None:
    link = Link(latency=0.0001, loss=0.3, duplicate=0.3, reorder=0.3)
    assert arrivals(link, 1000) == arrivals(link, 1000)
    assert arrivals(link, 1000) != arrivals(link, 1000, seed="another")
    assert arrivals(link, 1000, apart=10_000_000) == arrivals(link, 1000)


def test_a_direction_goes_on_from_its_state() -> None:
    link = Link(latency=0.0001, bandwidth=1e6, loss=0.1, duplicate=0.2, reorder=0.3)
    one, other = Direction(link, "x"), Direction(link, "x")
    rng = random.Random(3)
    times = sorted(rng.randrange(10**9) for _ in range(2000))
    for at in times[:1000]:
        one.send(at, 60 + at % 1000)
    other.state = copied(one.state)
    assert [one.send(at, 70) for at in times[1000:]] == [other.send(at, 70) for at in times[1000:]]


def test_a_cable_holds_so_many_frames_and_loses_the_rest() -> None:
    direction = Direction(Link(latency=1.0, duplicate=0.5), "")
    came = [direction.send(n, 60) for n in range(100_000)]
    assert MOST_UNDER_WAY <= sum(map(len, came)) <= MOST_UNDER_WAY + 1
    assert direction.state.sent == 100_000 and len(direction.state.under_way) <= MOST_UNDER_WAY + 1
    assert direction.send(2 * 10**9, 60)


@pytest.mark.parametrize(
    "options",
    [
        {"latency": 0.00004999}, {"latency": 0}, {"latency": -1}, {"latency": 11}, {"latency": float("nan")},
        {"latency": "1"}, {"loss": 1.1}, {"loss": -0.1}, {"duplicate": float("nan")}, {"reorder": None},
        {"bandwidth": 10}, {"bandwidth": 0}, {"bandwidth": float("inf")}, {"hold": 0}, {"hold": True},
    ],
)  # fmt: skip
def test_links_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Link(**options)  # type: ignore[arg-type]


def test_the_shortest_link_is_50_us() -> None:
    assert Link(latency=50e-6).latency_ns == 50_000
