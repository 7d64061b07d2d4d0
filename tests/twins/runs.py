"""Twin runs: a machine whose state is taken, put into a machine in another process, and both run on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import hypervisor as hv
from tests.twins.resume import Job, Outcome, differences, outcome

ROOT = Path(__file__).parents[2]


class Guest(NamedTuple):
    """What is run: a configuration, until it ends or a time has come, and what a person does before."""

    options: dict[str, Any]
    limit_s: float = 30.0
    person: Callable[[hv.VM], object] = lambda vm: None
    patience_s: float = 120.0
    """How long a run of it may take on a busy host."""


class Pair(NamedTuple):
    """What came of a machine that ran on, and of its twin."""

    name: str
    moment_ns: int
    original: Outcome
    twin: Outcome

    @property
    def differences(self) -> list[str]:
        """What differs, by name."""
        return differences(self.original, self.twin)


def length_ns(config: hv.MachineConfig, guest: Guest) -> int:
    """How long the guest runs."""
    with hv.boot(config) as vm:
        guest.person(vm)
        vm.run(virtual_timeout=guest.limit_s, timeout=guest.patience_s)
        return vm.clock.now_ns


def pairs(
    guests: Mapping[str, Guest], folder: Path, moments: int, seed: int, *, disturbed: bool = False, files: bool = False
) -> Iterator[Pair]:
    """Stop each guest at random moments, take its state, and let both it and its twin go on; the twin on a busy host
    if it is ``disturbed``, and booted from a file of the machine, without another configuration, if that is in
    ``files``.
    """
    originals: list[tuple[str, int, Outcome]] = []
    jobs: list[Job] = []
    for name, guest in guests.items():
        config = hv.MachineConfig.of(None, guest.options)
        toml = folder / f"{name}.toml"
        toml.write_text(config.to_toml())
        limit_ns, rng = int(guest.limit_s * 1e9), Random(f"{seed} {name}")
        end = length_ns(config, guest)
        for number, moment in enumerate(sorted(rng.randrange(1, max(end, 2)) for _ in range(moments))):
            with hv.boot(config) as vm:
                guest.person(vm)
                if (left := moment - vm.clock.now_ns) > 0:
                    vm.run(virtual_timeout=left / 1e9, timeout=guest.patience_s)
                saved = folder / f"{name}.{number}"
                if files:
                    vm.save(saved)
                else:
                    saved.write_bytes(vm.state().to_bytes())
                jobs.append(("" if files else str(toml), limit_ns, str(saved)))
                originals.append((name, moment, outcome(vm, limit_ns)))
    for (name, moment, original), twin in zip(
        originals, in_another_process(jobs, folder, seed if disturbed else None), strict=True
    ):
        yield Pair(name, moment, original, twin)


def in_another_process(jobs: list[Job], folder: Path, seed: int | None) -> list[Outcome]:
    """What comes of machines there, on a busy host if there is a ``seed``."""
    (folder / "jobs").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "tests.twins.resume", str(folder / "jobs"), *([] if seed is None else [str(seed)])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
