"""``hypervisor run --gdb``: a process of its own, and the real gdb."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.cli.command import ROOT, hypervisor
from tests.gdb.conftest import PATIENCE_S, SETTINGS, program


def test_a_guest_waits_for_gdb() -> None:
    command = [sys.executable, "-m", "hypervisor", "run", "hello", "--gdb", "0", "--wait", "--memory", "16M"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as guest:
        assert guest.stderr is not None
        line = guest.stderr.readline()
        found = re.fullmatch(r'hypervisor: gdb: "target remote :(\d+)" lets the guest start\n', line)
        assert found, line
        script = [*SETTINGS, f"target remote :{found[1]}", "x/i $pc", "continue"]
        gdb = subprocess.run(
            [program("gdb"), "-nx", "-batch", *(word for line in script for word in ("-ex", line))],
            capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        output, rest = guest.communicate(timeout=PATIENCE_S)
    assert "=> 0x7c00:\tljmp   $0x0,$0x7c05" in gdb.stdout
    assert "exited normally" in gdb.stdout
    assert (guest.returncode, rest) == (0, "")
    assert "Hello" in output


def test_a_guest_runs_without_a_gdb_that_never_comes() -> None:
    done = hypervisor("run", "hello", "--gdb=0")
    assert done.returncode == 0
    assert re.fullmatch(rb'hypervisor: gdb: "target remote :\d+"\n', done.stderr)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--gdb=99999"], b"gdb: port=99999 is no TCP port; give a number from 0 (any free one) to 65535."),
        (["--gdb", "-5"], b"gdb: port=-5 is no TCP port; give a number from 0 (any free one) to 65535."),
        (["--wait"], b"--wait holds the guest for gdb: give --gdb, too."),
        (["--gdb=here"], b"is not a valid int"),
    ],
)
def test_bad_options(options: list[str], sentence: bytes) -> None:
    done = hypervisor("run", "hello", *options)
    assert done.returncode == 125
    assert sentence in done.stderr
