"""The user's terminal: raw while a guest has it, and given back on every way out."""

from __future__ import annotations

import atexit
import os
import signal
import termios
from typing import Any

from hypervisor.cli.tty.ansi import LEAVE

ESCAPE = 0x01  # Ctrl-A, as in QEMU and screen
TAKEN, GIVEN, DISMISSED = b"+", b"-", b"."
"""What the guardian is told: the screen is drawn on, it is not, all is put back."""
HELP = "Ctrl-A x ends the guest; Ctrl-A Ctrl-A sends one Ctrl-A."


def is_interactive(stdin: int = 0, stdout: int = 1) -> bool:
    """Whether a person sits at both ends: two terminals, and we are in the foreground of the first."""
    try:
        return os.isatty(stdin) and os.isatty(stdout) and os.tcgetpgrp(stdin) == os.getpgrp()
    except OSError:  # stdin is closed, or is not our controlling terminal
        return False


class EscapeFilter:
    """Finds the escape in what the user types; plain state, no terminal needed."""

    def __init__(self) -> None:
        self._escaped = False

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What goes to the guest, and whether the user asked to end it (nothing after that request is passed on)."""
        passed = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte in b"xX":
                    return bytes(passed), True
                passed += bytes([byte]) if byte == ESCAPE else bytes([ESCAPE, byte])
            elif byte == ESCAPE:
                self._escaped = True
            else:
                passed.append(byte)
        return bytes(passed), False


class Terminal:
    """A terminal that can be made raw, and that comes back to its settings whatever happens to this process.

    `restore` may be called any number of times, and runs at interpreter exit. Against a death that runs no Python at
    all (SIGKILL, a crash in native code) a small child process waits for our end of a pipe to close. Create the object
    before starting threads, because it forks.
    """

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._saved = termios.tcgetattr(fd)
        self._guardian, self._lifeline = _start_guardian(fd, self._saved)
        self._drawn_on = False
        atexit.register(self.restore)

    def make_raw(self, *, signals: bool = False) -> None:
        """Pass every key on unseen and unechoed, Ctrl-C included unless that is to be a signal.

        Output processing stays on: guests that print a bare line feed, and our own messages, come out right.
        """
        settings = termios.tcgetattr(self._fd)
        for flag in (termios.BRKINT, termios.ICRNL, termios.INLCR, termios.IGNCR, termios.IXON):
            settings[0] &= ~flag
        settings[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | (0 if signals else termios.ISIG))
        settings[6][termios.VMIN] = 1
        settings[6][termios.VTIME] = 0
        termios.tcsetattr(self._fd, termios.TCSADRAIN, settings)

    def draw_on(self, taken: bool) -> None:
        """Say that somebody draws on the terminal's alternate screen, which is left on every way out, too."""
        self._drawn_on = taken
        if self._guardian:
            os.write(self._lifeline, TAKEN if taken else GIVEN)

    def restore(self) -> None:
        """Put the settings and the screen back and dismiss the guardian. Harmless when already done."""
        if self._guardian == 0:
            return
        atexit.unregister(self.restore)
        if self._drawn_on:
            _leave_screen(self._fd)
        _set_from_background(self._fd, self._saved)
        os.write(self._lifeline, DISMISSED)
        os.close(self._lifeline)
        os.waitpid(self._guardian, 0)
        self._guardian = 0


def _leave_screen(fd: int) -> None:
    try:
        os.write(fd, LEAVE.encode())
    except OSError:  # the terminal is gone, or was opened for reading only: nothing can be drawn back
        return


def _set_from_background(fd: int, settings: list[Any]) -> None:
    # A process that is no longer in the foreground is stopped by SIGTTOU for this, unless it ignores the signal.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        termios.tcsetattr(fd, termios.TCSADRAIN, settings)
    except termios.error:
        # The terminal itself is gone (a closed window): there is nothing left to restore.
        return
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _start_guardian(fd: int, settings: list[Any]) -> tuple[int, int]:
    """A child that restores the terminal if our end of a pipe closes without a word; its pid and our end."""
    their_end, our_end = os.pipe()
    child = os.fork()
    if child:
        os.close(their_end)
        return child, our_end
    try:
        os.setpgid(0, 0)  # out of reach of signals to the terminal's foreground group
        os.close(our_end)
        last = word = GIVEN
        while word not in (b"", DISMISSED):
            last, word = word, os.read(their_end, 1)
        if word == b"":
            if last == TAKEN:
                _leave_screen(fd)
            _set_from_background(fd, settings)
    finally:
        os._exit(0)
