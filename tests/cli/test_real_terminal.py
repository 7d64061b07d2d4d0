"""A person at a terminal, with real guests."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from hypervisor.cli.tty.terminal import HELP
from tests.cli.command import ECHO, FLAT, KEYS, POWER_OFF, boot_sector, flat
from tests.cli.session import Session


def start(sessions: list[Session], *arguments: str) -> Session:
    session = Session("-m", "hypervisor", "run", *arguments)
    sessions.append(session)
    session.read_until(HELP.encode())
    return session


def test_keys_reach_the_guest_and_its_end_ends_the_command(sessions: list[Session], tmp_path: Path) -> None:
    session = start(sessions, flat(tmp_path / "image", ECHO), *FLAT)
    session.write(b"hello\x03\x1a\x04\r")  # what a terminal would act on belongs to the guest
    session.read_until(b"hello\x03\x1a\x04\r")
    assert session.is_raw()
    session.write(b"q")
    assert session.process.wait(30) == 0
    session.wait_restored()


def test_keys_reach_a_boot_sector_that_sleeps_in_the_bios(sessions: list[Session], tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    session = start(sessions, boot_sector(tmp_path / "image", KEYS), "--stats", str(stats))
    for key in (b"a", b"b", b"\r"):
        session.write(key)
        session.read_until(key)
    session.write(b"q")
    assert session.process.wait(30) == 0
    session.wait_restored()
    facts = json.loads(stats.read_text())
    assert abs(facts["virtual_s"] - facts["wall_s"]) < 0.2  # a person's time is the host's


@pytest.mark.parametrize("clock", ["wall", "virtual"])
@pytest.mark.parametrize("source", ["again: nop; jmp again", "sti; again: hlt; jmp again"], ids=["runs", "sleeps"])
def test_the_escape_ends_any_guest(sessions: list[Session], tmp_path: Path, source: str, clock: str) -> None:
    session = start(sessions, flat(tmp_path / "image", source), *FLAT, "--clock", clock)
    session.write(b"\x01x")
    assert session.process.wait(30) == 121
    session.read_until(b"ended by the user with Ctrl-A x")
    session.wait_restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_guest_in_compiled_code(
    sessions: list[Session], tmp_path: Path, number: signal.Signals
) -> None:
    session = start(sessions, flat(tmp_path / "image", "again: nop; jmp again"), *FLAT)
    session.process.send_signal(number)
    assert session.process.wait(30) == 128 + number
    session.wait_restored()


def test_a_crash_report_is_readable_and_the_terminal_comes_back(sessions: list[Session], tmp_path: Path) -> None:
    source = "mov al, 'x'; mov dx, 0x3f8; out dx, al; lidt [table]; int3; table: .word 0; .dword 0"
    session = start(sessions, flat(tmp_path / "image", source), *FLAT)
    assert session.process.wait(30) == 126
    session.read_until(b"last 2 exits")
    assert b"x\r\nhypervisor: triple fault" in session.seen  # the report begins on a line of its own
    session.wait_restored()


def test_an_error_leaves_the_terminal_alone(sessions: list[Session], tmp_path: Path) -> None:
    session = Session("-m", "hypervisor", "run", str(tmp_path / "nothing"))
    sessions.append(session)
    assert session.process.wait(30) == 125
    session.read_until(b"there is no such file")
    session.wait_restored()


def test_a_power_off_on_a_terminal_prints_nothing_more(sessions: list[Session], tmp_path: Path) -> None:
    session = start(sessions, flat(tmp_path / "image", POWER_OFF), *FLAT)
    assert session.process.wait(30) == 0
    session.wait_restored()
    session.read_until(b"\n")
    assert session.seen == f"hypervisor: {HELP}\r\n".encode()
