"""The twin runs as a command: ``python -m tests.twins [--moments 10] [--seed N] [NAME...]``.

Each guest is stopped at random moments of its virtual time. Its state goes, as bytes, into a machine in another process
that was built from the same configuration; both run on to the end, and everything of them must be equal.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.twins.guests import linux, shipped
from tests.twins.runs import Guest, pairs


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="guests; by default all, and Linux on 1 and 2 vCPUs")
    parser.add_argument("--moments", type=int, default=10, help="for each guest")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    guests: dict[str, Callable[[Path], Guest]] = {
        name: lambda folder, guest=guest: guest for name, guest in shipped().items()
    }
    guests |= {f"linux {cpus}": lambda folder, cpus=cpus: linux(folder, cpus) for cpus in (1, 2)}
    bad = 0
    for name in given.names or guests:
        with tempfile.TemporaryDirectory() as folder:
            for pair in pairs({name: guests[name](Path(folder))}, Path(folder), given.moments, given.seed):
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
