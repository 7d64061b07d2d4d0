"""What we tell the user, on stderr: stdout is the guest's."""

from __future__ import annotations

import io
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


def print_at_once() -> None:
    """Have what plugins print leave at once: the guest's output goes to the same place, past Python's buffer."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def end_printing() -> bool:
    """Write what is left of what was printed; False, with a message, if that fails."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        say(f"standard output failed: {error.strerror}.")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter tries again at its end
        return False
    return True


def hold_standard_descriptors() -> None:
    """Keep 0, 1 and 2 from becoming something else, which the guest's output would be written to: a disk image, say."""
    for descriptor, flags in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # or print would take stdout instead
