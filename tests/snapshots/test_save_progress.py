"""How far a save has come: what it tells, what comes of it, and how a terminal shows it."""

from __future__ import annotations

import os
import sys
import termios
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.cli import progress_bar as bars
from hypervisor.cli.progress_bar import each_second, progress_bar
from hypervisor.units import MIB
from hypervisor.vm.saved.save_progress import STEP


def _filled() -> hv.VM:
    vm = hv.boot("hello", memory="64M")
    for place in range(1, 60, 3):
        vm.memory.write(place * MIB, os.urandom(4096) * 256)
    return vm


def _note(told: list[tuple[int, int]], done: int, whole: int) -> None:
    told.append((done, whole))


def test_it_is_told_in_order_up_to_the_end_and_the_file_is_the_same(tmp_path: Path) -> None:
    with _filled() as vm, vm.snapshot() as snapshot:
        vm.save(tmp_path / "plain")
        for name, one in (("vm", vm), ("snapshot", snapshot)):
            told: list[tuple[int, int]] = []
            one.save(tmp_path / name, progress=partial(_note, told))
            assert (tmp_path / name).read_bytes() == (tmp_path / "plain").read_bytes()
            wholes, dones = {whole for _, whole in told}, [done for done, _ in told]
            assert len(wholes) == 1 and dones[-1] == wholes.pop() > 64 * MIB
            assert dones == sorted(dones) and all(done <= dones[-1] for done in dones)
            assert 64 * MIB // STEP - 2 <= len(told) <= 64 * MIB // STEP + 8
        both: list[tuple[int, int]] = []
        hv.save_together(tmp_path / "both", {"a": snapshot, "b": snapshot}, progress=partial(_note, both))
        assert both[-1] == (2 * dones[-1], 2 * dones[-1])


def test_what_is_raised_there_ends_it_and_the_file_of_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "machine"
    path.write_bytes(b"of before")

    def enough(done: int, whole: int) -> None:
        if done > whole // 2:
            raise KeyboardInterrupt

    with _filled() as vm:
        with pytest.raises(KeyboardInterrupt):
            vm.save(path, progress=enough)
        assert path.read_bytes() == b"of before" and os.listdir(tmp_path) == ["machine"]
        vm.save(path)
    hv.boot(path).close()


def _shown(monkeypatch: pytest.MonkeyPatch, after_s: float) -> bytes:
    """What a terminal gets of something that comes to its end in four steps."""
    here, there = os.openpty()
    termios.tcsetwinsize(there, (24, 80))
    monkeypatch.setattr(bars, "SHOWN_AFTER_S", after_s)
    with os.fdopen(there, "w") as terminal, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", terminal)
        patched.setenv("TERM", "xterm")
        with progress_bar("saving") as come:
            for done in (10, 20, 30, 40):
                come(done, 40)
        print("behind", file=terminal, flush=True)
    got = b""
    with os.fdopen(here, "rb", buffering=0) as reader, suppress(OSError):  # the end of a terminal is an error
        while data := reader.read(1 << 16):
            got += data
    return got


def test_a_terminal_sees_a_bar_if_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    got = _shown(monkeypatch, 0.0)
    assert b"saving" in got and b"100%" in got
    assert got.endswith(b"\x1b[2Kbehind\r\n"), "the bar is gone behind it"
    assert _shown(monkeypatch, 60.0) == b"behind\r\n"


def test_nobody_sees_a_bar_elsewhere(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bars, "SHOWN_AFTER_S", 0.0)
    with progress_bar("saving") as come:
        come(1, 2)
        come(2, 2)
    assert capfd.readouterr() == ("", "")


def test_words_come_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(bars.time, "monotonic", lambda: now)
    parts: list[float] = []
    come = each_second(parts.append)
    for n in range(40):
        now = 100 + n / 10
        come(n, 40)
    assert parts == [0.25, 0.5, 0.75]
