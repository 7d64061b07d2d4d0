"""Templates: folders of plain files, which are copied with the name that they go by, ``my-kernel``, replaced.

A file whose name begins with a dot is called ``dot_NAME`` here, as one with a dot would be ignored by tools.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"
BUILT = ("__pycache__",)
"""What appears in a template that was run where it lies."""


def files(template: Path) -> list[Path]:
    """A template's files, relative to it."""
    return sorted(
        path.relative_to(template)
        for path in template.rglob("*")
        if path.is_file() and not any(part in BUILT for part in path.parts)
    )


def rendered(layers: Sequence[str], words: Mapping[str, str]) -> dict[str, str]:
    """The texts of a project's files by their paths: those of all ``layers`` (folders of `TEMPLATES`), in which each
    of ``words`` is replaced, in paths as well.
    """
    made = {}
    for layer in layers:
        for path in files(TEMPLATES / layer):
            name = path.as_posix().replace("dot_", ".")
            made[_replace(name, words)] = _replace((TEMPLATES / layer / path).read_text(), words)
    return made


def _replace(text: str, words: Mapping[str, str]) -> str:
    return re.sub("|".join(map(re.escape, words)), lambda found: words[found[0]], text)


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write the files into ``folder``, which is there and empty."""
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
