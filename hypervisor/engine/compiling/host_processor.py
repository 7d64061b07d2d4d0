"""What the processor has that this runs on, as ``/proc/cpuinfo`` tells: machine code may ask for more than it has."""

from __future__ import annotations

from itertools import takewhile

LEVEL = "x86-64-v2"
"""What the kernels are compiled for that come with the package: a level of the System V ABI (AMD64 supplement, 3.1.1),
which processors have since 2009.
"""

NEEDED = frozenset(("cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"))
"""The flags of `LEVEL`, by Linux's names, beside what every x86-64 processor has."""

_TELLING = ("vendor_id", "cpu family", "model", "stepping", "flags")
"""Lines that are the same whenever one looks."""


def description() -> str:
    """All that machine code for this very processor depends on. Empty where nothing tells of it."""
    return "".join(line for line in _lines() if line.startswith(_TELLING))


def model() -> str:
    """The processor's name."""
    return _value("model name") or "of no known name"


def lacks() -> list[str]:
    """What of `NEEDED` this processor has not, in order; all of it where nothing tells of the processor."""
    return sorted(NEEDED.difference(_value("flags").split()))


def _value(name: str) -> str:
    for line in _lines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _lines() -> list[str]:
    """Those of the first processor: the next ones are behind an empty line."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            return list(takewhile(str.strip, lines))
    except OSError:
        return []


__all__ = ["LEVEL", "NEEDED", "description", "lacks", "model"]
