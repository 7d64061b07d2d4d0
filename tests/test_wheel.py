"""What is built: what is in it, that it is the same each time, and that it starts without Keystone and numba.

Here the wheel is installed beside what it needs from this environment; `tests/test_clean_installs.py` has pip fetch
that into empty ones, of every Python there is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from hypervisor.engine.compiling import cache
from hypervisor.engine.compiling.kernel_file import unpack
from hypervisor.guests import NAMES
from tests.empty_cache import empty_cache

ROOT = Path(__file__).parents[1]
KERNELS = "hypervisor/engine/compiling/x86-64-v2.kernels"
FIRST_START = """
import sys
for name in ("keystone", "numba", "llvmlite"):
    sys.modules[name] = None
from hypervisor.cli import main
sys.exit(main(["run", "hello"]))
"""


def run(*command: str, place: Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    without = ("PYTHONPATH", "SOURCE_DATE_EPOCH")
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    return subprocess.run(
        command, cwd=place, env=inherited | dict(environment or {}), capture_output=True, text=True, timeout=600
    )


def build(target: str, source: Path, place: Path, **environment: str) -> Path:
    done = run(
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        target,
        "-d",
        str(place),
        place=source,
        environment=environment,
    )
    assert done.returncode == 0, done.stderr
    (built,) = place.glob("rootmode-*")
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its kernels are compiled once for all sessions with these sources: the cache has them then."""
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def source(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist."""
    place = tmp_path_factory.mktemp("elsewhere")
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    (folder,) = place.iterdir()
    return folder


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment where pip has installed the wheel, beside the dependencies of this one."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    done = run(
        sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel),
        place=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (packages,) = place.glob("lib/python*/site-packages")
    others = next(Path(entry) for entry in sys.path if (Path(entry) / "unicorn").is_dir())
    (packages / "others.pth").write_text(f"{others}\n")
    return python


def test_contents(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"hypervisor/guests/{name}{suffix}" for name in NAMES for suffix in (".bin", ".sym")} < names
    assert "hypervisor/py.typed" in names and KERNELS in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"hypervisor", "rootmode"}
    assert not [name for name in names if name.endswith((".pyc", ".o")) or "/." in name]


def test_it_says_where_its_kernels_run(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-manylinux_2_17_x86_64.whl")
    with zipfile.ZipFile(wheel) as archive:
        (facts,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        assert "Root-Is-Purelib: false\nTag: py3-none-manylinux_2_17_x86_64\n" in archive.read(facts).decode()
        kernels = unpack(archive.read(KERNELS))
    assert (kernels.processor, kernels.made_of) == ("x86-64-v2", cache.made_of())


def test_the_sources_are_without_what_is_made_of_them(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert not [name for name in names if name.endswith((".bin", ".sym", ".kernels", ".pyc"))]
    assert any(name.endswith("/hatch_build.py") for name in names)


def test_the_first_start_compiles_nothing(installed: Path, tmp_path: Path) -> None:
    """With an empty cache, which stays empty; and from the package, not from the checkout."""
    environment = empty_cache(tmp_path)
    result = run(str(installed), "-c", FIRST_START, place=tmp_path, environment=environment)
    assert (result.returncode, result.stdout, result.stderr) == (0, "Hello\n", "")
    assert not list(tmp_path.iterdir())
    where = run(str(installed), "-c", "import hypervisor; print(hypervisor.__file__)", place=tmp_path)
    assert Path(where.stdout).is_relative_to(installed.parents[1])


def test_doctor_says_which_kernels_run(installed: Path, tmp_path: Path) -> None:
    environment = empty_cache(tmp_path)
    command = str(installed.parent / "hypervisor")
    result = run(command, "doctor", place=tmp_path, environment=environment)
    findings = {name: (state, text) for state, name, text in (line.split("\t") for line in result.stdout.splitlines())}
    state, text = findings["kernels"]
    assert state == "ok" and text.startswith("those of the package, compiled for x86-64-v2 by numba"), text
    (packages,) = installed.parents[1].glob("lib/python*/site-packages")
    assert str(packages / KERNELS) in text and "hypervisor doctor --compile" in text


def test_the_same_sources_are_the_same_files(wheel: Path, sdist: Path, source: Path, tmp_path: Path) -> None:
    """In another folder, at another time, from the checkout or from the sdist. What the kernels are when they are
    compiled again is compared in tests/engine/test_compiling.py.
    """
    assert build("wheel", source, tmp_path / "wheel").read_bytes() == wheel.read_bytes()
    assert build("sdist", source, tmp_path / "sdist").read_bytes() == sdist.read_bytes()


def test_the_time_in_them_is_the_one_that_is_asked_for(source: Path, tmp_path: Path) -> None:
    built = [build("wheel", source, tmp_path / name, SOURCE_DATE_EPOCH="1700000000") for name in ("one", "other")]
    assert built[0].read_bytes() == built[1].read_bytes()
    assert {entry.date_time for entry in zipfile.ZipFile(built[0]).infolist()} == {(2023, 11, 14, 22, 13, 20)}


def test_what_cannot_be_compiled_is_no_wheel(source: Path, tmp_path: Path) -> None:
    """And none without kernels either, which nobody would notice."""
    broken = {"PYTHONPATH": str(tmp_path), **empty_cache(tmp_path)}
    (tmp_path / "numba.py").write_text("raise ImportError('no compiler today')\n")
    kernels = source / KERNELS
    kept = kernels.read_bytes() if kernels.exists() else b""
    kernels.write_bytes(kept[:-1])
    try:
        command = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist"))
        done = run(*command, place=source, environment=broken)
    finally:
        kernels.unlink()
    assert done.returncode and "could not be compiled: The engine's compiler cannot be loaded" in done.stderr
    assert not list(tmp_path.glob("dist/*.whl"))
