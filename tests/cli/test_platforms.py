"""What docs/policy.md says of other systems: guests do not run there, which is said in a sentence, and the rest works.

Here a process pretends to be on one: with another name and machine, and without the modules that only Unix has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SENTENCE = "Use a Linux x86-64 machine or container."
PRETEND = """
# These look at the system when they are imported.
import asyncio, ctypes, importlib.metadata, json, pathlib, platform, rich.table, subprocess, sys, tempfile, typer
sys.platform = {system!r}
platform.machine = lambda: {machine!r}
"""
TRY = """
import contextlib, io
from hypervisor.cli import main
import hypervisor as hv
from hypervisor.devices.uart16550 import Uart16550
from hypervisor.assembler import assemble

def command(*arguments):
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(said):
        status = main(arguments)
    return status, said.getvalue()

def error(call, *arguments):
    try:
        call(*arguments)
    except Exception as raised:
        return type(raised).__name__, str(raised)

print(json.dumps(dict(
    run=command("run", "hello"), up=command("up", "host.toml"), doctor=command("doctor"), guests=command("guests"),
    init=command("init", "my-kernel"), boot=error(hv.boot, "hello"), run_asm=error(hv.run_asm, "hlt"),
    config=hv.MachineConfig(image="hello").memory, code=assemble("hlt", mode=32).code.hex(),
)))
"""


def pretended(system: str, machine: str, code: str, place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRETEND.format(system=system, machine=machine) + code],
        cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("darwin", "x86_64"), ("linux", "aarch64")])
def test_where_guests_do_not_run_the_rest_does(system: str, machine: str, tmp_path: Path) -> None:
    done = pretended(system, machine, TRY, tmp_path)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    for name, status in (("run", 125), ("up", 125), ("doctor", 1)):
        assert said[name][0] == status and SENTENCE in said[name][1] and "Traceback" not in said[name][1], said[name]
    for name in ("boot", "run_asm"):
        assert said[name][0] == "EngineError" and SENTENCE in said[name][1], said[name]
    assert said["guests"][0] == 0 and "hello" in said["guests"][1]
    assert said["init"][0] == 0 and (tmp_path / "my-kernel" / "Makefile").exists()
    assert (said["config"], said["code"]) == ("64M", "f4")


def test_windows_itself_is_told_what_to_use(tmp_path: Path) -> None:
    done = pretended("win32", "AMD64", "import hypervisor", tmp_path)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("ImportError: hypervisor (rootmode) cannot")
    assert "WSL 2" in done.stderr
