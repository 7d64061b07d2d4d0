"""Transcripts in documents: commands and what they print, kept true by running them.

A block after ``<!-- file: NAME -->`` is a file. A block of ``console`` is a transcript: lines that begin with ``$ ``
are commands for the shell, what follows is what they print on stdout and stderr; a line ``...`` stands for any lines.
The blocks of a document run in order in one directory. Numbers that another compiler would change (addresses,
times, sizes) are compared as numbers, not by value.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n+)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
SHIMS = {
    "hypervisor": "-m hypervisor",
    "hypervisor-qemu": "-m hypervisor.cli.qemu",
    "python": "",
    "pytest": "-m pytest -p no:cacheprovider",
}
SECONDS = 300
PORT = "3117"
"""The TCP port of the documents; a free one takes its place."""


@dataclass
class Step:
    """A command with the lines that it is to print, or a file to write (``command`` empty)."""

    line: int
    command: str = ""
    expected: list[str] = field(default_factory=list)
    file: str = ""
    text: str = ""


def steps(document: Path) -> list[Step]:
    """The files and commands of a document, in order."""
    text = document.read_text()
    found: list[Step] = []
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start("text")) + 1
        if block["file"]:
            found.append(Step(line, file=block["file"], text=block["text"]))
        elif block["kind"] == "console":
            for number, said in enumerate(block["text"].splitlines()):
                if said.startswith("$ "):
                    found.append(Step(line + number, said[2:]))
                else:
                    found[-1].expected.append(said)
    return found


def play(found: list[Step], folder: Path) -> list[str]:
    """Write the files and run the commands in ``folder``; a text for each command that printed something else."""
    binaries = folder / ".bin"
    binaries.mkdir()
    for name, arguments in SHIMS.items():
        (binaries / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (binaries / name).chmod(0o755)
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    # A person's terminal: pytest prints more where CI is set.
    person = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    environment = {**person, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "LC_ALL": "C"}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    problems = []
    for step in found:
        if step.file:
            (folder / step.file).write_text(step.text)
            continue
        done = subprocess.run(
            ["bash", "-c", step.command.replace(PORT, port)], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS, check=False,
        )  # fmt: skip
        printed = done.stdout.decode(errors="replace").replace("\r", "").splitlines()
        if not matches(step.expected, printed):
            shown = "\n".join(printed)
            problems.append(f"line {step.line}: $ {step.command}\nprinted:\n{shown}\n")
    return problems


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether the lines printed are those expected, where ``...`` stands for any lines."""
    parts: list[list[str]] = [[]]
    for line in expected:
        if line == "...":
            parts.append([])
        else:
            parts[-1].append(plain(line))
    lines = [plain(line) for line in printed]
    if lines[: len(parts[0])] != parts[0]:
        return False
    at = len(parts[0])
    if len(parts) == 1:
        return at == len(lines)
    for part in parts[1:-1]:
        at = next((n + len(part) for n in range(at, len(lines)) if lines[n : n + len(part)] == part), -1)
        if at < 0:
            return False
    last = parts[-1]
    return not last or (len(lines) - len(last) >= at and lines[len(lines) - len(last) :] == last)


def plain(line: str) -> str:
    """A line without trailing space, with numbers of several digits replaced."""
    line = re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{8,16}\b", "0xN", line.rstrip())
    return re.sub(r" +(\d+(\.\d+)?) (ns|s)\b", r" N \3", line)
