from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hypervisor
from hypervisor import MachineConfig
from hypervisor.cli import main
from hypervisor.errors import ImageError, InternalError
from tests.cli.fakes import FakeResult, FakeVm, ends

FAKE_MAIN = str(Path(__file__).with_name("fake_main.py"))
Booted = list[tuple[FakeVm, MachineConfig]]


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[FakeVm], FakeResult]], Booted]:
    def install(script: Callable[[FakeVm], FakeResult]) -> Booted:
        booted: Booted = []

        def boot(config: MachineConfig, moment: str | None) -> FakeVm:
            booted.append((FakeVm(script), config))
            return booted[-1][0]

        monkeypatch.setattr(hypervisor, "boot", boot, raising=False)
        return booted

    return install


def test_options_reach_boot_and_run(boots: Any) -> None:
    booted = boots(ends())
    text = "run disk.img --memory 16M --cpus 4 --append quiet --initrd rd --module a=1 --module b --timeout 2"
    text += " --virtual-timeout 3 --clock wall --seed 7 --plugin dice,sides=6 --strict --reboot"
    text += " --format flat --at 0x1000 --entry 4096 --mode 32"
    assert main(text.split()) == 0
    vm, config = booted[0]
    assert config == MachineConfig(
        image="disk.img", memory="16M", cpus=4, append="quiet", initrd="rd", modules=(("a", "1"), ("b", "")),
        clock="wall", seed=7, plugins=("dice,sides=6",), strict=True, reboot=True, format="flat", at=0x1000, entry=4096,
        mode=32,
    )  # fmt: skip
    assert vm.run_arguments["virtual_timeout"] == 3.0
    assert 0 < vm.run_arguments["timeout"] <= 2.0  # what is left of it
    assert vm.closed


def test_output_goes_to_stdout_as_bytes(boots: Any, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def script(vm: FakeVm) -> FakeResult:
        vm.console.write(b"caf\xe9 ")
        vm.console.write(b"\x00\xff\n")
        return FakeResult()

    boots(script)
    assert main(["run", "hello"]) == 0
    assert capfdbinary.readouterr() == (b"caf\xe9 \x00\xff\n", b"")


def test_a_halt_names_the_place_on_stderr(boots: Any, capfd: pytest.CaptureFixture[str]) -> None:
    boots(ends(value="halted"))
    assert main(["run", "hello"]) == 123
    assert "RIP 0x7c3e (idle+0x3)" in capfd.readouterr().err
    assert main(["run", "hello", "--halt-ok"]) == 0
    assert capfd.readouterr().err == ""


def test_stats_tell_what_shares_an_exit_status(boots: Any, tmp_path: Path) -> None:
    file = tmp_path / "stats.json"
    boots(ends(value="debug-exit", status=0x17D))
    assert main(["run", "hello", "--stats", str(file)]) == 125
    assert json.loads(file.read_text()) == {
        "reason": "debug-exit",
        "message": "",
        "status": 125,
        "debug_exit": 0x17D,
        "wall_s": 0.25,
        "virtual_s": 1.5,
        "exits": {"cpuid": 1, "hlt": 2},
        "host_events": {"tlb-fill": 7},
        "host_memory_bytes": 4096,
    }


def test_stats_of_an_image_that_does_not_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def boot(image: str, **options: Any) -> FakeVm:
        raise ImageError("nothing.img: there is no such file.")

    monkeypatch.setattr(hypervisor, "boot", boot, raising=False)
    file = tmp_path / "stats.json"
    assert main(["run", "nothing.img", "--stats", str(file)]) == 125
    assert capfd.readouterr().err == "hypervisor: nothing.img: there is no such file.\n"
    assert json.loads(file.read_text())["reason"] == "host-error"


def test_an_unwritable_stats_file_is_found_before_the_guest_runs(
    boots: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    booted = boots(ends())
    assert main(["run", "hello", "--stats", str(tmp_path / "no" / "where")]) == 125
    assert "cannot be written: No such file or directory." in capfd.readouterr().err
    assert booted == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run"],
        ["run", "hello", "--no-such-option"],
        ["run", "hello", "--timeout", "soon"],
        ["run", "hello", "--timeout", "-1"],
        ["run", "hello", "--clock", "sundial"],
        ["run", "hello", "--mode", "8"],
        ["run", "hello", "--at", "there"],
        ["run", "hello", "more"],
        ["walk"],
    ],
)
def test_bad_usage_is_125_without_a_traceback(
    boots: Any, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    booted = boots(ends())
    assert main(arguments) == 125
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err
    assert "Traceback" not in captured.err
    assert booted == []


def test_a_bug_of_ours_comes_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def boot(image: str, **options: Any) -> FakeVm:
        raise InternalError("The dispatch table lost an entry. Please report this.")

    monkeypatch.setattr(hypervisor, "boot", boot, raising=False)
    assert main(["run", "hello"]) == 125
    error = capfd.readouterr().err
    assert "Traceback" in error
    assert "Please report this." in error


def test_an_unsupported_platform_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from hypervisor.engine import layout

    monkeypatch.setattr(layout, "platform_problem", lambda: "Guests cannot run on amigaos m68k.")
    assert main(["run", "hello"]) == 125
    assert capfd.readouterr().err == "hypervisor: Guests cannot run on amigaos m68k.\n"


def test_only_running_a_guest_needs_a_unix_terminal() -> None:
    code = "import sys; sys.modules['termios'] = None; from hypervisor.cli import main; sys.exit(main(['guests']))"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_signal_handlers_are_put_back(boots: Any) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    boots(ends())
    assert main(["run", "hello"]) == 0
    assert {number: signal.getsignal(number) for number in before} == before


def fake(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, FAKE_MAIN, *arguments], **pipes)


def test_piped_input_reaches_the_guest_to_its_end() -> None:
    with fake("echoes") as process:
        out, error = process.communicate(b"hello\x01x there\n", timeout=20)
    assert (out, error) == (b"ready\r\nHELLO\x01X THERE\n", b"")  # the escape is for terminals
    assert process.returncode == 0


def test_a_file_as_input(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"abc" * 5000)
    with (tmp_path / "in").open("rb") as file, fake("echoes", stdin=file) as process:
        out, _ = process.communicate(timeout=20)
    assert out == b"ready\r\n" + b"ABC" * 5000


def test_without_any_input() -> None:
    command = ["sh", "-c", f'exec "{sys.executable}" "{FAKE_MAIN}" ends <&-']
    assert subprocess.run(command, timeout=20, check=False).returncode == 0


def test_a_signal_ends_the_run_and_still_writes_stats(tmp_path: Path) -> None:
    file = tmp_path / "stats.json"
    with fake("waits", "--stats", str(file)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\r\n"
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"SIGTERM was received" in error
    assert json.loads(file.read_text())["reason"] == "stopped"


def test_a_reader_that_goes_away_ends_the_run() -> None:
    with fake("floods") as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(20) == 125
        assert process.stderr is not None
        assert b"standard output failed: Broken pipe" in process.stderr.read()


@pytest.mark.parametrize("asked", ["guests", "--help", "--version"])
def test_what_is_told_to_a_reader_that_has_gone_ends_with_a_sentence(asked: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "hypervisor", asked], stdout=output, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert done.returncode == 125
    assert done.stderr == b"hypervisor: standard output failed: Broken pipe.\n"


@pytest.mark.parametrize(
    ("closed", "status"), [("2>&-", 122), ("2>/dev/full", 122), (">&-", 125), ("<&- >&- 2>&-", 125)]
)
def test_what_is_closed_does_not_become_something_else(closed: str, status: int) -> None:
    """Descriptor 1 or 2 would be the next file that is opened, and the guest's output or a message would go there."""
    command = ["sh", "-c", f'"{sys.executable}" "{FAKE_MAIN}" warns {closed}; echo " $?"']
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
    assert done.stdout == (b"ready" if closed[0] == "2" else b"") + b" %d\n" % status


def test_a_slow_reader_loses_nothing() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with fake("floods", stdout=writer) as process:
        os.close(writer)
        received = b""
        while len(received) < 1 << 20:
            received += os.read(reader, 65536)
        process.terminate()
        while data := os.read(reader, 65536):
            received += data
        process.wait(20)
    os.close(reader)
    assert received.strip(b"x") == b""
    assert len(received) % 4096 == 0
