"""While a guest runs: its output to stdout, stdin to it, and a way for signals and the escape to end it.

The main thread waits for the run. A thread of our own waits for input and for signals (through the wake-up descriptor,
which C code writes at once), so that who asks a second time is heard, too.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType

from hypervisor.cli.status import ExitStatus
from hypervisor.cli.tty.display import Display
from hypervisor.cli.tty.output import Output
from hypervisor.cli.tty.terminal import EscapeFilter, Terminal
from hypervisor.cli.tty.terminal_keys import press
from hypervisor.cli.vm_protocol import Guest

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
INPUT_BACKLOG = 32 * 1024
"""Bytes or keys that wait for the guest at most. A pipe, which may be endless, is not read then; a terminal is, because
of the escape, and what is typed is lost."""
LOOK_AGAIN_S = 0.02
BLOCK = 4096  # bytes of input read at once
PATIENCE_S = 3.0
"""Host seconds for which a guest under the virtual clock waits for whoever writes its input, and for which a handler
may go on when the run's time is over."""
END, LIVE = 0, 255
"""Written to the wake-up pipe to end the thread, and to have it read input; no signals have these numbers."""


class Session:
    """Context manager around ``vm.run``. ``received`` is the signal that ended the run, if one did.

    Who asks a second time, by a signal or by the escape, ends the handler that does not return, by an exception. Where
    none reaches it the process ends without it, and so it does when it goes on behind ``timeout``, which is the run's.

    With ``on_demand`` input is read when the guest wants it, and the guest waits for it, so that when each byte arrives
    does not depend on the host. A writer that lets it wait for `PATIENCE_S` is a person, or a program that waits for
    the guest in turn: from then on its input enters when it comes, as it does without ``on_demand``.
    """

    def __init__(
        self,
        vm: Guest,
        *,
        stdin: int | None,
        output: Output,
        terminal: Terminal | None,
        on_demand: bool = False,
        display: Display | None = None,
        timeout: float | None = None,
    ) -> None:
        self.received: int | None = None
        self._vm = vm
        self._stdin = stdin
        self._source = stdin if on_demand else None
        self._live = stdin is not None and not on_demand
        self._output = output
        self._terminal = terminal
        self._display = display
        self._escape = EscapeFilter() if terminal else None
        self._stop = ""
        self._status: int = ExitStatus.STOPPED
        """Of the process, if it has to end without what holds up the guest."""
        self._pressed_at: float | None = None
        self._overdue_at = None if timeout is None else time.monotonic() + timeout + PATIENCE_S
        self._handlers: dict[int, object] = {}
        self._thread = threading.Thread(target=self._watch, name="console-input", daemon=True)

    def __enter__(self) -> Session:
        self._vm.console.listen(self._write)
        if self._live:
            self._vm.console.open_input()
        elif self._source is not None:
            self._vm.console.feed(self._read_for_guest)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)  # asked for by set_wakeup_fd
        self._old_wakeup = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and jobs in the background, stay deaf
                self._handlers[number] = signal.signal(number, _leave_to_watcher)
        if self._terminal:
            self._handlers[signal.SIGCONT] = signal.signal(signal.SIGCONT, _leave_to_watcher)
            self._terminal.make_raw()
        if self._display:
            self._display.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._display:
                self._display.__exit__(kind, value, trace)
        finally:
            self._close()

    def _close(self) -> None:
        if self._terminal:
            self._terminal.restore()
        os.write(self._wake_write, bytes([END]))
        self._thread.join()
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal itself returned
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _write(self, data: bytes) -> None:
        """Guest output, on the VM's thread. A slow reader slows the guest; a vanished one ends it."""
        if self._display is None or self._display.passes(data):
            self._output.write(data)

    def _read_for_guest(self) -> bytes:
        """The next input, on the VM's thread, which wants it; nothing at its end, and when it enters by itself."""
        waited = 0.0
        while self._source is not None and not self._stop:
            if select.select([self._source], [], [], LOOK_AGAIN_S)[0]:
                data = self._read(self._source)
                if not data:
                    self._source = None
                return data
            waited += LOOK_AGAIN_S
            if waited >= PATIENCE_S:
                self._source = None
                self._vm.console.open_input()
                self._live = True
                os.write(self._wake_write, bytes([LIVE]))
        return b""

    def _watch(self) -> None:
        while True:
            stdin = self._stdin if self._live else None
            full = self._escape is None and self._full
            wanted = [self._wake_read] if stdin is None or full else [self._wake_read, stdin]
            ready = select.select(wanted, [], [], LOOK_AGAIN_S if full or self._stop else self._until_overdue())[0]
            if self._overdue_at is not None and time.monotonic() >= self._overdue_at:
                if self._vm.busy_in:
                    self._leave(ExitStatus.TIMEOUT, "had not returned when --timeout ran out")
                self._overdue_at += PATIENCE_S
            if self._pressed_at is not None and time.monotonic() >= self._pressed_at + PATIENCE_S:
                self._leave(self._status, "was asked twice to let go, and did not")
            if self._stop:  # again: the guest may not have been running yet
                self._vm.request_stop(self._stop, urgent=self._pressed_at is not None)
            if self._wake_read in ready and not self._take_signals(os.read(self._wake_read, 64)):
                return
            if stdin is not None and stdin in ready and not self._take_input(stdin):
                self._vm.console.close_input()
                self._live = False

    def _until_overdue(self) -> float | None:
        return None if self._overdue_at is None else max(self._overdue_at - time.monotonic(), 0)

    def _take_signals(self, numbers: bytes) -> bool:
        """Act on signals; False when the session is over."""
        for number in numbers:
            if number == END:
                return False
            if number not in self._handlers:  # `LIVE`, too
                continue
            if number == signal.SIGCONT:
                self._take_terminal_again()
                continue
            self._end(f"{signal.Signals(number).name} was received", number)
        return True

    def _leave(self, status: int, why: str) -> None:
        """End the process: a handler, or a device of a user's, does not return, and may be where no exception comes."""
        busy = self._vm.busy_in or "the guest"
        if self._terminal:
            self._terminal.restore()
        with suppress(OSError):  # past Python's buffers, which that code may hold
            os.write(2, f"hypervisor: {busy} {why}; this process ends without it.\n".encode())
        os._exit(status)

    def _take_terminal_again(self) -> None:
        """A shell had it, while this process was stopped."""
        if self._terminal:
            self._terminal.make_raw()
        if self._display:
            self._display.redraw()

    def _end(self, why: str, number: int | None = None) -> None:
        """End the run, from the watching thread, because of a signal or the escape; asked again, what holds it up."""
        self._status = ExitStatus.STOPPED if number is None else 128 + number
        self.received = number if number is not None else self.received
        if self._pressed_at is None and self._stop:
            self._pressed_at = time.monotonic()
        elif self._pressed_at is not None:
            self._leave(self._status, "was asked again and again to let go, and did not")
        self._stop = self._stop or why
        self._vm.request_stop(self._stop, urgent=self._pressed_at is not None)

    def _take_input(self, stdin: int) -> bool:
        """Pass on what there is to read; False when no more will come."""
        data = self._read(stdin)
        if not data:
            return False
        if self._escape:
            data, ended = self._escape.feed(data)
            if ended:
                self._end("ended by the user with Ctrl-A x")
        if not data or self._full:
            return True
        if self._display is not None and self._display.live:
            press(self._vm.keyboard, data)
        else:
            self._vm.console.send(data)
        return True

    @property
    def _full(self) -> bool:
        """Whether the guest has enough to take before it needs more."""
        live = self._display is not None and self._display.live
        return (self._vm.keyboard if live else self._vm.console).pending >= INPUT_BACKLOG

    @staticmethod
    def _read(stdin: int) -> bytes:
        try:
            return os.read(stdin, BLOCK)
        except OSError:  # a hung-up terminal reads as EIO: the end of input, like any other
            return b""


def _leave_to_watcher(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor has told the watching thread; nothing is left to do here."""
