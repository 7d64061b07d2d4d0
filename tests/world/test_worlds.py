"""Worlds of real guests: pings and their times, networks that are apart, and what one member does to the others."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.errors import ConfigError, DeviceError
from tests.network.test_captures import fields

SPINS = b"\xff\xc0\xeb\xfc"  # again: inc eax; jmp again
SLEEPS = b"\xf4"  # hlt, with interrupts off


@pytest.fixture
def world() -> Iterator[hv.World]:
    with hv.World(memory="128M", cpus=2, seed=1) as made:
        yield made


def pinger(
    world: hv.World, name: str, line: str, lan: str = "lan", link: hv.Link | None = None, **options: int
) -> hv.VM:
    vm = world.create_vm("ping", name=name, memory="4M", append=line, **options)
    world.lan(lan).connect(vm, link)
    return vm


def flat(world: hv.World, code: bytes, name: str) -> hv.VM:
    vm = world.create_vm(code, name=name, memory="1M", format="flat", at=0x10000, mode=32)
    world.lan().connect(vm)
    return vm


@pytest.mark.parametrize("latency", [50e-6, 0.003])
def test_pings_take_four_ways_and_the_capture_says_so(world: hv.World, tmp_path: Path, latency: float) -> None:
    link = hv.Link(latency=latency)
    pinger(world, "a", "10.0.0.1", link=link)
    b = pinger(world, "b", "10.0.0.2 10.0.0.1 5", link=link)
    world.lan().capture(tmp_path / "x.pcap")
    results = world.run(timeout=60)
    assert {name: one.reason for name, one in results.items()} == {"a": hv.Reason.IDLE, "b": hv.Reason.POWERED_OFF}
    assert b.console.text.endswith("ping: 5 sent, 5 answered, 0 late or twice, 0 damaged\n")
    trips = [int(found) for found in re.findall(r": (\d+) ns", b.console.text)]
    ways = round(4 * latency * 1e9)
    assert len(trips) == 5 and all(ways < trip < ways + 40_000 for trip in trips)
    world.close()
    frames = fields(
        tmp_path / "x.pcap", "frame.time_epoch", "icmp.type", "icmp.seq", "icmp.checksum.status", "arp.opcode"
    )
    assert [one[4] for one in frames[:2]] == ["1", "2"]
    assert [(one[1], one[2]) for one in frames[2:]] == [(kind, str(n)) for n in range(1, 6) for kind in ("8", "0")]
    assert all(one[3] == "1" for one in frames[2:])  # good
    at = [int(one[0].replace(".", "")) for one in frames[2:]]
    for trip, asked, answered in zip(trips, at[::2], at[1::2], strict=True):
        assert ways // 2 < answered - asked < trip - ways // 2  # what the switch saw is part of what the guest measured


def test_networks_are_apart_unless_a_machine_is_on_both(world: hv.World) -> None:
    pinger(world, "a", "10.0.0.1", "one")
    b = pinger(world, "b", "10.0.0.2 10.0.0.1 1", "other")
    world.run(timeout=60)
    assert "nobody says that the address is his" in b.console.text
    assert not world.lan("one").network.state().switch.entries


def test_a_machine_may_be_on_two_networks(world: hv.World) -> None:
    both = pinger(world, "both", "10.0.0.1", "one")
    world.lan("other").connect(both, base=0x340, irq=11)
    b = pinger(world, "b", "10.0.0.2 10.0.0.1 2", "one")
    c = pinger(world, "c", "10.0.0.2 10.0.0.1 2", "other")
    world.run(timeout=60)
    assert "2 answered" in b.console.text and "nobody" in c.console.text  # the guest drives its first interface only


def test_a_guest_does_not_notice_that_it_is_paced(world: hv.World) -> None:
    """Beside machines that say nothing it does what it does alone, on one vCPU and on several."""
    for image, cpus in (("preempt", 1), ("smp", 4)):
        with hv.World(memory="64M") as apart:
            alone = apart.create_vm(image, memory="8M", cpus=cpus)
            apart.lan().connect(alone)
            expected = apart.run(timeout=120)["vm1"]
            expected_state = alone.state().parts
        paced = world.create_vm(image, name=image, memory="8M", cpus=cpus)
        world.lan(image).connect(paced, hv.Link(latency=50e-6))
        other = world.create_vm(SPINS, name=f"beside {image}", memory="1M", format="flat", at=0x10000, mode=32)
        world.lan(image).connect(other)
        other.start(timeout=120)
        found = paced.run(timeout=120)
        other.stop()
        assert (found.reason, found.message, found.exits) == (expected.reason, expected.message, expected.exits)
        state = paced.state().parts
        for each in (expected_state, state):
            for vcpu in range(cpus):
                each[f"vcpu {vcpu}"].cpu.words["rest_at"] = 0
        assert [name for name in state if state[name] != expected_state[name]] == []


def test_a_paused_machine_is_waited_for_and_nothing_changes(world: hv.World) -> None:
    pinger(world, "a", "10.0.0.1")
    b = pinger(world, "b", "10.0.0.2 10.0.0.1 3")
    with world.fork() as twin:
        twin.run(timeout=60)
        said = twin.vms["b"].console.text
    a = world.vms["a"]
    world.start(timeout=60)
    with a.paused() as paused:
        if paused:
            time.sleep(0.05)
            stands = b.clock.now_ns
            time.sleep(0.05)
            assert b.clock.now_ns == stands < a.clock.now_ns + 1_000_000 + 100_000_000
    world.wait()
    assert b.console.text == said and "3 answered" in said


def test_a_machine_that_was_not_started_is_waited_for(world: hv.World) -> None:
    still, runs = flat(world, SPINS, "still"), flat(world, SPINS, "runs")
    result = runs.run(timeout=1)
    assert result.reason is hv.Reason.TIMEOUT and 100_000 < runs.clock.now_ns < 1_000_000
    assert still.clock.now_ns == 0
    still.start(timeout=60)
    assert runs.run(virtual_timeout=0.01, timeout=60).reason is hv.Reason.VIRTUAL_TIMEOUT
    still.stop()


def test_a_machine_that_the_host_stops_stops_the_world(world: hv.World) -> None:
    one, other = flat(world, SPINS, "one"), flat(world, SPINS, "other")
    world.start()
    one.stop("enough")
    results = world.wait()
    assert (results["one"].message, results["other"].reason) == ("enough", hv.Reason.STOPPED)
    assert "stand still, as one has stopped" in results["other"].message
    results = world.run(virtual_timeout=0.001, timeout=60)
    assert {one.reason for one in results.values()} == {hv.Reason.VIRTUAL_TIMEOUT}
    assert one.clock.now_ns - other.clock.now_ns in range(-3, 4)  # the end of a block


def test_a_machine_whose_guest_has_ended_is_not_waited_for_and_does_not_come_back(world: hv.World) -> None:
    over, runs = flat(world, SLEEPS, "over"), flat(world, SPINS, "runs")
    results = world.run(virtual_timeout=0.01, timeout=60)
    assert results["over"].reason is hv.Reason.HALTED and results["runs"].reason is hv.Reason.VIRTUAL_TIMEOUT
    assert runs.clock.now_ns >= 10_000_000
    with pytest.raises(ConfigError, match="have gone on without it"):
        over.run()
    assert set(world.run(virtual_timeout=0.001, timeout=60)) == {"over", "runs"}


def test_a_machine_that_is_closed_is_unplugged(world: hv.World) -> None:
    gone, runs = flat(world, SPINS, "gone"), flat(world, SPINS, "runs")
    runs.start(timeout=60, virtual_timeout=0.01)
    gone.close()
    result = runs.wait()
    assert result is not None and result.reason is hv.Reason.VIRTUAL_TIMEOUT


def test_what_cannot_be_in_a_world_is_refused(world: hv.World) -> None:
    by_the_wall = world.create_vm("ping", name="wall", memory="4M", clock="wall")
    with pytest.raises(ConfigError, match="wall follows the wall clock, which waits for nobody"):
        world.lan().connect(by_the_wall)
    with pytest.raises(ConfigError, match="50 us"):
        hv.Link(latency=49e-6)
    with hv.World(memory="16M") as other, pytest.raises(ConfigError, match="not of this world"):
        world.lan().connect(other.create_vm("ping", memory="4M"))
    with pytest.raises(ConfigError, match="a machine of this name"):
        world.create_vm("ping", name="wall", memory="4M")
    a = pinger(world, "a", "10.0.0.1")
    with pytest.raises(DeviceError):
        world.lan("another").connect(a)  # at the same ports
    with pytest.raises(ConfigError, match="seed="):
        hv.World(seed="x")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"link="):
        world.lan().connect(a, 100)  # type: ignore[arg-type]


def test_what_comes_from_outside_enters_no_earlier_than_others_have_relied_on(world: hv.World) -> None:
    """A machine sleeps since its beginning, and the other one has come to a second when somebody types."""
    sleeper = world.create_vm(
        b"\xfb\xf4\xeb\xfc", name="sleeper", memory="1M", format="flat", at=0x10000, mode=32
    )  # sti; again: hlt; jmp again
    world.lan().connect(sleeper)
    runs = flat(world, SPINS, "runs")
    entered: list[int] = []
    sleeper.inbox.connect("test", lambda content: entered.append(sleeper.clock.now_ns))
    sleeper.start(timeout=60)
    runs.run(virtual_timeout=0.05, timeout=60)
    assert sleeper.clock.now_ns < 1_000_000
    sleeper.inbox.put("test", b"")
    end_at = time.monotonic() + 60
    while not entered and time.monotonic() < end_at:  # its thread may be late, and then it needs the other to go on
        runs.run(virtual_timeout=0.001, timeout=60)
    sleeper.stop()
    assert entered and 49_000_000 < entered[0] < runs.clock.now_ns + 1_000_000
