"""The transcripts in docs/ say what happens: every command is run, and its output compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs import program
from tests.transcripts import ROOT, Step, matches, play, steps

DOCUMENTS = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "```console" in path.read_text()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_documents_transcripts_are_true(document: Path, tmp_path: Path) -> None:
    for name in ("gcc", "make", "nasm", "gdb", "tshark"):
        program(name)
    problems = play(steps(document), tmp_path)
    assert not problems, f"{document.name}, " + "\n".join(problems)


def test_documents_have_transcripts() -> None:
    assert {path.name for path in DOCUMENTS} >= {"debugging.md", "tutorial.md"}


def test_a_wrong_transcript_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    found = [Step(7, "cat name; echo 0x10", ["one", "0x20"]), Step(8, "echo two", ["three"])]
    problems = play([Step(1, file="name", text="one\n"), *found], tmp_path / "folder")
    assert problems == ["line 8: $ echo two\nprinted:\ntwo\n"]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (["a", "...", "c"], ["a", "b", "b", "c"], True),
        (["a", "...", "c"], ["a", "c", "d"], False),
        (["...", "b", "...", "c", "..."], ["a", "b", "x", "c", "y"], True),
        (["a", "..."], ["b"], False),
        (["...", "b", "..."], ["a"], False),
        ([], [], True),
        ([], ["a"], False),
        (["   12 ns  in 0x60"], ["  345 ns  in 0x61"], True),
        (["in 0x60 -> (1)"], ["in 0x60 -> (2)"], False),
    ],
)
def test_lines_are_compared(expected: list[str], printed: list[str], same: bool) -> None:
    assert matches(expected, printed) == same
