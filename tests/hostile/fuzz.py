"""A seeded fuzzer: ``python -m tests.hostile.fuzz --guests 125000 --programs 8 --seed N`` runs a million programs.

Guests run in worker processes, many per process on one shared host, each with some programs one after the other: making
a machine takes longer than running a program on it. A worker that dies or hangs is reported with the guest that did it,
and the next worker goes on behind it. ``--only NUMBER`` runs one guest again.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SILENCE_S = 30.0
"""Host seconds without progress after which a worker is killed."""


@dataclass
class Outcome:
    """What a run of the fuzzer found."""

    guests: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    slow: list[tuple[float, int, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class _Batch:
    first: int
    count: int
    programs: int
    last: int = -1
    buffer: bytes = b""
    heard: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    channel: int = -1


def _start(seed: int, batch: _Batch) -> None:
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "tests.hostile.worker", str(seed), str(batch.first), str(batch.count)]
    command += [str(batch.programs), str(writer)]
    batch.process = subprocess.Popen(
        command, cwd=ROOT, pass_fds=(writer,), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    os.close(writer)
    batch.channel, batch.heard = reader, time.monotonic()


def _hear(batch: _Batch, outcome: Outcome) -> bool:
    """Read what a worker says; whether its summary has come."""
    data = os.read(batch.channel, 65536)
    batch.heard = time.monotonic()
    batch.buffer += data
    *lines, batch.buffer = batch.buffer.split(b"\n")
    for line in lines:
        if line.startswith(b"{"):
            report = json.loads(line)
            outcome.reasons.update(report["reasons"])
            outcome.exits.update(report["exits"])
            outcome.slow = sorted([*outcome.slow, *map(tuple, report["slow"])], reverse=True)[:5]
            outcome.problems += report["bad"]
            return True
        batch.last = int(line)
    return False


def _end(seed: int, batch: _Batch, outcome: Outcome, why: str) -> _Batch | None:
    """A worker ended early: report its guest, and give what is left."""
    assert batch.process is not None and batch.process.stderr is not None
    tail = batch.process.stderr.read().decode(errors="replace")[-2000:]
    outcome.problems.append(
        f"seed {seed}, guest {batch.last} (worker started at guest {batch.first}): {why}\n{tail}\n"
        f"Again: python -m tests.hostile.fuzz --seed {seed} --programs {batch.programs} --only {batch.last}"
    )
    done = max(batch.last, batch.first) + 1 - batch.first
    return _Batch(batch.first + done, batch.count - done, batch.programs) if done < batch.count else None


def fuzz(seed: int, guests: int, programs: int = 1, first: int = 0, workers: int = 2, batch: int = 500) -> Outcome:
    """Run guests ``first`` to ``first + guests - 1`` of a seed, with so many programs each."""
    outcome = Outcome(guests)
    started = time.monotonic()
    waiting = [_Batch(n, min(batch, first + guests - n), programs) for n in range(first, first + guests, batch)]
    running: list[_Batch] = []
    while (waiting or running) and len(outcome.problems) < 50:
        while waiting and len(running) < workers:
            running.append(waiting.pop(0))
            _start(seed, running[-1])
        ready, _, _ = select.select([one.channel for one in running], [], [], 1.0)
        for one in list(running):
            assert one.process is not None
            complete = one.channel in ready and _hear(one, outcome)
            why = ""
            if complete:
                one.process.wait(SILENCE_S)
            elif one.process.poll() is not None and not select.select([one.channel], [], [], 0)[0]:
                why = f"the worker ended with {_name(one.process.returncode)}"
            elif one.channel in ready and one.process.poll() is not None and one.heard and not one.buffer:
                one.process.wait()
                why = f"the worker ended with {_name(one.process.returncode)}"
            elif time.monotonic() - one.heard > SILENCE_S:
                one.process.kill()
                one.process.wait()
                why = f"the worker hung for {SILENCE_S} s"
            if complete or why:
                running.remove(one)
                rest = _end(seed, one, outcome, why) if why else None
                if rest is not None:
                    waiting.insert(0, rest)
                os.close(one.channel)
                if one.process.stderr is not None:
                    one.process.stderr.close()
    for one in running:
        assert one.process is not None
        one.process.kill()
        one.process.wait()
    outcome.seconds = time.monotonic() - started
    return outcome


def _name(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run random guests and look for what harms the host.")
    parser.add_argument("--guests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--programs", type=int, default=1, help="on each guest, one after the other")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--only", type=int, help="run just this guest, in this process")
    options = parser.parse_args()
    if options.only is not None:
        import hypervisor as hv
        from tests.hostile.worker import run_several

        with hv.Host(memory="8M") as host:
            for scene, result in run_several(host, options.seed, options.only, options.programs):
                print(scene.kind, scene.registers, sep="\n")
                print(result.reason.value, result.message, result.exits, result.crash or "", sep="\n", flush=True)
        return 0
    outcome = fuzz(options.seed, options.guests, options.programs, options.first, options.workers, options.batch)
    for problem in outcome.problems:
        print("-" * 100, problem, sep="\n")
    programs = sum(outcome.reasons.values())
    print(f"{programs} programs in {outcome.seconds:.1f} s, {programs / outcome.seconds:.0f} per second")
    print("reasons:", dict(outcome.reasons.most_common()))
    print("exits:", dict(outcome.exits.most_common()))
    print("slowest:", outcome.slow)
    print(f"{len(outcome.problems)} problems")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
