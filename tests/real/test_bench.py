"""The benchmark image does what the benchmarks say it does, under QEMU and here, and the table is built from it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv
from bench import image, qemu, report, rows
from bench.measure import Figures

TESTS = sorted({row.test for row in rows.ROWS if isinstance(row, rows.Micro)})


@pytest.fixture(scope="module")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield image.build(tmp_path_factory.mktemp("bench"))


@pytest.mark.skipif(shutil.which(qemu.PROGRAM) is None, reason="QEMU IS NOT INSTALLED: apt-get install qemu-system-x86")
@pytest.mark.parametrize("test", TESTS)
def test_every_image_runs_under_qemu(micro: Path, test: int) -> None:
    qemu.micro(micro, test, 2)


@pytest.mark.skipif(shutil.which(qemu.PROGRAM) is None, reason="QEMU IS NOT INSTALLED: apt-get install qemu-system-x86")
def test_an_image_that_fails_is_noticed(micro: Path) -> None:
    with pytest.raises(qemu.PeerError, match="status 65, not 33"):
        qemu.micro(micro, 99, 1)


@pytest.mark.parametrize("test", TESTS)
def test_every_image_runs_here(micro: Path, test: int) -> None:
    with closing(hv.boot(str(micro), memory="64M", append=f"{test} 2")) as vm:
        result = vm.run(timeout=60)
    assert (result.reason, result.status) == (hv.Reason.DEBUG_EXIT, image.SUCCESS), result.message


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
