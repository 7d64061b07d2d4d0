"""What a unit test of a handler costs: ``python -m bench.asm [--programs N] [--seed N]``.

Milliseconds of processor time for `hypervisor.run_asm` of a plain HLT and of random bytes, which crash, halt, run off
their end or never end. Nothing is written.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections import Counter

import hypervisor as hv

LENGTH = 16


def measure(code: str) -> tuple[float, str]:
    """Milliseconds, and how it ended."""
    began = time.process_time()
    result = hv.run_asm(code)
    return (time.process_time() - began) * 1e3, result.reason.value


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--programs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    for code in ("hlt", "ud2"):  # what is loaded once
        measure(code)
    plain = [measure("hlt")[0] for _ in range(100)]
    programs = [".byte " + ", ".join(str(byte) for byte in rng.randbytes(LENGTH)) for _ in range(options.programs)]
    found = [measure(code) for code in programs]
    times = [ms for ms, _ in found]
    print(f"hlt: {statistics.mean(plain):.1f} ms")
    print(f"{LENGTH} random bytes: {statistics.mean(times):.1f} ms on average, {statistics.median(times):.1f} median, "
          f"{max(times):.0f} at most; {dict(Counter(reason for _, reason in found))}")  # fmt: skip


if __name__ == "__main__":
    main()
