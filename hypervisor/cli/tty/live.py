"""The guest's screen on the user's terminal, drawn again where it has changed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hypervisor.cli.tty import ansi

if TYPE_CHECKING:
    from hypervisor.cli.tty.output import Output
    from hypervisor.cli.tty.terminal import Terminal
    from hypervisor.cli.vm_protocol import Screen

TRUE_COLOUR = ("truecolor", "24bit")
"""Values of COLORTERM."""
COLUMNS, ROWS = 80, 24
"""Taken for the size of a terminal that does not know its own, as that of a serial line."""


class LiveScreen:
    """Draws on the terminal's alternate screen, so that what was there comes back."""

    def __init__(self, screen: Screen, terminal: Terminal, output: Output) -> None:
        self._screen = screen
        self._terminal = terminal
        self._output = output
        self._size = (0, 0)
        self._text: ansi.Shown | None = None
        self._picture: Any = None
        self._true_colour = os.environ.get("COLORTERM", "") in TRUE_COLOUR

    def enter(self) -> None:
        """Take the terminal's screen."""
        self._terminal.draw_on(True)
        self._was_at_line_start = self._output.at_line_start
        self._write(ansi.ENTER)

    def redraw(self) -> None:
        """Take it again, from somebody who has drawn on it."""
        self._write(ansi.ENTER)
        self._size = (0, 0)

    def leave(self) -> None:
        """Give it back."""
        self._write(ansi.LEAVE)
        self._output.at_line_start = self._was_at_line_start
        self._terminal.draw_on(False)

    def draw(self) -> None:
        """Bring the terminal up to date."""
        columns, rows = os.get_terminal_size(self._output.fd)
        size = columns or COLUMNS, rows or ROWS
        if size != self._size:
            self._size = size
            self._forget()
        if self._screen.mode.kind == "text":
            if self._picture is not None:
                self._forget()
            now = ansi.window(self._contents(), *self._size)
            self._write(ansi.update(self._text, now))
            self._text = now
        else:
            from hypervisor.cli.tty import picture

            if self._text is not None:
                self._forget()
                self._write(ansi.HIDE)
            fitted = picture.fit(self._screen.pixels, *self._size)
            self._write(picture.update(self._picture, fitted, true_colour=self._true_colour))
            self._picture = fitted

    def _forget(self) -> None:
        """Draw everything anew."""
        self._text = self._picture = None
        self._write("\x1b[0m\x1b[2J")

    def _contents(self) -> ansi.Shown:
        lines = []
        colours = self._screen.colours
        for row in self._screen.rows:
            lines.append(ansi.Line(row.text, tuple(colours[attribute] for attribute in row.attributes)))
        return ansi.Shown(tuple(lines), self._screen.cursor)

    def _write(self, text: str) -> None:
        self._output.write(text.encode())
