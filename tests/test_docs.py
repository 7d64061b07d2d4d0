"""Every Python block in the documents runs. One that cannot is preceded by a line ``<!-- not run: reason -->``.

One that is a file of a transcript (``<!-- file: NAME -->``) is run by tests/test_transcripts.py.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_EXEMPTIONS = 2
_COMMENT = r"^(?:<!-- (?P<why>not run|file): (?P<what>[^\n]+?) -->\n+)?"
_BLOCK = re.compile(_COMMENT + r"```python\n(?P<code>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A Python block and where it begins."""

    document: Path
    line: int
    code: str
    exemption: str | None
    file: str | None = None


def blocks(document: Path, text: str) -> list[Block]:
    """The Python blocks of a document's text."""
    return [
        Block(
            document,
            text.count("\n", 0, match.start("code")) + 1,
            match["code"],
            match["what"] if match["why"] == "not run" else None,
            match["what"] if match["why"] == "file" else None,
        )
        for match in _BLOCK.finditer(text)
    ]


BLOCKS = [block for document in DOCUMENTS for block in blocks(document, document.read_text())]
RUN = [block for block in BLOCKS if block.exemption is None and block.file is None]


@pytest.mark.parametrize("block", RUN, ids=lambda block: f"{block.document.name}:{block.line}")
def test_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Padded, so that a traceback shows the document's own line.
    code = compile("\n" * (block.line - 1) + block.code, str(block.document), "exec")
    module = ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)  # where dataclasses look up their annotations
    exec(code, vars(module))


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.file], ids=lambda block: block.file)
def test_a_file_is_run_by_a_command_of_its_document(block: Block) -> None:
    commands = re.findall(r"^\$ .*", block.document.read_text(), re.M)
    assert any(str(block.file) in command for command in commands)


def test_exemptions_stay_few() -> None:
    exempt = [f"{block.document.name}:{block.line} ({block.exemption})" for block in BLOCKS if block.exemption]
    assert len(exempt) <= MOST_EXEMPTIONS, exempt


def test_no_block_is_overlooked() -> None:
    """Each fence that says python is a block that we found: none is indented, or spelt in another way."""
    fences = sum(len(re.findall(r"```\s*py", document.read_text())) for document in DOCUMENTS)
    assert fences == len(BLOCKS) > 0


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{document.name}: {target}"
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
        if not (document.parent / target).exists()
    ]
    assert not broken


def test_extraction() -> None:
    text = "x\n\n```python\na = 1\n```\n\n<!-- not run: needs a terminal -->\n```python\nb\n```\n```sh\nls\n```\n"
    found = blocks(Path("x.md"), text)
    assert [(block.line, block.code, block.exemption) for block in found] == [
        (4, "a = 1\n", None),
        (9, "b\n", "needs a terminal"),
    ]
