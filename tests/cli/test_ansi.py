"""What is sent to a terminal for a screen, as a terminal takes it."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from hypervisor.cli.tty import picture
from hypervisor.cli.tty.ansi import ENTER, LEAVE, Line, Shown, sgr, update, window

_TOKEN = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])|([^\x1b])")


class Terminal:
    """Just enough of a terminal: cells with the last colours chosen, a cursor, clearing."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.cells = [[(" ", "0")] * columns for _ in range(rows)]
        self.at, self.colours, self.cursor_shown = [0, 0], "0", True

    def take(self, text: str) -> None:
        for private, numbers, command, character in _TOKEN.findall(text):
            if command == "H":
                self.at = [int(number) - 1 for number in numbers.split(";")]
            elif command == "m":
                self.colours = numbers
            elif command == "K":
                first = 0 if numbers == "2" else self.at[1]
                self.cells[self.at[0]][first:] = [(" ", self.colours)] * (self.columns - first)
            elif command == "J":
                self.cells = [[(" ", self.colours)] * self.columns for _ in range(self.rows)]
            elif private and numbers == "25":
                self.cursor_shown = command == "h"
            elif character:
                assert self.at[0] < self.rows and self.at[1] < self.columns
                self.cells[self.at[0]][self.at[1]] = (character, self.colours)
                self.at[1] += 1

    def shows(self, shown: Shown) -> bool:
        for cells, line in zip(self.cells, shown.lines, strict=False):
            wanted = [(c, sgr(*pair)[2:-1]) for c, pair in zip(line.text, line.colours, strict=True)]
            if cells[: len(wanted)] != wanted or any(cell != " " for cell, _ in cells[len(wanted) :]):
                return False
        blank = all(cell == " " for row in self.cells[len(shown.lines) :] for cell, _ in row)
        if shown.cursor is None:
            return blank and not self.cursor_shown
        return blank and self.cursor_shown and tuple(self.at) == shown.cursor


def screen(rng: random.Random, columns: int, rows: int) -> Shown:
    lines = [
        Line(
            "".join(rng.choices("ab█ é", k=columns)),
            tuple((rng.randrange(16), rng.randrange(8)) for _ in range(columns)),
        )
        for _ in range(rows)
    ]
    return Shown(tuple(lines), rng.choice((None, (rng.randrange(rows), rng.randrange(columns)))))


def change(rng: random.Random, shown: Shown) -> Shown:
    """A screen that differs in a few cells."""
    lines = list(shown.lines)
    for _ in range(rng.randrange(4)):
        row = rng.randrange(len(lines))
        at = rng.randrange(len(lines[row].text))
        text, colours = lines[row].text, list(lines[row].colours)
        colours[at] = (rng.randrange(16), 1)
        lines[row] = Line(text[:at] + rng.choice("xyz") + text[at + 1 :], tuple(colours))
    return Shown(tuple(lines), rng.choice((shown.cursor, None, (0, 0))))


@pytest.mark.parametrize("seed", range(5))
def test_updates_make_a_terminal_show_the_screen(seed: int) -> None:
    rng = random.Random(seed)
    terminal = Terminal(20, 8)
    before, now = None, screen(rng, 20, 8)
    for step in range(60):
        terminal.take(update(before, now))
        assert terminal.shows(now), step
        before = now
        if rng.random() < 0.1:
            now = screen(rng, rng.choice((10, 20)), rng.choice((3, 8)))
        else:
            now = change(rng, now)


def test_an_update_sends_what_has_changed() -> None:
    rows = tuple(Line("." * 80, ((7, 0),) * 80) for _ in range(25))
    before = Shown(rows, (0, 0))
    line = Line("." * 40 + "x" + "." * 39, ((7, 0),) * 80)
    assert update(before, before) == ""
    assert len(update(before, Shown((*rows[:24], line), (0, 0)))) < 50


def test_colours_are_those_of_a_pc() -> None:
    assert (sgr(4, 0), sgr(1, 7), sgr(0xE, 1)) == ("\x1b[31;40m", "\x1b[34;47m", "\x1b[93;44m")


def test_a_small_terminal_shows_the_rows_with_the_cursor() -> None:
    shown = Shown(tuple(Line(f"{n:02}345", ((7, 0),) * 5) for n in range(25)), (24, 1))
    part = window(shown, 4, 24)
    assert [line.text for line in part.lines] == [f"{n:02}34" for n in range(1, 25)] and part.cursor == (23, 1)
    assert window(shown._replace(cursor=(3, 4)), 4, 24).cursor is None
    assert window(shown._replace(cursor=None), 80, 24).lines[0].text == "00345"
    assert window(shown, 80, 30) == shown


def test_what_is_entered_is_left() -> None:
    assert {mode for mode in re.findall(r"\?(\d+)[hl]", ENTER)} == {mode for mode in re.findall(r"\?(\d+)[hl]", LEAVE)}


@pytest.mark.parametrize("true_colour", [True, False])
def test_a_picture_is_two_pixels_a_cell(true_colour: bool) -> None:
    rng = np.random.default_rng(1)
    levels = np.array(picture.LEVELS, np.uint8)
    before = None
    terminal = Terminal(16, 8)
    pixels = levels[rng.integers(0, 6, (16, 16, 3))]
    for _ in range(5):
        terminal.take(picture.update(before, pixels, true_colour=true_colour))
        before = pixels.copy()
        for row in range(8):
            for column in range(16):
                character, colours = terminal.cells[row][column]
                assert character == picture.HALF_BLOCK
                assert _decode(colours) == [*pixels[2 * row, column].tolist(), *pixels[2 * row + 1, column].tolist()]
        pixels[rng.integers(16), rng.integers(16)] = levels[rng.integers(0, 6, 3)]
    assert picture.update(pixels, pixels, true_colour=true_colour) == ""


def _decode(colours: str) -> list[int]:
    numbers = [int(number) for number in colours.split(";")]
    if numbers[1] == 2:
        return [*numbers[2:5], *numbers[7:10]]
    cube = [numbers[2] - 16, numbers[5] - 16]
    return [picture.LEVELS[number // divisor % 6] for number in cube for divisor in (36, 6, 1)]


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (20, 5)])
def test_a_picture_fits_the_terminal(size: tuple[int, int]) -> None:
    for height, width in ((200, 320), (768, 1024), (8, 8), (1, 2560)):
        fitted = picture.fit(np.zeros((height, width, 3), np.uint8), *size)
        assert fitted.shape[0] <= 2 * size[1] and fitted.shape[1] <= size[0] and fitted.shape[0] % 2 == 0
