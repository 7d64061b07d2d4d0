"""From nothing to a booted guest by one command, and to tests of one's own kernel or plugin by one more, in an empty
environment: ``python -m tests.from_nothing`` builds the wheel, runs each under every Python there is (or those that are
named), and prints how long it took.

Empty is: an environment of its own for Python, an empty home (so no caches of pip or of ours), no variables but PATH,
and none of this checkout. pip fetches what the wheel needs from the index that it is configured for in the system.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.programs import program
from tests.pythons import pythons
from tests.test_wheel import ROOT, build


@dataclass(frozen=True)
class Step:
    """What somebody types in one line, and what must be in its output. ``most``: seconds that it is meant to take."""

    name: str
    command: str
    said: str
    most: float


STEPS = (
    Step(
        "a booted guest",
        "python -m venv v && v/bin/pip install -q {wheel} && v/bin/hypervisor run hello",
        "Hello\n",
        30,
    ),
    Step("a start", "hypervisor run hello", "Hello\n", 1.5),
    Step("the wheel's kernels", "hypervisor doctor", "those of the package, compiled for x86-64-v2", 5),
    *(
        Step(
            f"a tested kernel in {lang}",
            f"hypervisor init {lang}-kernel --lang {lang} && pip install -q pytest && cd {lang}-kernel && pytest -q",
            "3 passed",
            60,
        )
        for lang in ("asm", "c")
    ),
    Step(
        "a tested plugin",
        "hypervisor init my-dice --plugin && cd my-dice && pip install -q -e '.[test]' && pytest -q",
        "8 passed",
        60,
    ),
)


@dataclass(frozen=True)
class Done:
    """How a step went: its status, its output, its seconds by the wall clock, and those that processors spent."""

    step: Step
    status: int
    output: str
    seconds: float
    busy: float


def play(wheel: Path, python: Path, place: Path) -> list[Done]:
    """Run the steps in ``place``, an empty folder, up to the first that fails."""
    home = place / "home"
    home.mkdir()
    programs = f"{place}/v/bin:{place}/python:/usr/local/bin:/usr/bin:/bin"
    (place / "python").mkdir()
    (place / "python" / "python").symlink_to(python)
    environment = {"PATH": programs, "HOME": str(home), "TMPDIR": str(home), "LC_ALL": "C.UTF-8"}
    done = []
    for step in STEPS:
        began, busy = time.monotonic(), _busy()
        ran = subprocess.run(
            ["sh", "-c", step.command.format(wheel=wheel)], cwd=place, env=environment, text=True, timeout=600,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        done.append(Done(step, ran.returncode, ran.stdout, time.monotonic() - began, _busy() - busy))
        if ran.returncode or step.said not in ran.stdout:
            break
    return done


def good(done: list[Done]) -> bool:
    """Whether all steps did what they were to do; how long they took is for a person to judge."""
    return len(done) == len(STEPS) and all(one.status == 0 and one.step.said in one.output for one in done)


def _busy() -> float:
    """Seconds of processor time that programs of ours have taken, which have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def main(*interpreters: str) -> int:
    """Run and print; the exit status is 1 if a step failed or took longer than it is meant to."""
    chosen = {name: Path(program(name)) for name in interpreters} or pythons()
    bad = False
    with tempfile.TemporaryDirectory(prefix="wheel") as built:
        wheel = build("wheel", ROOT, Path(built))
        for name, python in chosen.items():
            with tempfile.TemporaryDirectory(prefix="nothing") as place:
                done = play(wheel, python.resolve(), Path(place))
            print(f"Python {name}")
            for one in done:
                print(
                    f"  {one.step.name:26} {one.seconds:5.1f} s (at most {one.step.most:3g}), "
                    f"{one.busy:5.1f} s of processors, status {one.status}"
                )
            if not good(done):
                print(done[-1].step.command, done[-1].output, sep="\n")
            bad |= not good(done) or any(one.seconds > one.step.most for one in done)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
