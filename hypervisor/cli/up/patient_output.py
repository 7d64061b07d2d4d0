"""Standard output that is slow, full or gone, and a process that nevertheless hears signals while it writes."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType

from hypervisor.cli.tty.output import Output

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
WATCHED = (signal.SIGCONT, signal.SIGWINCH)
AT_ONCE = 512
"""Bytes that a descriptor takes without waiting once it can be written (POSIX, PIPE_BUF)."""
LOOK_S = 0.5


class Ear:
    """Context manager in the main thread, which hears signals: ``received`` is the first that asks for the end. A
    second one ends the process at once, as it would without us.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.continued = False
        """Whether a shell had the terminal meanwhile."""
        self._old: dict[int, object] = {}

    def __enter__(self) -> Ear:
        self.fd, self._write = os.pipe()
        os.set_blocking(self._write, False)
        os.set_blocking(self.fd, False)
        self._old_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (*SIGNALS, *WATCHED):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._old[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal itself returned
        os.close(self.fd)
        os.close(self._write)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGCONT:
            self.continued = True
        elif number in SIGNALS:
            self.received = self.received or number
            signal.signal(number, signal.SIG_DFL)

    def wait(self, seconds: float, *fds: int) -> list[int]:
        """Wait so long, for one of these to be readable, or for a signal; which ones are."""
        ready = select.select([self.fd, *fds], [], [], max(seconds, 0.0))[0]
        if self.fd in ready:
            self._drain()
        return [fd for fd in ready if fd != self.fd]

    def _drain(self) -> None:
        try:
            os.read(self.fd, 64)
        except BlockingIOError:
            return


class PatientOutput(Output):
    """Writes in small pieces, each when it is taken at once; waits for that until the end is asked for."""

    def __init__(self, fd: int, ear: Ear) -> None:
        super().__init__(fd, on_failure=lambda text: None)
        self._ear = ear

    def write(self, data: bytes) -> None:
        """Write all of ``data``, unless the reader's end comes before, or a signal and nobody reads."""
        if not data:
            return
        self.at_line_start = data.endswith(b"\n")
        while data and not self.failure:
            patience = LOOK_S if self._ear.received is None else 0.0
            try:
                readable, writable, _ = select.select([self._ear.fd], [self.fd], [], patience)
                if self._ear.fd in readable:
                    self._ear.wait(0.0)
                if writable:
                    data = data[os.write(self.fd, data[:AT_ONCE]) :]
                elif not patience:
                    return
            except BlockingIOError:
                continue
            except OSError as error:
                self.failure = f"standard output failed: {error.strerror}"
