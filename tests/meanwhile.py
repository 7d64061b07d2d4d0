"""What another thread does while a guest runs."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hypervisor as hv


@contextmanager
def again_and_again(action: Callable[[], object], seconds: float, rng: random.Random | None = None) -> Iterator[None]:
    """Do something on another thread during the block: so many seconds apart; with ``rng`` at random moments, so many
    seconds apart on average. What it raises is raised at the end of the block.
    """
    over = threading.Event()
    failures: list[BaseException] = []

    def repeat() -> None:
        try:
            while not over.wait(seconds if rng is None else rng.random() * 2 * seconds):
                action()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]


def kick(vm: hv.VM) -> None:
    """Make a VM that is on a pCPU leave the guest at its next block."""
    if (pcpu := vm.place.pcpu) is not None:
        pcpu.kick()
