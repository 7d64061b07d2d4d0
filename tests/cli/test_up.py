"""``hypervisor up`` for programs: lines of JSON, statuses, signals, and readers that go away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import ROOT, flat, hypervisor

LOOP = "again: inc bx; jmp again"
CRASH = "lidt [table]; int3; table: .word 0; .dword 0"
POWER_OFF = "mov dx, 0x604; mov ax, 0x2000; out dx, ax"
PRINTS = "again: mov al, 'x'; mov dx, 0x3f8; out dx, al; jmp again"


def described(folder: Path, more: str = "", **sources: str) -> str:
    """A file that describes a machine for each source."""
    text = more
    for name, source in sources.items():
        image = flat(folder / name, source)
        text += f'[vm.{name}]\nimage = "{image}"\nformat = "flat"\nat = 0x8000\nmode = 16\nmemory = "4M"\n'
    path = folder / "hosts.toml"
    path.write_text(text)
    return str(path)


def lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def begun(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hypervisor", "up", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def test_events_and_figures_come_as_lines(tmp_path: Path) -> None:
    done = hypervisor("up", described(tmp_path, "[host]\ncpus = 2\n", a=POWER_OFF, b="cli; hlt"), "--interval", "0.1")
    assert done.returncode == 0
    assert done.stderr.startswith(b"hypervisor: b: halted: HLT with interrupts off")
    found = lines(done.stdout)
    events = [(one["vm"], one["event"], one["reason"]) for one in found if "event" in one]
    assert sorted(events) == [
        ("a", "started", None), ("a", "stopped", "powered-off"), ("b", "started", None), ("b", "stopped", "halted"),
    ]  # fmt: skip
    figures = found[-1]["figures"]
    assert {name: vm["state"] for name, vm in figures["vms"].items()} == {"a": "powered-off", "b": "halted"}
    assert figures["memory"]["size"] == 8 << 20 and len(figures["pcpus"]) == 2
    assert set(figures["vms"]["a"]["memory"]) == {"own", "shared", "zero", "ballooned", "asked", "swapped"}


def test_figures_come_at_intervals_while_guests_run(tmp_path: Path) -> None:
    done = hypervisor("up", described(tmp_path, a=LOOP, b=LOOP), "--interval", "0.2", "--timeout", "1.5")
    assert done.returncode == 124
    figures = [one["figures"] for one in lines(done.stdout) if "figures" in one]
    assert len(figures) >= 3
    for name in ("a", "b"):
        assert any(one["vms"][name]["cpu"]["run"] > 0.1 and one["vms"][name]["cpu"]["ready"] > 0.1 for one in figures)
        times = [one["vms"][name]["virtual_s"] for one in figures]
        assert times == sorted(times) and times[-1] > 0


def test_a_crash_is_told_with_its_report(tmp_path: Path) -> None:
    done = hypervisor("up", described(tmp_path, a=CRASH, b=POWER_OFF))
    assert done.returncode == 126
    assert b"hypervisor: a: crashed: triple fault" in done.stderr and b"last exit or interrupt" in done.stderr
    assert ("a", "crashed") in [(one["vm"], one["event"]) for one in lines(done.stdout) if "event" in one]


def test_mistakes_in_the_file_are_told_with_their_lines(tmp_path: Path) -> None:
    path = described(tmp_path, "[host]\ncpuz = 2\n", a=POWER_OFF)
    done = hypervisor("up", path)
    assert done.returncode == 125 and done.stdout == b""
    assert done.stderr == f"hypervisor: {path}:2: a host has no 'cpuz'. Did you mean cpus?\n".encode()
    assert hypervisor("up", str(tmp_path / "none")).returncode == 125
    assert b"--interval is 0" in hypervisor("up", path, "--interval", "0").stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("source", [LOOP, PRINTS], ids=["loops", "prints"])
def test_a_signal_ends_all(tmp_path: Path, number: signal.Signals, source: str) -> None:
    with begun(described(tmp_path, a=source, b=source), "--interval", "0.1") as process:
        assert process.stdout is not None
        started, line = 0, b""
        while started < 2 or b"figures" not in line:
            line = process.stdout.readline()
            assert line, "it has ended by itself"
            started += b'"started"' in line
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(30) == 128 + number
    ends = [(one["vm"], one["event"], one["message"]) for one in lines(rest) if "event" in one]
    assert sorted(ends) == [(name, "stopped", f"{number.name} was received") for name in ("a", "b")]


def test_a_reader_that_goes_away_ends_all(tmp_path: Path) -> None:
    with begun(described(tmp_path, a=LOOP), "--interval", "0.05") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 125
        assert b"hypervisor: standard output failed: Broken pipe." in process.stderr.read()


def test_a_reader_that_stands_still_holds_up_no_guest_and_no_signal(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    command = [sys.executable, "-m", "hypervisor", "up", described(tmp_path, a=LOOP), "--interval", "0.01"]
    _fill(theirs)
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    try:
        end = time.monotonic() + 30
        while _cpu_s(process.pid) < 3 and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    finally:
        process.kill()
        os.close(ours)


def _fill(fd: int) -> None:
    """Fill a pipe."""
    os.set_blocking(fd, False)
    try:
        while True:
            os.write(fd, b"x" * 512)
    except BlockingIOError:
        os.set_blocking(fd, True)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
