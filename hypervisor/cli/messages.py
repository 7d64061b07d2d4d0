"""What we tell the user, on stderr: stdout is the guest's."""

from __future__ import annotations

import os
import sys

_STANDARD = ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDWR))
"""Descriptors, and how one that was closed is opened: input and output still fail, messages go nowhere."""


def say(text: str) -> None:
    """A message of ours. Nobody may be there to read it, which must not change how the run ends."""
    try:
        print(f"hypervisor: {text}", file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = None


def hold_standard_descriptors() -> None:
    """Keep 0, 1 and 2 from becoming something else, which the guest's output would be written to: a disk image, say."""
    for descriptor, flags in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # or print would take stdout instead
