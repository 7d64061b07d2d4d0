"""Several machines in one file: each goes on as it would have, and what they have in common is there once."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.vm.saved import page_runs
from hypervisor.vm.saved.opening import SavedMachine
from hypervisor.vm.saved.page_runs import PageRun
from tests.cli.command import hypervisor
from tests.snapshots.damage import Victim, rounds
from tests.twins.resume import outcome

MOMENTS = {"early": 0.01, "late": 0.03, "later": 0.05}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """One machine at three moments."""
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(range(256)) * 256)
    snapshots = {}
    with hv.boot("preempt", memory="4M", disks=[str(disk)], floppy=disk.read_bytes()) as vm:
        vm.memory.write(0x200000, Random(0).randbytes(1 << 20))
        for number, (name, seconds) in enumerate(MOMENTS.items()):
            vm.run(virtual_timeout=seconds - vm.clock.now_ns / 1e9)
            vm.media.disks[0].write(8 * number, b"x" * 512)
            vm.memory.write(0x200000 + 4096 * number, b"changed")
            snapshots[name] = vm.snapshot()
            snapshots[name].save(tmp_path / name)
        hv.save_together(tmp_path / "together", snapshots)
        for snapshot in snapshots.values():
            snapshot.close()
    return tmp_path / "together"


def test_each_goes_on_as_it_does_alone(file: Path) -> None:
    for name in MOMENTS:
        with hv.boot(file, moment=name) as vm, hv.boot(file.with_name(name)) as alone:
            assert vm.state() == alone.state()
            assert outcome(vm, 10**9) == outcome(alone, 10**9)
    with hv.boot(file) as vm, hv.Host("8M", 1) as host:
        assert vm.state() == host.create_vm(file, moment="early").state()


def test_what_they_have_in_common_is_there_once(file: Path) -> None:
    alone = {name: file.with_name(name).stat().st_size for name in MOMENTS}
    assert file.stat().st_size < max(alone.values()) + 200_000 < sum(alone.values()) / 2
    with SavedMachine(file, "later") as saved:
        counts = saved.records.pages.counts["memory"]
        assert 2 <= counts.pages < 20 and counts.same > 256
        assert [name for name in saved.file.streams if name.startswith("image")] == ["image 0 (floppy)"]


def test_the_command_knows_their_names(file: Path) -> None:
    told = hypervisor("info", str(file)).stdout.decode()
    assert [line.split("\t")[1] for line in told.splitlines() if line.startswith("moment")] == list(MOMENTS)
    for name in MOMENTS:
        result = hypervisor("run", str(file), "--moment", name, "--virtual-timeout", "0.001")
        with hv.boot(file, moment=name) as vm:
            vm.run(virtual_timeout=0.001)
            assert f"RIP {vm.vcpu.rip:#x}".encode() in result.stderr, result.stderr


def test_a_name_that_is_not_there(file: Path) -> None:
    with pytest.raises(hv.ConfigError, match="has no machine 'never'; it has 'early', 'late', 'later'"):
        hv.boot(file, moment="never")
    with pytest.raises(hv.ConfigError, match="moment='x': that says which machine of a file is meant"):
        hv.boot("hello", moment="x")
    with pytest.raises(hv.ConfigError, match="nothing to save"):
        hv.save_together(file, {})


def test_pages_that_another_machine_should_have_are_looked_for(file: Path) -> None:
    """A file that says of more pages than there are that they are the first machine's."""
    victim = Victim(file.parent, file)
    streams = dict(victim.streams)
    rows: Any = victim.about["moments"]["later"]["records"]["sparse"]["memory"]
    streams["later: same memory"] = page_runs.to_bytes([PageRun(1, rows[2])])
    victim.write(streams, victim.about)
    with pytest.raises(hv.ImageError, match="another machine has pages of memory that are not there"):
        hv.boot(victim.path, moment="later")


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_within_others_as_sets_are(seed: int) -> None:
    rng = Random(seed)
    outer = sorted(rng.sample(range(40), 25))
    inner = sorted(rng.sample(outer if seed % 2 else range(40), rng.randrange(12)))
    assert page_runs.within(page_runs.runs_of(inner), page_runs.runs_of(outer)) == (set(inner) <= set(outer))
    assert list(page_runs.numbers_of(page_runs.runs_of(outer))) == outer


def test_damage_of_such_a_file(file: Path) -> None:
    assert rounds(40, 3, file, "later")["outside: ImageError"] >= 18
