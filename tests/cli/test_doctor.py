from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hypervisor.cli import checks, doctor, main
from hypervisor.cli.checks import Check, Finding, State
from hypervisor.cli.doctor import examine, exit_status
from hypervisor.engine.compiling import choosing, compiler
from hypervisor.engine.compiling.choosing import Chosen
from hypervisor.engine.compiling.kernel_file import KernelFile
from hypervisor.engine.compiling.linking import Linked


def whole() -> Finding:
    return Finding("whole", State.OK, "fine")


def noteworthy() -> Finding:
    return Finding("noteworthy", State.NOTE, "cold")


def broken() -> Finding:
    return Finding("broken", State.BROKEN, "missing; install it")


def raising() -> Finding:
    raise ImportError("libunicorn.so.2: no such file")


def test_only_what_is_broken_fails() -> None:
    assert exit_status(examine([whole, noteworthy])) == 0
    assert exit_status(examine([whole, broken, noteworthy])) == 1


def test_a_check_that_cannot_run_is_a_finding_and_the_others_go_on() -> None:
    findings = examine([raising, whole])
    assert findings[0].state is State.BROKEN
    assert "libunicorn.so.2: no such file" in findings[0].text
    assert findings[1] == whole()


@pytest.mark.parametrize(("check", "status"), [(noteworthy, 0), (broken, 1)])
def test_the_command_prints_findings(
    check: Check, status: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (whole, check))
    assert main(["doctor"]) == status
    out = capfd.readouterr().out
    assert "fine" in out
    assert check().text in out


def test_a_foreign_distribution_is_named() -> None:
    assert checks.foreign_distributions({"hypervisor": ["rootmode"]}) == []
    assert checks.foreign_distributions({"hypervisor": ["rootmode", "hypervisor"]}) == ["hypervisor"]
    assert checks.foreign_distributions({}) == []


def test_a_foreign_directory_on_the_path_is_named(tmp_path: Path) -> None:
    own = tmp_path / "ours" / "hypervisor"
    foreign = tmp_path / "theirs" / "hypervisor"
    copy = tmp_path / "copy" / "hypervisor"
    for place in (own, foreign, copy):
        place.mkdir(parents=True)
        (place / "__init__.py").touch()
    (copy / "engine").mkdir()
    (copy / "engine" / "layout.py").touch()
    path = [str(place.parent) for place in (own, foreign, copy)]
    assert checks.foreign_directories([*path, str(tmp_path / "missing")], own) == [str(foreign / "__init__.py")]


def test_a_missing_assembler_does_not_keep_guests_from_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "installed_version", lambda name: None)
    assert checks.keystone().state is State.NOTE
    assert checks.unicorn().state is State.BROKEN
    assert checks.numba().state is State.BROKEN


def test_an_unknown_unicorn_names_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "installed_version", lambda name: "2.2.0")
    finding = checks.unicorn()
    assert finding.state is State.BROKEN
    assert "2.2.0 is not a version" in finding.text
    assert "pip install unicorn==" in finding.text


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert checks.python() == Finding("Python", State.BROKEN, "3.10.4 is too old; install Python 3.11 or newer.")


def test_an_unsupported_platform_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from hypervisor.engine import layout

    monkeypatch.setattr(layout, "platform_problem", lambda: "Guests cannot run on amigaos m68k.")
    assert checks.platform() == Finding("platform", State.BROKEN, "Guests cannot run on amigaos m68k.")


MADE = KernelFile("sources", "A Processor", "numba 1", Linked(b"", {}, [], {}, 0), {}, b"")
HERE = Chosen(MADE, Path("/cache/abc/kernels"))
SHIPPED = Chosen(MADE._replace(processor="x86-64-v2"), choosing.SHIPPED)


@pytest.mark.parametrize(
    ("chosen", "state", "text"),
    [
        (HERE, State.OK, "compiled here, for this processor (A Processor) by numba 1; /cache/abc/kernels"),
        (
            SHIPPED,
            State.OK,
            f"those of the package, compiled for x86-64-v2 by numba 1; {choosing.SHIPPED} "
            "(`hypervisor doctor --compile` makes some for this very processor)",
        ),
        ("they have holes", State.NOTE, "none yet: the next run compiles for up to 30 s, as they have holes"),
    ],
)
def test_which_kernels_run(chosen: Chosen | str, state: State, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "choose", lambda: chosen)
    assert checks.kernels() == Finding("kernels", state, text)


@pytest.mark.parametrize(
    ("chosen", "reasons"),
    [
        (HERE, []),
        (SHIPPED, ["those of the package are not for this very processor"]),
        ("they have holes", ["they have holes"]),
    ],
)
def test_kernels_are_compiled_on_request_where_there_are_no_better_ones(
    chosen: Chosen | str, reasons: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(choosing, "choose", lambda: chosen)
    monkeypatch.setattr(compiler, "fill", asked.append)
    monkeypatch.setattr(doctor, "CHECKS", (whole,))
    assert main(["doctor"]) == 0 and not asked
    assert main(["doctor", "--compile"]) == 0 and asked == reasons
    assert "fine" in capfd.readouterr().out
