"""What another thread does while a guest runs."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hypervisor as hv


@contextmanager
def alongside(work: Callable[[], object], end: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Work is done on another thread during the block, at whose end ``end()`` is called and the thread waited for. What
    it raises is raised there.
    """
    failures: list[BaseException] = []

    def do() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=do)
    thread.start()
    try:
        yield
    finally:
        end()
        thread.join()
    if failures:
        raise failures[0]


@contextmanager
def again_and_again(action: Callable[[], object], seconds: float, rng: random.Random | None = None) -> Iterator[None]:
    """Do something on another thread during the block: so many seconds apart; with ``rng`` at random moments, so many
    seconds apart on average. What it raises is raised at the end of the block.
    """
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds if rng is None else rng.random() * 2 * seconds):
            action()

    with alongside(repeat, over.set):
        yield


def kick(vm: hv.VM) -> None:
    """Make a VM that is on a pCPU leave the guest at its next block."""
    if (pcpu := vm.place.pcpu) is not None:
        pcpu.kick()
