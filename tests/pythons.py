"""The Pythons at hand that the package is for, by version: this one, those on PATH, and all that pyenv has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST = (3, 11)
_NAME = re.compile(r"python3\.\d+")
_WHO = "import sys; print(sys.version_info[0], sys.version_info[1], sys.executable, sep='\\n')"


def pythons() -> dict[str, Path]:
    """An interpreter for each version, such as "3.12", the oldest first: the first one that runs."""
    found = {sys.version_info[:2]: Path(sys.executable).resolve()}
    for folder in _folders():
        for path in sorted(folder.glob("python3.*")):
            if _NAME.fullmatch(path.name) and (told := _told(path)) is not None and told[0] >= OLDEST:
                found.setdefault(*told)
    return {f"{major}.{minor}": path for (major, minor), path in sorted(found.items())}


def _folders() -> Iterator[Path]:
    yield from map(Path, os.environ.get("PATH", "").split(os.pathsep))
    root = os.environ.get("PYENV_ROOT")
    if root is None and (pyenv := shutil.which("pyenv")):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout.strip()
    if root:
        yield from sorted(Path(root).glob("versions/*/bin"))


def _told(path: Path) -> tuple[tuple[int, int], Path] | None:
    """Version and file of an interpreter, as it says itself; None for what is none: a shim of pyenv may lead nowhere,
    and another points at what has to be found out.
    """
    try:
        said = subprocess.run([path, "-I", "-c", _WHO], capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    if said.returncode:
        return None
    major, minor, executable = said.stdout.splitlines()
    return (int(major), int(minor)), Path(executable).resolve()


__all__ = ["pythons"]
