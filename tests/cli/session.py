"""Programs that sit on a terminal, as a person's shell starts them."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60  # the first run may compile the engine's kernels
LFLAG = 3


class Session:
    """A Python program on a terminal of its own, whose other side is ours; ``arguments`` are the interpreter's."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.ours, self.theirs = pty.openpty()
        self.settings = termios.tcgetattr(self.theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *arguments],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
        )
        self.seen = b""

    def read_until(self, text: bytes) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            assert select.select([self.ours], [], [], max(0, deadline - time.monotonic()))[0], self.seen
            self.seen += os.read(self.ours, 4096)

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.theirs)[LFLAG] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def write(self, data: bytes) -> None:
        os.write(self.ours, data)

    def end(self) -> None:
        """Kill the program if it still runs, and close the terminal."""
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)

    def wait_restored(self) -> None:
        deadline = time.monotonic() + 10
        while termios.tcgetattr(self.theirs) != self.settings and time.monotonic() < deadline:
            time.sleep(0.01)
        assert termios.tcgetattr(self.theirs) == self.settings


# Makes the inherited terminal the controlling one and has no signal ignored, as a login does, then becomes the command.
_TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
for number in (signal.SIGINT, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
