"""Each directed attack ends in a clear verdict for its own VM; the process and the neighbour live."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.cases import CASES, load

ROOT = Path(__file__).parents[2]
load()


def _run(names: list[str]) -> tuple[dict[str, dict[str, Any]], str | None, str]:
    """Run attacks in a process of their own: what each said, and which one killed the process, and how."""
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.attacks", str(writer)],
        cwd=ROOT, pass_fds=(writer,), stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        os.close(writer)
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(json.dumps(names).encode())
        process.stdin.close()
        with os.fdopen(reader, "rb") as channel:
            lines = [json.loads(line) for line in channel]
        errors = process.stderr.read().decode(errors="replace")
    said = {line["name"]: line for line in lines if "reason" in line}
    if process.returncode == 0:
        return said, None, ""
    how = signal.Signals(-process.returncode).name if process.returncode < 0 else f"status {process.returncode}"
    return said, lines[-1]["name"] if lines else names[0], f"{how}\n{errors[-3000:]}"


@pytest.fixture(scope="session")
def outcomes() -> dict[str, dict[str, Any]]:
    """How every attack ended. A process that dies is started again behind the attack that did it."""
    waiting = list(CASES)
    found: dict[str, dict[str, Any]] = {}
    while waiting:
        said, culprit, how = _run(waiting)
        found.update(said)
        if culprit is None:
            break
        found[culprit] = {"reason": f"the host process ended with {how}", "text": "", "seconds": 0}
        rest = waiting[waiting.index(culprit) + 1 :] if culprit in waiting else []
        waiting = rest
    return found


@pytest.mark.parametrize("name", CASES)
def test_ends_in_a_verdict(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    outcome = outcomes[name]
    assert outcome["reason"] in CASES[name].ends, f"{outcome['reason']}: {outcome['text']}"


def test_the_neighbour_is_unharmed(outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes["neighbour"]["reason"] == "unharmed"
