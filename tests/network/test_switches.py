"""Networks: who gets which frame, in which order, and that none comes from nowhere."""

from __future__ import annotations

import random

import pytest

from hypervisor.errors import ConfigError
from hypervisor.network.ethernet import BROADCAST, address_text, local_address, parse_address
from hypervisor.network.ethernet_switch import AGEING_NS, MAX_ENTRIES, Switch
from hypervisor.network.link import Link
from hypervisor.network.network import Network
from hypervisor.units import FOREVER_NS

LATENCY = 100_000


def frame(to: bytes, of: bytes, content: bytes = b"") -> bytes:
    return (to + of + b"\x88\xb5" + content).ljust(60, b"\0")


def address(number: int) -> bytes:
    return local_address(number)


def network(ports: int = 3, link: Link | None = None, name: str = "lan") -> Network:
    made = Network(name, seed=1)
    for number in range(ports):
        made.plug(f"vm{number}", link or Link())
    return made


def got(net: Network) -> list[list[tuple[int, bytes]]]:
    return [[(one.at_ns, one.frame) for one in port.take(FOREVER_NS)] for port in net.ports]


def test_what_is_for_all_or_for_nobody_known_is_flooded_and_then_learnt() -> None:
    net = network()
    question, answer = frame(BROADCAST, address(0)), frame(address(0), address(1))
    net.ports[0].send(0, question)
    net.ports[2].send(1, frame(address(1), address(2)))
    net.forward(FOREVER_NS)
    assert got(net) == [
        [(2 * LATENCY + 1, frame(address(1), address(2)))],
        [(2 * LATENCY, question), (2 * LATENCY + 1, frame(address(1), address(2)))],
        [(2 * LATENCY, question)],
    ]
    net.ports[1].send(10**6, answer)
    net.ports[0].send(2 * 10**6, frame(address(1), address(0)))
    net.forward(FOREVER_NS)
    assert [len(one) for one in got(net)] == [1, 1, 0]


def test_a_frame_does_not_go_back_where_it_came_from() -> None:
    net = network(2)
    net.ports[0].send(0, frame(address(0), address(0)))
    net.forward(FOREVER_NS)
    assert got(net) == [[], []]


def test_frames_from_groups_and_torn_ones_are_dropped() -> None:
    switch = Switch()
    assert switch.ways(0, 0, frame(BROADCAST, BROADCAST), 3) == []
    assert switch.ways(0, 0, b"\0" * 13, 3) == []
    assert not switch.state().entries


def test_a_station_that_moved_is_found_where_it_spoke_last_and_old_knowledge_ages() -> None:
    switch = Switch()
    switch.ways(0, 0, frame(BROADCAST, address(9)), 3)
    assert switch.ways(1, 1, frame(address(9), address(1)), 3) == [0]
    switch.ways(2, 2, frame(BROADCAST, address(9)), 3)
    assert switch.ways(3, 1, frame(address(9), address(1)), 3) == [2]
    assert switch.ways(3 + AGEING_NS, 1, frame(address(9), address(1)), 3) == [0, 2]


def test_a_guest_cannot_have_the_switch_remember_without_end() -> None:
    switch = Switch()
    for number in range(3 * MAX_ENTRIES):
        switch.ways(number, 0, frame(BROADCAST, address(number)), 2)
    entries = switch.state().entries
    assert len(entries) == MAX_ENTRIES and entries[0].address == address(2 * MAX_ENTRIES)


def test_frames_are_forwarded_in_the_order_of_their_times_and_no_further_than_is_known() -> None:
    net = network()
    net.ports[2].send(300, frame(BROADCAST, address(2), b"2"))
    net.ports[0].send(200, frame(BROADCAST, address(0), b"0"))
    net.ports[1].send(300, frame(BROADCAST, address(1), b"1"))
    net.forward(LATENCY + 200)
    assert not net.ports[2].coming
    net.forward(LATENCY + 201)
    assert [one.at_ns for one in net.ports[2].coming] == [2 * LATENCY + 200]
    net.forward(FOREVER_NS)
    assert [(one.order, one.frame[14:15]) for one in net.ports[0].take(FOREVER_NS)] == [(2, b"1"), (3, b"2")]


def play(net: Network, seed: int, count: int, begin: int = 0) -> list[list[tuple[int, bytes]]]:
    """Random traffic, whose switch is asked at random times."""
    rng, traffic, now = random.Random(seed), random.Random(begin), begin
    came: list[list[tuple[int, bytes]]] = [[] for _ in net.ports]
    for n in range(count):
        now += traffic.randrange(50_000)
        port = traffic.randrange(len(net.ports))
        to = BROADCAST if traffic.random() < 0.2 else address(traffic.randrange(len(net.ports)))
        net.ports[port].send(now, frame(to, address(port), n.to_bytes(4, "big")))
        if rng.random() < 0.3:
            net.forward(now)
        if rng.random() < 0.1:
            net.forward(now)
            for heard, more in zip(came, ([(o.at_ns, o.frame) for o in p.take(now)] for p in net.ports), strict=True):
                heard.extend(more)
    return came


FAULTY = Link(latency=0.0001, bandwidth=50e6, loss=0.1, duplicate=0.1, reorder=0.2)


def test_when_the_switch_is_asked_does_not_matter() -> None:
    heard = []
    for seed in range(5):
        net = network(4, FAULTY)
        came = play(net, seed, 500)
        net.forward(FOREVER_NS)
        heard.append([one + more for one, more in zip(came, got(net), strict=True)])
    assert all(one == heard[0] for one in heard) and all(len(one) > 50 for one in heard[0])


def test_no_frame_comes_from_nowhere_and_none_is_lost_that_is_not_counted() -> None:
    net = network(4, FAULTY)
    came = play(net, 1, 1000)
    net.forward(FOREVER_NS)
    heard = [one + more for one, more in zip(came, got(net), strict=True)]
    ups, downs = [port.up.state for port in net.ports], [port.down.state for port in net.ports]
    assert sum(one.sent for one in ups) == 1000 and 50 < sum(one.lost for one in ups) < 150
    for number, (frames, down) in enumerate(zip(heard, downs, strict=True)):
        assert down.sent - down.lost <= len(frames) <= 2 * (down.sent - down.lost)
        assert all(one[6:12] != address(number) for _, one in frames)  # of others only
        assert [at for at, _ in frames] == sorted(at for at, _ in frames)
    numbers = [int.from_bytes(one[14:18], "big") for _, one in heard[0]]
    assert numbers != sorted(numbers) and len(set(numbers)) < len(numbers)  # reordered, and some twice


def test_networks_are_isolated() -> None:
    one, other = network(name="one"), network(name="other")
    play(one, 1, 200)
    one.forward(FOREVER_NS)
    assert other.state() == network(name="other").state()


def test_a_network_goes_on_from_its_state_in_the_middle() -> None:
    one, other = network(4, FAULTY), network(4, FAULTY)
    play(one, 1, 300)
    other.restore(one.state())
    assert other.state() == one.state() and one.coming
    for net in (one, other):
        play(net, 2, 300, begin=10**9)
        net.forward(FOREVER_NS)
    assert got(one) == got(other) and one.state() == other.state()
    with pytest.raises(ConfigError, match="other ports"):
        network(3).restore(one.state())


@pytest.mark.parametrize("text", ["", "02:00:00:00:00", "02-00-00-00-00-01", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01",
                                  "00:00:00:00:00:00", b"12345", 7])  # fmt: skip
def test_addresses_that_are_none(text: object) -> None:
    with pytest.raises(ConfigError, match="mac="):
        parse_address(text)  # type: ignore[arg-type]


def test_addresses_are_written_as_they_are_read() -> None:
    assert address_text(parse_address("02:00:00:AB:cd:01")) == "02:00:00:ab:cd:01"
    assert parse_address(b"\x02abcde") == b"\x02abcde"
