"""Sets of machines, made from their descriptions and run."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.cli.up.fleet_table import of_event
from tests.memory.giving import CODE

FLAT = 'format = "flat"\nat = 0x8000\nmode = 16\nmemory = "4M"\n'
PINGS = """
[host]
cpus = 2
seed = 7
[network.lan]
capture = "lan.pcap"
[vm.a]
image = "ping"
memory = "4M"
append = "10.0.0.1"
networks = ["lan"]
[vm.b]
image = "ping"
memory = "4M"
append = "10.0.0.2 10.0.0.1 5"
networks = [{name = "lan", latency = 0.001, loss = 0.2, reorder = 0.2}]
weight = 2
[vm.c]
image = "hello"
memory = "16M"
"""


def flat(path: Path, source: str) -> str:
    path.write_bytes(assemble(source, origin=0x8000, mode=16).code)
    return str(path)


def test_a_set_runs_and_is_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen = []
    for _ in range(2):
        with hv.Fleet(hv.FleetConfig.from_toml(PINGS)) as fleet:
            assert fleet["b"].share.weight == 2 and list(fleet.vms) == ["a", "b", "c"]
            fleet.start()
            results = fleet.wait(60)
            ends = {name: result.reason for name, result in results.items()}
            assert ends == {"a": hv.Reason.IDLE, "b": hv.Reason.POWERED_OFF, "c": hv.Reason.POWERED_OFF}
            seen.append((fleet["b"].console.text, fleet["b"].clock.now_ns))
        seen[-1] += ((tmp_path / "lan.pcap").read_bytes(),)
    assert seen[0] == seen[1] and "5 sent" in seen[0][0]


def test_machines_are_paused_resumed_stopped_and_saved(tmp_path: Path) -> None:
    image = flat(tmp_path / "loop", "sti; again: inc bx; jmp again")
    text = "".join(f'[vm.{name}]\nimage = "{image}"\n{FLAT}' for name in ("a", "b"))
    with hv.Fleet(hv.FleetConfig.from_toml(text)) as fleet, fleet.events() as events:
        fleet.start()
        assert fleet.pause("a") and fleet.figures().vm("a").state == "paused"
        fleet.save("a", tmp_path / "a.machine")
        assert fleet.figures().vm("a").state == "paused"
        fleet.resume("a")
        heard: list[str] = []

        def hear(until: str) -> None:
            while until not in heard:
                event = events.next(10)
                assert event is not None
                if event.vm == "a":
                    heard.append(event.what.value)

        hear("resumed")
        result = fleet.stop("a")
        assert result is not None and result.reason is hv.Reason.STOPPED
        assert fleet.running == ["b"] and not fleet.pause("a")
        fleet.resume("a")
        assert fleet.running == ["a", "b"]
        fleet.stop_all("enough")
        assert {result.message for result in fleet.results.values()} == {"enough"}
        with pytest.raises(hv.ConfigError, match="there is no machine 'x'"):
            fleet.pause("x")
        hear("stopped")
        assert heard == ["started", "paused", "resumed", "stopped"]
    with hv.boot(str(tmp_path / "a.machine")) as vm:
        assert vm.run(virtual_timeout=0.001).reason is hv.Reason.VIRTUAL_TIMEOUT


def test_what_cannot_be_made_is_told_with_its_place_and_leaves_nothing(tmp_path: Path) -> None:
    threads = threading.active_count()
    good = '[vm.a]\nimage = "hello"\nmemory = "16M"\n'
    for more, said in (
        ('[vm.b]\nimage = "no such file"\n', "the text:4: b: "),
        ('[vm.b]\nimage = "hello"\nmemory = "16M"\npcpus = [3]\n', "the text:4: b: pcpus="),
        ('[host]\nmemory = "8M"\n', "the text:1: a: The host has no 16 MiB"),
    ):
        with pytest.raises(hv.HypervisorError) as raised:
            hv.Fleet(hv.FleetConfig.from_toml(good + more))
        assert str(raised.value).startswith(said)
    assert threading.active_count() == threads


def test_consoles_are_kept_and_logged_as_described(tmp_path: Path) -> None:
    member = f'image = "hello"\nmemory = "16M"\nlog = "{tmp_path / "hello.log"}"\nlog_limit = "8K"\nconsole = "8K"\n'
    with hv.Fleet(hv.FleetConfig.from_toml(f"[vm.a]\n{member}")) as fleet:
        assert {stream.kept for stream in fleet["a"].consoles.values()} == {8192}
        fleet.start()
        fleet.wait(60)
        written = fleet["a"].console.bytes
    assert written and (tmp_path / "hello.log").read_bytes() == written


def test_one_that_fails_on_a_network_does_not_let_the_others_wait_for_ever(tmp_path: Path) -> None:
    image = flat(tmp_path / "loop", "again: out 0x80, al; jmp again")
    member = f'image = "{image}"\n{FLAT}networks = ["lan"]\n'
    text = f"[network.lan]\n[vm.a]\n{member}[vm.b]\n{member}"
    with hv.Fleet(hv.FleetConfig.from_toml(text)) as fleet:

        @fleet["a"].traps.port_out(0x80)
        def fails(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            raise RuntimeError("a mistake")

        fleet.start()
        results = fleet.wait(60)
        assert results["a"].reason is hv.Reason.HOST_ERROR
        assert results["b"].reason is hv.Reason.STOPPED and "as a has stopped" in results["b"].message


def test_a_set_on_a_host_with_little_memory_asks_its_balloons(tmp_path: Path) -> None:
    """One gives, one grows and then waits; who watches the set sees both."""
    (tmp_path / "gives").write_bytes(CODE)
    grows = "mov edi, 0x100000; more: mov [edi], edi; add edi, 4096; mov ecx, 4000; slow: loop slow"
    grows = assemble(f"{grows}; cmp edi, {13 << 20}; jb more; stays: inc ebx; jmp stays", origin=0x10000, mode=32).code
    (tmp_path / "grows").write_bytes(grows)
    form = 'format = "flat"\nat = 0x10000\nmode = 32\n'
    text = f"""
[host]
memory = "16M"
cpus = 2
overcommit = 4
swap = "16M"
[vm.gives]
image = "{tmp_path / "gives"}"
memory = "8M"
plugins = ["hypervisor:Balloon,most=300"]
{form}
[vm.grows]
image = "{tmp_path / "grows"}"
memory = "16M"
{form}"""
    with hv.Fleet(hv.FleetConfig.from_toml(text)) as fleet, fleet.events() as events:
        fleet.vms["gives"].run(virtual_timeout=0.001)
        fleet.start(timeout=60)
        given: list[int] = []
        while max(given, default=0) == 0 and len(fleet.running) == 2:
            time.sleep(0.005)
            given.append(fleet.figures().vm("gives").memory.ballooned)
        assert 0 < given[-1] <= 300 * 4096
        fleet.stop_all()
        heard = [event for _ in range(20) if (event := events.next(0.0)) is not None]
        asked = [event for event in heard if event.what is hv.What.ASKED]
        assert {event.vm for event in asked} == {"gives"} and "little memory left" in of_event(asked[0])
        assert {result.reason for result in fleet.results.values()} == {hv.Reason.STOPPED}, "no byte was wrong"
