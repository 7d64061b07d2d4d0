"""What a terminal shows that was sent these bytes: as much of ECMA-48 as the command line uses, and no more."""

from __future__ import annotations

import codecs
import re

_TOKEN = re.compile(r"\x1b\[(?P<private>\??)(?P<numbers>[0-9;]*)(?P<final>[A-Za-z])|\x1b(?P<other>.)|(?P<text>[\s\S])")


class ScreenModel:
    """A screen of some size. What is sent to it and is unknown is an error."""

    def __init__(self, columns: int, rows: int) -> None:
        self.alternate = False
        self.cursor_hidden = False
        self._begun = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        """It is another size, and empty (a real one keeps what it can)."""
        self.columns, self.rows = columns, rows
        self._cells = [[" "] * columns for _ in range(rows)]
        self._row = self._column = 0
        self.overflowed = False

    @property
    def lines(self) -> list[str]:
        """Its text."""
        return ["".join(row).rstrip() for row in self._cells]

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self.lines)

    def feed(self, data: bytes) -> None:
        """Bytes have come; sequences may be cut anywhere."""
        text = self._begun + self._decoder.decode(data)
        cut = re.search(r"\x1b(\[\??[0-9;]*)?$", text)
        text, self._begun = (text[: cut.start()], cut[0]) if cut else (text, "")
        for token in _TOKEN.finditer(text):
            if token["text"] is not None:
                self._put(token["text"])
            elif token["final"] is not None:
                numbers = [int(one or 0) for one in token["numbers"].split(";")]
                self._control(token["private"], token["final"], numbers)
            else:
                raise AssertionError(f"an unknown sequence: {token[0]!r}")

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._row = min(self._row + 1, self.rows - 1)
        elif self._column >= self.columns or self._row >= self.rows:
            self.overflowed = True
        else:
            self._cells[self._row][self._column] = character
            self._column += 1

    def _control(self, private: str, final: str, numbers: list[int]) -> None:
        if private:
            assert final in "hl", (final, numbers)
            for number in numbers:
                if number == 1049:
                    self.alternate = final == "h"
                elif number == 25:
                    self.cursor_hidden = final == "l"
                else:
                    assert number == 7, number
        elif final == "H":
            row, column = numbers if len(numbers) == 2 else (1, 1)
            self._row, self._column = max(row, 1) - 1, max(column, 1) - 1
        elif final == "J":
            assert numbers == [2]
            self._cells = [[" "] * self.columns for _ in range(self.rows)]
        elif final == "K":
            first = 0 if numbers == [2] else self._column
            if self._row < self.rows:
                self._cells[self._row][first:] = [" "] * (self.columns - first)
        else:
            assert final == "m", final
