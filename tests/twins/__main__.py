"""The twin runs as a command: ``python -m tests.twins [--moments 10] [--seed N] [--files] [--disturbed] [NAME...]``.

Each guest is stopped at random moments of its virtual time. Its state goes, as bytes, into a machine in another process
that was built from the same configuration; both run on to the end, and everything of them must be equal. Disturbed, the
other machine is beside neighbours on a host with two pCPUs, moved, paused, kicked and stopped; a load computes all the
while.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.twins.guests import FIRMWARE, LINUX, shipped
from tests.twins.runs import Guest, pairs


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="guests; by default those of the package, and Linux on 1 and 2 vCPUs")
    parser.add_argument("--moments", type=int, default=10, help="for each guest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--disturbed", action="store_true", help="let the twins go on on a busy host")
    parser.add_argument("--load", type=int, default=0, help="processes that compute all the while")
    parser.add_argument("--files", action="store_true", help="save machines in files, and boot the twins from them")
    given = parser.parse_args()
    guests: dict[str, Callable[[Path], Guest]] = {
        name: lambda folder, guest=guest: guest for name, guest in shipped().items()
    }
    usual = [*guests, "linux 1", "linux 2"]
    guests |= FIRMWARE | LINUX
    bad = 0
    with ExitStack() as stack:
        for _ in range(given.load):
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        for name in given.names or usual:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            guest = {name: guests[name](folder)}
            for pair in pairs(guest, folder, given.moments, given.seed, disturbed=given.disturbed, files=given.files):
                verdict = "DIFFER: " + ", ".join(pair.differences) if pair.differences else "equal"
                end = pair.original
                print(
                    f"{name}: state at {pair.moment_ns / 1e6:.3f} ms; {end['reason']} at {end['time'] / 1e6:.3f} ms, "
                    f"{sum(end['exits'].values())} exits, {end['written']} bytes written, {len(end['parts'])} parts: "
                    f"{verdict}",
                    flush=True,
                )
                bad += bool(pair.differences)
    raise SystemExit(f"{bad} twins differ" if bad else 0)


if __name__ == "__main__":
    main()
