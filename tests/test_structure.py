"""The rules of the house, held by tools: style, types, who may import whom, and what an import may cost."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import hypervisor
from tests import house, import_graph

ROOT = Path(__file__).parents[1]
HEAVY = {"capstone", "keystone", "llvmlite", "numba", "numpy", "rich", "typer", "unicorn", "zstandard"}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["mypy"], ["lint-imports"]], ids=lambda tool: tool[0])
def test_lint(command: list[str]) -> None:
    tool = shutil.which(command[0], path=sysconfig.get_path("scripts"))
    assert tool, f"{command[0]} is missing from this environment; run: pip install -e '.[test]'"
    result = run(tool, *command[1:])
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("module", ["hypervisor", "hypervisor.cli"])
def test_an_import_brings_in_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    result = run(sys.executable, "-c", code)
    assert result.returncode == 0, result.stderr
    assert HEAVY.isdisjoint(result.stdout.split())


def test_running_a_guest_does_not_import_rich() -> None:
    code = (
        "import sys, hypervisor.cli; status = hypervisor.cli.main(['run', '--help']);"
        "assert status == 0; print(*sorted(sys.modules), file=sys.stderr)"
    )
    result = run(sys.executable, "-c", code)
    assert result.returncode == 0, result.stderr
    assert HEAVY - {"typer"} <= HEAVY - {name.partition(".")[0] for name in result.stderr.split()}


def test_every_room_is_covered_by_the_import_rules() -> None:
    """The layers contract is exhaustive, but the others list rooms by name: a new room must be added to them."""
    import tomllib

    rooms = {path.stem for path in (ROOT / "hypervisor").iterdir() if _is_room(path)}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    for contract in contracts:
        if contract["id"].endswith(("-only", "-in-debug", "-in-assembler")):
            named = {name.removeprefix("hypervisor.") for name in contract["source_modules"]}
            assert len(rooms - named) == 1, f"{contract['id']} does not name {sorted(rooms - named)}"


def _is_room(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.py"))
    return path.suffix == ".py" and not path.name.startswith("_")


def test_the_face_is_the_same_for_the_type_checker() -> None:
    tree = ast.parse((ROOT / "hypervisor" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(hypervisor.__all__)


@pytest.mark.parametrize("first", ["Host", "pc", "Reason", "run_asm"])
def test_the_face_is_the_same_whatever_is_used_first(first: str) -> None:
    """Names are loaded lazily, and a room of the same name as a function would take its place."""
    code = f"import hypervisor as hv; hv.{first}; print(all(callable(getattr(hv, n)) for n in ('boot', 'pc', 'Host')))"
    result = run(sys.executable, "-c", code)
    assert result.stdout == "True\n", result.stderr


MOST_IN_A_CIRCLE = 4
MOST_IN_A_FOLDER = 18
MOST_LINES = 450
LONGER = {
    "hypervisor/engine/compiling/hooks.py": "the list of entry points, of a few lines each",
}
"""Files that may have more, and why."""


def test_circles_of_imports_are_small_and_within_a_room() -> None:
    """Imports for type checkers count: who reads a file follows them, too."""
    for circle in import_graph.circles(import_graph.imports()):
        assert len(circle) <= MOST_IN_A_CIRCLE, circle
        assert len({name.rpartition(".")[0] for name in circle}) == 1 or _package_and_its_own(circle), circle


def _package_and_its_own(circle: list[str]) -> bool:
    """Whether a circle is of a package and modules in it."""
    return all(name.startswith(circle[0]) for name in circle)


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"d", "f2"}, "f2": {"f"}}
    assert import_graph.circles(graph) == [["a", "b", "c"], ["f", "f2"]]


def test_no_folder_is_too_full() -> None:
    """Devices are many by nature."""
    full = {str(folder): count for folder, count in house.folders().items() if count > MOST_IN_A_FOLDER}
    assert set(full) <= {"hypervisor/devices"}, full


def test_no_file_is_too_long() -> None:
    """One that is has a reason, and a reason that is needed no longer goes."""
    long = {str(path): lines for path, lines in house.lengths().items() if lines > MOST_LINES}
    assert long.keys() == LONGER.keys(), long


def test_names_of_files_say_which_one_is_meant() -> None:
    """No two modules of one base name; and none begins with an underscore."""
    names: dict[str, list[str]] = {}
    for name, path in import_graph.modules().items():
        if path.name not in ("__init__.py", "__main__.py"):
            names.setdefault(name.rpartition(".")[2], []).append(name)
    twice = {base: those for base, those in names.items() if len(those) > 1}
    assert not twice, twice
    assert [base for base in names if base.startswith("_")] == ["_face"]
