"""A text screen rebuilt from what a serial terminal was sent: just enough of ECMA-48 for full-screen programs."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b.|([\s\S])")


class Screen:
    """80 x 25 characters; cursor moves and clearing are honoured, colours are ignored."""

    def __init__(self, columns: int = 80, rows: int = 25) -> None:
        self.columns = columns
        self.cells = [[" "] * columns for _ in range(rows)]
        self._row = self._column = 0

    @property
    def lines(self) -> list[str]:
        """The rows from the top, without trailing blanks."""
        return ["".join(row).rstrip() for row in self.cells]

    @property
    def text(self) -> str:
        """The whole screen."""
        return "\n".join(self.lines)

    def feed(self, output: str) -> Screen:
        """Take ``output``; returns the screen itself."""
        for parameters, command, character in _TOKEN.findall(output):
            if command:
                self._control(parameters, command)
            elif character:
                self._character(character)
        return self

    def _control(self, parameters: str, command: str) -> None:
        numbers = [int(number) if number.isdigit() else 0 for number in parameters.split(";")]
        if command == "H":
            row, column = (*numbers, 0, 0)[:2]
            self._row, self._column = max(row, 1) - 1, max(column, 1) - 1
        elif command == "J" and numbers[0] == 2:
            self.cells = [[" "] * self.columns for _ in self.cells]

    def _character(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._row = min(self._row + 1, len(self.cells) - 1)
        elif character >= " " and self._row < len(self.cells) and self._column < self.columns:
            self.cells[self._row][self._column] = character
            self._column += 1
