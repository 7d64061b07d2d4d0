"""The process that runs directed attacks, one after the other on one host, and says how each ended."""

from __future__ import annotations

import json
import os
import sys
import time

import hypervisor as hv
from tests.hostile.cases import load
from tests.hostile.neighbour import Neighbour
from tests.hostile.worker import run_one


def main(channel: int, names: list[str]) -> None:
    """Run the attacks of these names."""
    cases = load()
    host = hv.Host(memory="8M", cpus=1)
    neighbour = Neighbour(host)
    neighbour.work()
    for number, name in enumerate(names):
        os.write(channel, json.dumps({"name": name}).encode() + b"\n")
        started = time.perf_counter()
        result = run_one(host, cases[name].make())
        line = {"name": name, "reason": result.reason.value, "text": f"{result.message}\n{result.crash or ''}"}
        line["seconds"] = time.perf_counter() - started
        os.write(channel, json.dumps(line).encode() + b"\n")
        if number % 25 == 0:
            neighbour.work()
    neighbour.check()
    host.close()
    os.write(channel, b'{"name": "neighbour", "reason": "unharmed", "text": "", "seconds": 0}\n')


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.stdin.read()))
