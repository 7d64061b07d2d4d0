"""``hypervisor-qemu`` and QEMU as processes: what they print, what they are typed, how they end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.programs import QEMU, program

ROOT = Path(__file__).parents[2]
OURS = [sys.executable, "-m", "hypervisor.cli.qemu"]
PATIENCE_S = 60.0
MARK = b"GUEST"
"""What the guests of these tests say first: what firmware has said before is not compared."""


def commands() -> dict[str, list[str]]:
    """Both programs by name, as words."""
    return {"qemu": [program(QEMU)], "ours": OURS}


class Program:
    """A program that runs, with pipes."""

    def __init__(self, command: Sequence[str], words: Sequence[str | Path], folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [*command, *map(str, words)],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.output = b""
        self._seen = 0
        self.errors = b""

    def wait_for(self, text: bytes) -> None:
        """Read until ``text`` comes behind what was waited for before."""
        end_at = time.monotonic() + PATIENCE_S
        while (at := self.output.find(text, self._seen)) < 0:
            assert self._read(end_at), f"{text!r} did not come: {self.output[-1000:]!r}, {self._rest_of_errors()!r}"
        self._seen = at + len(text)

    def type(self, data: bytes) -> None:
        """Write to its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self) -> int:
        """Close its input, and wait until it has ended; its status."""
        assert self._process.stdin is not None and self._process.stderr is not None
        end_at = time.monotonic() + PATIENCE_S
        while self._read(end_at):
            pass
        self._process.stdin.close()
        self.errors = self._process.stderr.read()
        return self._process.wait(PATIENCE_S)

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def _read(self, end_at: float) -> bool:
        """Read a piece; False at the end."""
        assert self._process.stdout is not None
        number = self._process.stdout.fileno()
        ready, _, _ = select.select([number], [], [], max(end_at - time.monotonic(), 0))
        assert ready, f"it goes on and says nothing more: {self.output[-1000:]!r}"
        data = os.read(number, 65536)
        self.output += data
        return bool(data)

    def _rest_of_errors(self) -> bytes:
        assert self._process.stderr is not None
        self._process.kill()
        return self._process.stderr.read()[-2000:]

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()


def of_the_guest(output: bytes) -> bytes:
    """What the guest has said, from its `MARK` on."""
    return output[output.index(MARK) :].replace(b"\r", b"")
