"""Wheel and sdist in empty environments of every Python that is there, with what pip fetches for them (minutes, and
hundreds of megabytes): ``python -m pytest -m stress tests/test_clean_installs.py``.

The short form is `tests/test_wheel.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import from_nothing
from tests.empty_cache import empty_cache
from tests.pythons import pythons
from tests.test_wheel import FIRST_START, ROOT, build, run

PYTHONS = pythons()


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def distribution(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(request.param, ROOT, tmp_path_factory.mktemp(request.param))


@pytest.mark.stress
@pytest.mark.parametrize("version", list(PYTHONS))
def test_an_empty_environment(version: str, distribution: Path, tmp_path: Path) -> None:
    place, home = tmp_path / "environment", tmp_path / "home"
    home.mkdir()
    made = run(str(PYTHONS[version]), "-m", "venv", str(place), place=tmp_path)
    assert made.returncode == 0, made.stderr
    python = str(place / "bin" / "python")
    installed = run(python, "-m", "pip", "install", "--quiet", str(distribution), place=tmp_path)
    assert installed.returncode == 0, installed.stderr
    environment = empty_cache(home)
    started = run(python, "-c", FIRST_START, place=tmp_path, environment=environment)
    assert (started.returncode, started.stdout, started.stderr) == (0, "Hello\n", "")
    assert not list(home.iterdir())
    doctor = run(str(place / "bin" / "hypervisor"), "doctor", place=tmp_path, environment=environment)
    assert doctor.returncode == 0 and "those of the package, compiled for x86-64-v2" in doctor.stdout, doctor.stdout


@pytest.mark.stress
@pytest.mark.parametrize("version", list(PYTHONS))
def test_from_nothing_to_tests_of_ones_own(version: str, tmp_path: Path) -> None:
    """A guest, kernels and a plugin, each by one command; `python -m tests.from_nothing` prints how long they take."""
    place = tmp_path / "nothing"
    place.mkdir()
    done = from_nothing.play(build("wheel", ROOT, tmp_path / "wheel"), PYTHONS[version], place)
    assert from_nothing.good(done), done[-1]
