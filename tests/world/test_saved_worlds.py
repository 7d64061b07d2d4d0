"""Worlds in files: they go on as the world that was never stopped, and whatever is wrong with a file is a sentence."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.errors import ConfigError, HypervisorError, ImageError
from hypervisor.vm.saved import saving
from hypervisor.vm.saved.file_writer import FileWriter
from tests.world.repeat import LINES, LINK, Outcome, differences, made, outcome

IN_ANOTHER_PROCESS = """
import json, sys
import hypervisor as hv
from tests.world.repeat import outcome
with hv.World.open(sys.argv[1], memory="64M", cpus=2) as world:
    print(json.dumps(outcome(world, world.run(timeout=60))))
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    with hv.Host(memory="64M", cpus=1) as host, made(host, tmp_path_factory.mktemp("x") / "x.pcap") as world:
        return outcome(world, world.run(timeout=60))


def saved_at(part: float, file: Path, expected: Outcome) -> int:
    """Save the world when it has come so far; how much was under way then."""
    with hv.Host(memory="64M", cpus=2) as host, made(host, file.with_suffix(".pcap")) as world:
        world.start(timeout=60)
        first = next(iter(world.vms.values()))
        while first.runner is not None and first.clock.now_ns < expected["a clock"] * part:
            time.sleep(0.0005)
        with world.snapshot() as moment:
            moment.save(file)
            world.stop()
            networks = moment.networks.values()
            return sum(len(one.coming) + sum(len(port.coming) for port in one.ports) for one in networks)


def test_a_saved_world_goes_on_as_it_would_have(expected: Outcome, tmp_path: Path) -> None:
    """Frames in cables and switches, faults to come, guests that have ended."""
    rng, under_way, file = random.Random(11), 0, tmp_path / "net.hvs"
    for n in range(6):
        under_way += saved_at(rng.random() if n else 0.97, file, expected)
        with hv.World.open(file, memory="64M", cpus=1 + n % 2) as world:
            assert list(world.vms) == list(LINES) and world.seed == 7
            with world.snapshot() as moment:
                assert not differences(expected, outcome(world, world.run(timeout=60)))
                world.revert(moment)
                assert not differences(expected, outcome(world, world.run(timeout=60)))
    assert under_way


def test_another_process_goes_on_with_it(expected: Outcome, tmp_path: Path) -> None:
    saved_at(0.4, tmp_path / "net.hvs", expected)
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path / "net.hvs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

    assert not differences(expected, json.loads(done.stdout))


@pytest.mark.parametrize("how", ["forked", "saved"])
def test_machines_that_were_plugged_in_in_another_order(how: str, tmp_path: Path) -> None:
    """What becomes of frames is drawn from the numbers of ports, which those that go on keep."""

    def run(world: hv.World) -> Outcome:
        return outcome(world, world.run(timeout=60))

    with hv.World(memory="64M", seed=7) as world:
        for name, text in LINES.items():
            world.create_vm("ping", name=name, memory="4M", append=text)
        for name in ("c", "a", "b"):
            world.lan("other" if name == "b" else "lan").connect(world.vms[name], LINK)
            world.lan("lan" if name == "b" else "other").connect(world.vms[name], LINK, base=0x340, irq=11)
        world.run(virtual_timeout=0.0005, timeout=60)
        world.save(tmp_path / "net.hvs")
        second = world.fork() if how == "forked" else hv.World.open(tmp_path / "net.hvs", memory="64M")
        with second:
            assert not differences(run(world), run(second))


def test_a_fork_that_was_saved_has_the_names_of_the_first(tmp_path: Path) -> None:
    def listen(vm: hv.VM) -> None:
        vm.traps.port_out(0x80, lambda vcpu, exit: hv.HANDLED, name="count")

    image = b"\xe6\x80\xeb\xfc"
    with hv.World(memory="16M") as world:
        vm = world.create_vm(image, name="a", memory="1M", format="flat", at=0x10000, mode=32, prepare=listen)
        world.lan().connect(vm, hv.Link(latency=0.002), mac="02:00:00:00:00:42")
        with world.fork("child") as child:
            child.save(tmp_path / "net.hvs", embed=True)
    with pytest.raises(ConfigError, match="was given handlers by hand"):
        hv.World.open(tmp_path / "net.hvs", memory="16M")
    with hv.World.open(tmp_path / "net.hvs", memory="16M", prepare={"a": listen}) as opened:
        assert opened.vms["a"].name == "a"
        port = opened.members["a"].station.ports[0]
        assert port.link == hv.Link(latency=0.002) and opened.members["a"].sockets[0].mac[-1] == 0x42
        assert opened.run(virtual_timeout=0.001, timeout=60)["a"].exits["port_out"] > 0


def test_files_that_are_no_worlds(tmp_path: Path, expected: Outcome) -> None:
    with hv.boot("hello", memory="1M") as vm:
        vm.save(tmp_path / "one.hvs")
    with pytest.raises(ImageError, match="no world of them: open one of them with hypervisor"):
        hv.World.open(tmp_path / "one.hvs")
    with hv.World() as empty, pytest.raises(ConfigError, match="no machines: there is nothing to save"):
        empty.save(tmp_path / "none.hvs")
    saved_at(0.2, tmp_path / "net.hvs", expected)
    with pytest.raises(ConfigError, match=r"holds a world .*\(a, b, c\).*World.open"):
        hv.boot(tmp_path / "net.hvs")
    with pytest.raises(ConfigError, match="has no machine 'z'; it has 'a', 'b', 'c'"):
        hv.World.open(tmp_path / "net.hvs", prepare={"z": lambda vm: None})
    with pytest.raises(HypervisorError, match="no 4 MiB of memory left"):
        hv.World.open(tmp_path / "net.hvs", memory="6M")


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no seed": lambda world: world.pop("seed"),
    "a seed of letters": lambda world: world.update(seed="x"),
    "networks that are none": lambda world: world.update(networks=[1]),
    "another network": lambda world: world.update(networks=["elsewhere"]),
    "no interfaces": lambda world: world.pop("interfaces"),
    "an interface less": lambda world: world["interfaces"].update(a=[]),
    "a port that is not there": lambda world: world["interfaces"]["a"][0].update(port=7),
    "the same port twice": lambda world: world["interfaces"]["b"][0].update(port=0),
    "an address that is a group's": lambda world: world["interfaces"]["a"][0].update(mac="ff:ff:ff:ff:ff:ff"),
    "a cable that is too short": lambda world: world["interfaces"]["a"][0]["link"].update(latency=0.0),
    "a cable of words": lambda world: world["interfaces"]["a"][0]["link"].update(loss="much"),
    "no such I/O port": lambda world: world["interfaces"]["a"][0].update(base=1 << 20),
    "no such interrupt": lambda world: world["interfaces"]["a"][0].update(irq=99),
    "an end that is none": lambda world: world["ended"].update(a={"reason": "until"}),
    "records that are none": lambda world: world.update(records=5),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_says_nonsense_starts_nothing(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = FileWriter.finish

    def changed(writer: FileWriter, about: dict[str, Any]) -> None:
        CHANGES[change](about["world"])
        finish(writer, about)

    monkeypatch.setattr(saving.FileWriter, "finish", changed)
    with hv.Host(memory="64M", cpus=1) as host:
        with made(host, tmp_path / "x.pcap") as world:
            world.save(tmp_path / "net.hvs")
        with pytest.raises(HypervisorError) as told:
            hv.World.open(tmp_path / "net.hvs", host=host)
        assert str(told.value).endswith(".") and not host.vms


def test_it_is_told_how_far_the_save_of_a_world_has_come(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def enough(done: int, whole: int) -> None:
        raise KeyboardInterrupt

    with hv.Host(memory="64M", cpus=1) as host, made(host, tmp_path / "x.pcap") as world:
        world.save(tmp_path / "plain")
        world.save(tmp_path / "told", progress=lambda done, whole: told.append((done, whole)))
        assert (tmp_path / "told").read_bytes() == (tmp_path / "plain").read_bytes()
        memory = sum(vm.memory.size for vm in world.vms.values())
        assert len(told) >= len(world.vms) and told == sorted(told) and told[-1][0] == told[-1][1] >= memory
        with world.snapshot() as moment, pytest.raises(KeyboardInterrupt):
            moment.save(tmp_path / "none", progress=enough)
        assert not (tmp_path / "none").exists()
