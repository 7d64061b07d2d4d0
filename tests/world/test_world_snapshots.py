"""Worlds as values: forks and reverts at random moments go on as the world that was never stopped."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.errors import ConfigError
from tests.world.repeat import Outcome, differences, made, outcome


def to_the_end(world: hv.World) -> Outcome:
    return outcome(world, world.run(timeout=60))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    with hv.Host(memory="64M", cpus=1) as host, made(host, tmp_path_factory.mktemp("x") / "x.pcap") as world:
        return to_the_end(world)


def test_forks_and_reverts_in_the_middle_go_on_as_the_world_did(expected: Outcome, tmp_path: Path) -> None:
    """Whatever is under way then: frames in cables, in the switch, in an interface's queue; timers, faults to come."""
    rng, under_way = random.Random(5), 0
    with hv.Host(memory="64M", cpus=2) as host:
        for _ in range(6):
            with made(host, tmp_path / "x.pcap") as world:
                for vm in world.vms.values():
                    vm.start(timeout=60)
                first, come_to = next(iter(world.vms.values())), rng.random() * expected["a clock"]
                while first.runner is not None and first.clock.now_ns < come_to:
                    time.sleep(0.0005)
                with world.snapshot() as moment:
                    under_way += sum(len(one.coming) for one in moment.networks.values())
                    under_way += sum(len(port.coming) for one in moment.networks.values() for port in one.ports)
                    under_way += sum(len(one.taken) for one in moment.members.values())
                    with moment.fork("child") as child:
                        assert [vm.name for vm in child.vms.values()] == ["a.child", "b.child", "c.child"]
                        assert not differences(expected, to_the_end(child))
                        child.revert(moment)
                        assert not differences(expected, to_the_end(child))
                    assert not differences(expected, outcome(world, world.wait()))
                    world.revert(moment)
                    assert not differences(expected, to_the_end(world))
    assert under_way


def test_a_world_that_was_put_back_while_it_ran_goes_on_from_there(expected: Outcome, tmp_path: Path) -> None:
    with hv.Host(memory="64M", cpus=2) as host, made(host, tmp_path / "x.pcap") as world:
        with world.snapshot() as begin:
            for _ in range(5):
                world.start(timeout=60)
                time.sleep(0.01)
                if any(vm.runner is None for vm in world.vms.values()):
                    world.wait()
                world.revert(begin)
                assert all(vm.clock.now_ns == 0 for vm in world.vms.values()) or any(
                    vm.runner for vm in world.vms.values()
                )
                world.stop()
                world.revert(begin)
        assert not differences(expected, to_the_end(world))


def test_a_machine_does_not_go_back_alone(tmp_path: Path) -> None:
    with hv.Host(memory="64M", cpus=1) as host, made(host, tmp_path / "x.pcap") as world:
        a = world.vms["a"]
        with a.snapshot() as moment:
            for go_back in (lambda: a.revert(moment), lambda: a.restore(a.state())):
                with pytest.raises(ConfigError, match="a shares its time with the machines on its network"):
                    go_back()
        with made(host, tmp_path / "y.pcap", {"x": "10.0.0.1"}) as other, other.snapshot() as moment:
            with pytest.raises(ConfigError, match="another world"):
                world.revert(moment)


def test_a_fork_has_what_prepare_gave(tmp_path: Path) -> None:
    heard: dict[str, int] = {}

    def listen(vm: hv.VM) -> None:
        @vm.traps.port_out(0x80, name="count")
        def count(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            heard[vm.name] = heard.get(vm.name, 0) + 1
            return hv.HANDLED

    with hv.World(memory="16M") as world:
        vm = world.create_vm(
            b"\xe6\x80\xeb\xfc", name="a", memory="1M", format="flat", at=0x10000, mode=32, prepare=listen
        )
        world.lan().connect(vm)
        world.run(virtual_timeout=0.001, timeout=60)
        with world.fork() as fork:
            fork.run(virtual_timeout=0.001, timeout=60)
        world.run(virtual_timeout=0.001, timeout=60)
    assert heard["a"] == 2 * heard["a.fork1"]
