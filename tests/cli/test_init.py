"""`hypervisor init`: what it makes works at once, with this interpreter; `tests/from_nothing.py` does the same in an
empty environment. The plugin is in tests/plugins/test_template.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from hypervisor.cli import main
from hypervisor.cli.init.init_command import LANGUAGES, missing_packages
from hypervisor.cli.init.template import TEMPLATES, files
from tests.programs import program

ROOT = Path(__file__).parents[2]


def make(folder: Path, *options: str) -> Path:
    assert main(["init", str(folder), *options]) == 0
    return folder


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command as somebody types it in the project, with this package on Python's path."""
    plain = {name: value for name, value in os.environ.items() if name not in ("PYTEST_ADDOPTS", "MAKEFLAGS")}
    plain |= {"PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        command, cwd=folder, env=plain, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )


def run_pytest(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = any(entry.value == "hypervisor.testing.plugin" for entry in entry_points(group="pytest11"))
    plugin = [] if known else ["-p", "hypervisor.testing.plugin"]
    command = (sys.executable, "-m", "pytest", *plugin, "-p", "no:cacheprovider", *options)
    return run(folder, *command, **environment)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_kernel_is_built_and_passes_its_tests(lang: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "one-kernel", "--lang", lang)
    passed = run_pytest(folder)
    assert passed.returncode == 0 and "3 passed" in passed.stdout, passed.stdout
    booted = run(folder, sys.executable, "-m", "hypervisor", "run", "kernel.elf", "--virtual-timeout", "5")
    assert (booted.returncode, booted.stdout) == (0, "Hello from one-kernel\n")
    there = run(
        folder, program("qemu-system-x86_64"), "-accel", "tcg", "-display", "none", "-serial", "stdio",
        "-kernel", "kernel.elf",
    )  # fmt: skip
    assert (there.returncode, there.stdout) == (0, "Hello from one-kernel\n")


def test_the_test_to_uncomment_fails_and_the_report_shows_what_was_printed(tmp_path: Path) -> None:
    folder = make(tmp_path / "one-kernel")
    tests = folder / "tests" / "test_kernel.py"
    text = tests.read_text()
    before, comment, last = text.partition("\n#\n# def test_it_says_goodbye")
    assert comment, "the commented test has gone"
    tests.write_text(before + "\n\n" + re.sub(r"^# ?", "", comment[3:] + last, flags=re.M))
    failed = run_pytest(folder)
    assert failed.returncode == 1 and "1 failed, 3 passed" in failed.stdout, failed.stdout
    assert "console" in failed.stdout and "Hello from one-kernel" in failed.stdout


def test_each_symbol_has_its_line(tmp_path: Path) -> None:
    """A crash in the kernel is reported with the place in its source."""
    folder = make(tmp_path / "dies", "--lang", "c")
    source = folder / "kernel.c"
    source.write_text(source.read_text().replace("    out16(POWER, OFF);", '    __asm__ volatile("ud2");'))
    failed = run_pytest(folder)
    assert failed.returncode == 1 and re.search(r"kernel_main\+0x\w+, kernel\.c:\d+", failed.stdout), failed.stdout


def test_a_tool_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "one-kernel")
    few = tmp_path / "few"
    few.mkdir()
    for name in ("make", "sh"):
        (few / name).symlink_to(program(name))
    built = run_pytest(folder, PATH=str(few))
    assert built.returncode == 4 and "nasm is not installed: apt-get install nasm" in built.stdout, built.stdout
    (few / "make").unlink()
    built = run_pytest(folder, PATH=str(few))
    assert built.returncode == 4 and "make is not installed" in built.stdout, built.stdout
    assert missing_packages(LANGUAGES["asm"].tools, lambda name: shutil.which(name, path=str(few))) == [
        "make", "nasm", "binutils",
    ]  # fmt: skip


def test_a_source_with_an_error_is_shown(tmp_path: Path) -> None:
    folder = make(tmp_path / "one-kernel")
    (folder / "kernel.asm").write_text("nonsense here\n")
    built = run_pytest(folder)
    assert built.returncode == 4 and "kernel.asm:1: error" in built.stdout, built.stdout


@pytest.mark.parametrize("options", [("--lang", "asm"), ("--lang", "c"), ("--plugin",)])
def test_every_ci_runs_the_same(options: tuple[str, ...], tmp_path: Path) -> None:
    """The lines for another CI are those of the workflow, and none of the words to replace is left."""
    folder = make(tmp_path / "a-name", *options)
    for path in files(folder):
        text = (folder / path).read_text()
        assert not re.search(r"my[-_](kernel|plugin)|MyPlugin|PACKAGES", f"{path} {text}"), path
        assert str(path).startswith("dot_") is False
    workflow = (folder / ".github" / "workflows" / "test.yml").read_text()
    steps = [line.replace("sudo ", "").split(" --basetemp")[0] for line in re.findall(r"- run: (.*)", workflow)]
    lines = re.findall(r"```sh\n(.*?)```", (folder / "README.md").read_text(), re.S)[-1].splitlines()
    assert steps == lines
    assert {".gitignore", ".github/workflows/test.yml"} < {path.as_posix() for path in files(folder)}


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "Makefile").write_text("mine\n")
    assert main(["init", str(mine)]) == 125
    assert "exists already, and init overwrites nothing" in capsys.readouterr().err
    assert [path.read_text() for path in mine.iterdir()] == ["mine\n"]
    (tmp_path / "file").write_text("mine")
    assert main(["init", str(tmp_path / "file")]) == 125
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["."], "letters, digits"),
        (["9lives"], "letters, digits"),
        (["a;b"], "letters, digits"),
        (["a" * 61], "at most 60"),
        (["nowhere/k"], "make that folder first"),
        (["k", "--lang", "rust"], "no template in rust; --lang takes asm or c"),
        (["k", "--lang", "c", "--plugin"], "Give one of"),
        (["json", "--plugin"], "A module cannot be called json"),
        (["class", "--plugin"], "A module cannot be called class"),
        (["hypervisor", "--plugin"], "A module cannot be called hypervisor"),
    ],
)
def test_what_cannot_be_made_is_a_sentence(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", *arguments]) == 125
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_templates_have_no_file_that_a_wheel_would_leave_out() -> None:
    """Names that begin with a dot, which ignore rules and the wheel's test are about, are spelt dot_."""
    names = [path.name for layer in ("kernel", "asm", "c", "plugin") for path in files(TEMPLATES / layer)]
    assert names and not [name for name in names if name.startswith(".")]
