"""What a run shows its user: the guest's streams, its screen, or both, by ``--display``.

============  ==================================================================================================
``serial``    what the guest writes to its streams (serial port, debug console, BIOS teletype), as it comes
``screen``    its screen: live on a terminal, otherwise as it was at the end
``none``      nothing
``auto``      the streams; on a terminal the live screen, too, once it shows what no stream says, or the last one of a
              run too short for that; elsewhere the last screen, if the streams stayed silent
============  ==================================================================================================
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from hypervisor.cli.tty.live import LiveScreen

if TYPE_CHECKING:
    from hypervisor.cli.tty.output import Output
    from hypervisor.cli.tty.terminal import Terminal
    from hypervisor.cli.vm_protocol import Guest

TICK_S = 0.04
"""Host seconds between two looks at the screen."""
UNSAID_S = 0.2
"""For how long, in host seconds, the screen must show what no stream says before it goes live."""
KEPT = 64 << 10
"""Bytes of what the streams said that are kept to compare the screen with, and to print after it."""


class Display:
    """Context manager around a run, inside that of the session. Streams come in by `passes`, on the VM's thread."""

    def __init__(self, vm: Guest, kind: str, terminal: Terminal | None, output: Output) -> None:
        self.live = False
        self._went_live = False
        self._vm = vm
        self._kind = kind
        self._output = output
        screen = vm.screen if kind in ("auto", "screen") else None
        self._screen = LiveScreen(screen, terminal, output) if screen is not None and terminal is not None else None
        self._last = screen
        self._said: deque[bytes] = deque()
        self._said_bytes = 0
        self._spoke = False
        self._held: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, name="screen", daemon=True)

    def __enter__(self) -> Display:
        if self._screen is not None:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            if self._screen is not None and self.live:
                self._screen.leave()
                self.live = False
                self._print_last()
                held = b"".join(self._held)
                self._output.write(held if held.endswith(b"\n") or not held else held + b"\n")
        if self._failure is not None:
            raise self._failure

    def redraw(self) -> None:
        """Somebody else has drawn on the terminal."""
        with self._lock:
            if self._screen is not None and self.live:
                self._screen.redraw()

    def passes(self, data: bytes) -> bool:
        """Whether ``data`` of a stream is to be written now. What is not may be printed at the end."""
        self._spoke = True
        if self._kind in ("none", "screen"):
            return False
        if self._screen is None:
            return True
        with self._lock:
            self._said.append(data)
            self._said_bytes += len(data)
            while self._said_bytes > KEPT:
                self._said_bytes -= len(self._said.popleft())
            if self.live:
                self._held.append(data)
                while len(self._held) > len(self._said):
                    self._held.popleft()
            return not self.live

    def finish(self) -> str | None:
        """Print the last screen where it is wanted; call it when the run is over and its session closed.

        Returns a sentence about what was not printed, if there is something to say.
        """
        if self._last is None or self._went_live:
            return None
        unsaid = self._shows_more() if self._screen is not None else not self._spoke
        if self._kind == "auto" and not unsaid:
            return None
        if self._last.mode.kind != "text":
            return f"the guest's screen is a picture ({self._last.mode}); vm.screen.png() is a way to keep it."
        self._print_last()
        return None

    def _print_last(self) -> None:
        text = "" if self._last is None else self._last.text.rstrip()
        if text:
            if not self._output.at_line_start:
                self._output.write(b"\n")
            self._output.write(text.encode() + b"\n")

    # ---- on the display's thread

    def _watch(self) -> None:
        try:
            unsaid_s = UNSAID_S if self._kind == "screen" else 0.0
            while not self._ended.wait(TICK_S):
                assert self._screen is not None
                with self._lock:
                    if self.live:
                        self._screen.draw()
                    elif unsaid_s >= UNSAID_S:
                        self.live = self._went_live = True
                        self._screen.enter()
                        self._screen.draw()
                    else:
                        unsaid_s = unsaid_s + TICK_S if self._shows_more() else 0.0
        except BaseException as error:  # it must not die unseen: the run ends, and the error goes to the user
            self._failure = error
            self._vm.request_stop(f"the screen could not be shown: {error}")

    def _shows_more(self) -> bool:
        """Whether the screen shows anything that the streams have not said."""
        assert self._last is not None
        if self._last.mode.kind != "text":
            return True
        lines = {line.strip() for line in self._last.text.split("\n")} - {""}
        if not lines:
            return False
        said = b"".join(self._said).decode("utf-8", "replace")
        return any(line not in said for line in lines)
