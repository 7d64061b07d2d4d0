"""The benchmark image does what the benchmarks say it does, under QEMU and here, and the table is built from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv
from bench import image, qemu, report, rows
from bench.measure import QEMU, QEMU_THREADS, Figures

TESTS = sorted({row.test for row in rows.ROWS if isinstance(row, rows.Micro)})


@pytest.fixture(scope="module")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield image.build(tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize("test", TESTS)
def test_every_image_runs_under_qemu(micro: Path, test: int) -> None:
    qemu.micro(micro, test, 2)


def test_an_image_that_fails_is_noticed(micro: Path) -> None:
    with pytest.raises(qemu.PeerError, match="status 65, not 33"):
        qemu.micro(micro, 99, 1)


@pytest.mark.parametrize("test", TESTS)
def test_every_image_runs_here(micro: Path, test: int) -> None:
    with closing(hv.boot(str(micro), memory="64M", append=f"{test} 2", disks=[micro])) as vm:
        result = vm.run(timeout=60)
    assert (result.reason, result.status) == (hv.Reason.DEBUG_EXIT, image.SUCCESS), result.message


@pytest.fixture(scope="module")
def ipi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image.build_ipi(tmp_path_factory.mktemp("ipi"))


@pytest.mark.parametrize("test", [1, 2])
@pytest.mark.parametrize("accelerator", [qemu.ONE_THREAD, qemu.MANY_THREADS])
def test_the_image_for_processors_runs_under_qemu(ipi: Path, accelerator: str, test: int) -> None:
    qemu.processors(ipi, accelerator, 2, test, 10)


@pytest.mark.parametrize("clock", rows.CLOCKS)
def test_the_ipi_image_sends_as_many_as_asked(ipi: Path, clock: str) -> None:
    interrupts = []
    for rounds in (0, 10):
        with closing(hv.boot(str(ipi), memory="64M", append=f"1 {rounds}", cpus=2, clock=clock)) as vm:
            result = vm.run(timeout=60)
        assert (result.reason, result.status) == (hv.Reason.DEBUG_EXIT, image.SUCCESS), result.message
        interrupts.append(result.exits.get("interrupt", 0))
    assert interrupts == [0, 20]


def test_rows_for_several_processors_show_both_kinds_of_qemu() -> None:
    row = rows.Processors("Linux", 2, {clock: rows.Bound(1.2, 0.9) for clock in rows.CLOCKS})
    figures = Figures(row, values={QEMU: 2.0, QEMU_THREADS: 1.0, "virtual": 3.0, "wall": 2.0})
    assert report.line(figures) == "| Linux | 2 s | 1 s | 3 s | **1.50** | 1.2 (0.9) | 2 s | 1.00 | 1.2 (0.9) |"
    assert report.over([figures]) == ["Linux (virtual): 1.5, limit 1.2 (0.9)"]


def _figures(**values: float) -> Figures:
    row = rows.Micro("sieve", 10, 1, 1, {"virtual": rows.Bound(3.5, 2.0), "wall": rows.Bound(2.2, 1.7)})
    return Figures(row, values=values)


def test_a_figure_over_its_limit_is_bold_and_reported() -> None:
    figures = _figures(qemu=1e-6, virtual=3e-6, wall=2.5e-6)
    assert report.line(figures) == "| sieve | 1 us | 3 us | 3.00 | 3.5 (2) | 2.5 us | **2.50** | 2.2 (1.7) |"
    assert report.over([figures]) == ["sieve (wall): 2.5, limit 2.2 (1.7)"]


def test_what_was_not_measured_is_reported() -> None:
    figures = _figures()
    figures.problem = "PeerError: no"
    assert "| - | - | - |" in report.line(figures)
    assert report.over([figures]) == ["sieve: not measured: PeerError: no"]
    assert "## Not measured\n\n- sieve: PeerError: no" in report.markdown([figures], 5, False, "QEMU")


def test_every_row_can_be_written() -> None:
    values = {"qemu": 1.0, "virtual": 1.0, "wall": 1.0, "ours": 1.0}
    for row in rows.ROWS:
        assert row.name in report.line(Figures(row, values=values))


def test_published_figures_are_read_back_where_they_can_stand_beside_new_ones(tmp_path: Path) -> None:
    values = {"qemu": 1.0, "virtual": 2.0, "wall": 3.0, "ours": 4.0}
    figures = [Figures(row, samples={"qemu": [1.0]}, values=values) for row in rows.ROWS]
    place = tmp_path / "benchmarks.json"
    report.write_json(place, figures, 5, False, "QEMU")
    assert list(report.read_json(place, 5, "QEMU").values()) == figures
    for repeat, peer in ((3, "QEMU"), (5, "another QEMU")):
        with pytest.raises(report.OtherRunError, match="measure all rows again"):
            report.read_json(place, repeat, peer)
    report.write_json(place, figures[1:], 5, False, "QEMU")
    with pytest.raises(report.OtherRunError, match=re.escape(f"no row {rows.ROWS[0].name!r}")):
        report.read_json(place, 5, "QEMU")
