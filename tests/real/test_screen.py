from __future__ import annotations

from tests.real.screen import Screen


def test_cursor_moves_place_text() -> None:
    screen = Screen().feed("\x1b[2J\x1b[?25l\x1b[9;61HErrors: 0\x1b[1;1H\x1b[7m Memtest86+\x1b[0m|")
    assert screen.lines[8] == " " * 60 + "Errors: 0"
    assert screen.lines[0] == " Memtest86+|"


def test_later_text_covers_earlier_text() -> None:
    assert Screen().feed("abcdef\r\x1b[1;3HX\r\nnext").lines[:2] == ["abXdef", "next"]


def test_what_does_not_fit_is_dropped() -> None:
    assert Screen(columns=3, rows=1).feed("abcd\nef\x1b[5;1Hx").lines == ["abc"]


def test_clearing_keeps_the_cursor() -> None:
    assert Screen().feed("ab\x1b[2Jc").lines[0] == "  c"
