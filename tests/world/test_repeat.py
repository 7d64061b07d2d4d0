"""The short form of ``python -m tests.world.repeat``: each kind of load once, on one pCPU or two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world.repeat import LOADS, PINGS, Bench, Outcome, differences


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Bench]]:
    made = [Bench(cpus, tmp_path_factory.mktemp("captures")) for cpus in (1, 2)]
    yield made
    for bench in made:
        bench.close()


@pytest.fixture(scope="module")
def expected(benches: list[Bench]) -> Outcome:
    """What one run leaves, in which frames were lost, came late and came twice."""
    outcome = benches[0].run("quiet", 0, fork=False)
    said = outcome["b says"] + outcome["c says"]
    assert said.count("no answer") >= 2 and said.count(" ns\n") >= 4 and f"{PINGS} sent" in said
    assert said.count(" 0 damaged") == 2 and said.count(" 0 late or twice") < 2
    return outcome


@pytest.mark.parametrize("load", LOADS)
def test_a_world_repeats_under_load(load: str, benches: list[Bench], expected: Outcome) -> None:
    number = list(LOADS).index(load)
    found = benches[number % 2].run(load, number, fork=number % 3 == 0)
    assert not differences(expected, found)


def test_another_seed_is_another_run(expected: Outcome, benches: list[Bench], tmp_path: Path) -> None:
    from tests.world import repeat

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeat, "SEED", repeat.SEED + 1)
        with repeat.made(benches[1].host, tmp_path / "x.pcap") as world:
            found = repeat.outcome(world, world.run(timeout=60), tmp_path / "x.pcap")
    assert {"capture", "b says", "network lan"} <= {line.split(":")[0] for line in differences(expected, found)}
