"""The pytest plugin, run by pytest itself on a package that stands in for the hypervisor."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.plugins.inner_pytest import ROOT, pytest_run

FAKE = """
import sys, types
import hypervisor

class Console:
    text = "\\n".join(f"line {n}" for n in range(50))

class Reason:
    value = "halted"

class Result:
    reason, message, crash, hint = Reason, "HLT with interrupts off", None, "no EOI was sent"

class Vm:
    def __init__(self, image, crash=None, **options):
        self.console, self.result = Console(), Result()
        self.result.crash = crash
        self.vcpus, self.symbols, self.closed = [], {}, False
        self.serial = {n: types.SimpleNamespace(name=f"serial port {n}", text="log\\n" * (n == 1)) for n in range(3)}
        self.notes = ["guest called INT 13h AH=05h (format track): not provided"]
        self.traps, self.plugins = types.SimpleNamespace(by_hand=list), []
    def stop(self, text):
        pass
    def events(self, count):
        return []
    def save(self, path):
        path.write_text("saved")
    def close(self):
        print("closed", file=sys.stderr)

hypervisor.boot = Vm
"""

TESTS = """
def test_fails(vm):
    vm("hello", memory="16M")
    vm("other", crash="the crash report")
    assert False

def test_passes(vm):
    assert vm("hello").console.text
"""


VERDICTS = """
def test_any_status(vm):
    vm("long", memory="16M").run(timeout=30).check()

def test_another_status(vm):
    vm("long", memory="16M").run(timeout=30).check(status=35)

def test_its_status(vm):
    vm("long", memory="16M").run(timeout=30).check(status=33)

def test_until_that_did_not_come(vm):
    vm("hello", memory="16M").run(until="PASS", timeout=30).check()

def test_until(vm):
    vm("hello", memory="16M").run(until="Hello", timeout=30).check()

def test_power_off(vm):
    vm("hello", memory="16M").run(timeout=30).check()
"""


def test_a_failure_shows_every_console_and_state_and_guests_are_closed(tmp_path: Path) -> None:
    text = pytest_run(tmp_path, FAKE, TESTS)
    assert "1 failed, 1 passed" in text
    assert "guest 1 (hello): console" in text and "... 10 lines left out\nline 10\n" in text and "line 49" in text
    assert "line 9\n" not in text
    assert (
        "guest 1 (hello): state" in text and "last run: halted, HLT with interrupts off\nlikely mistake: no EOI" in text
    )
    assert "guest 1 (hello): serial port 1" in text and "serial port 2" not in text
    assert "what it asked for and did not get" in text and "(format track)" in text
    assert "guest 2 (other): state" in text and "the crash report" in text
    assert text.count("closed") == 3
    kept = re.findall(r"^hypervisor run (.*)$", text, re.M)
    assert [Path(path).name for path in kept] == ["FAILED.hvs", "FAILED-2.hvs"]
    assert [Path(path).read_text() for path in kept] == ["saved"] * 2


def test_a_guest_that_did_not_end_as_it_was_meant_to_fails_its_test(tmp_path: Path) -> None:
    text = pytest_run(tmp_path, "", VERDICTS)
    failed = [line.split("::")[1].split(" ")[0] for line in text.splitlines() if line.startswith("FAILED")]
    assert failed == ["test_any_status", "test_another_status", "test_until_that_did_not_come"], text
    assert "3 failed, 3 passed" in text and "It was meant to run until some output shows 'PASS'" in text


def test_starting_pytest_imports_nothing_heavy() -> None:
    code = (
        "import sys, hypervisor.testing.plugin; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules} "
        "& {'numpy', 'numba', 'unicorn', 'capstone', 'keystone', 'typer'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
