"""Plugins that do what they should not, under the command line: a sentence, and status 125."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import ROOT, hypervisor

EXITS = """
import sys
class P:
    def attach(self, vm):
        vm.traps.port_out(0x604, self.leave)
    def leave(self, vcpu, exit):
        sys.exit(0)
"""
PRINTS = """
import os
os.chdir("/")
print("imported")
class P:
    def attach(self, vm):
        print("attached")
    def detach(self):
        print("detached")
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Plugins are found in the test's folder, and Python buffers what they print, as it does on a pipe."""
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    environment.pop("PYTHONUNBUFFERED", None)
    return environment


def test_a_handler_that_exits_does_not_hide_how_the_guest_ended(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "plug_exits.py").write_text(EXITS)
    done = hypervisor("run", "hello", "--plugin", "plug_exits:P", env=environment)
    assert done.returncode == 125
    assert b"SystemExit: 0\nhypervisor: a plugin called sys.exit() (see above)" in done.stderr
    assert b"in leave" in done.stderr


def test_what_a_plugin_prints_comes_where_it_belongs(tmp_path: Path, environment: dict[str, str]) -> None:
    """It also changes the current folder, which moves no file of the command line."""
    (tmp_path / "plug_prints.py").write_text(PRINTS)
    log = os.path.relpath(tmp_path / "io.log", ROOT)
    done = hypervisor("run", "hello", "--plugin", "plug_prints:P", "--log", f"io:{log}", env=environment)
    assert done.returncode == 0
    assert done.stdout.replace(b"\r\n", b"\n") == b"imported\nattached\nHello\ndetached\n"
    assert b"out 0x604" in (tmp_path / "io.log").read_bytes()


def test_printing_to_a_full_device_is_said(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "plug_late.py").write_text("class P:\n def detach(self): print('detached', end='')\n")
    command = [sys.executable, "-m", "hypervisor", "run", "hello", "--display", "none", "--plugin", "plug_late:P"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=120,
            cwd=ROOT,
            env=environment,
        )
    assert (done.returncode, done.stderr) == (125, b"hypervisor: standard output failed: No space left on device.\n")
