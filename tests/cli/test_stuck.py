"""Handlers that do not return: the second signal, or the second Ctrl-A x, ends them by an exception and names them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor.cli.status import ExitStatus
from tests.cli.session import Session

ROOT = Path(__file__).parents[2]
SAID = {
    "Loop": "{}, and handler 'log' of plugin 'stuck:Loop' had not returned",
    "Sleep": "handler 'log' of plugin 'stuck:Sleep' was asked twice to let go, and did not; this process ends",
}
PLUGINS = """
import sys, time

class Loop:
    def attach(self, vm):
        vm.traps.execute(0x7C00)(self.log)

    def log(self, vcpu, exit):
        print("it has begun", file=sys.stderr, flush=True)
        self.work()

    def work(self):
        while True:
            pass

class Sleep(Loop):
    def work(self):
        time.sleep(1000)
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "stuck.py").write_text(PLUGINS)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    return str(tmp_path)


@pytest.fixture
def process(request: pytest.FixtureRequest, path: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "hypervisor", "run", "hello", "--plugin", f"stuck:{request.param}"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=path) as process:
        assert process.stderr is not None
        while "it has begun" not in process.stderr.readline():
            assert process.poll() is None
        yield process
        process.kill()


@pytest.mark.parametrize("process", ["Loop", "Sleep"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_it(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)  # it is let finish what it does
    process.send_signal(number)
    assert process.wait(20) == 128 + number
    assert process.stderr is not None
    said = process.stderr.read()
    plugin = process.args[-1].partition(":")[2]  # type: ignore[index]
    assert said.count("\n") == 1 and SAID[plugin].format(f"{number.name} was received") in said


@pytest.mark.parametrize("plugin", ["Loop", "Sleep"])
def test_the_second_escape_ends_it_and_restores_the_terminal(path: str, plugin: str, sessions: list[Session]) -> None:
    session = Session("-m", "hypervisor", "run", "hello", "--plugin", f"stuck:{plugin}")
    sessions.append(session)
    session.read_until(b"it has begun")
    session.write(b"\x01x")
    with pytest.raises(subprocess.TimeoutExpired):
        session.process.wait(0.5)
    session.write(b"\x01x")
    assert session.process.wait(20) == ExitStatus.STOPPED
    session.read_until(SAID[plugin].format("ended by the user with Ctrl-A x").encode())
    session.wait_restored()


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        ("Loop", "--timeout ran out, and handler 'log' of plugin 'stuck:Loop' had not returned; the guest was at RIP"),
        ("Sleep", "handler 'log' of plugin 'stuck:Sleep' had not returned when --timeout ran out; this process ends"),
    ],
)
def test_the_timeout_ends_it(path: str, plugin: str, said: str) -> None:
    command = [sys.executable, "-m", "hypervisor", "run", "hello", "--plugin", f"stuck:{plugin}", "--timeout", "2"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=path, timeout=90)
    assert done.returncode == ExitStatus.TIMEOUT and said in done.stderr, done.stderr
