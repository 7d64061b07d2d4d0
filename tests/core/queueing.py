"""Pieces of tests about VMs that queue for pCPUs."""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Any

from hypervisor.run.sharing.runqueue import RunQueue
from hypervisor.run.threads.interrupting import starts_a_thread

FOREVER = 1e6
LOOP = "again: inc rbx; jmp again"
WORK = "mov ecx, 400000; l: inc rbx; dec ecx; jnz l; cli; hlt"


class FakePCpu:
    """What the queue knows of a pCPU."""

    def __init__(self) -> None:
        self.owner: Any = None
        self.kicks = 0

    def kick(self) -> None:
        self.kicks += 1


class Customer:
    """What the queue knows of a VM."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.last: Any = None


def fakes(pcpus: int, vms: int) -> tuple[Any, list[Any]]:
    queue: Any = RunQueue([FakePCpu() for _ in range(pcpus)])  # type: ignore[misc]
    return queue, [Customer(f"vm{n}") for n in range(vms)]


def threads_of(targets: list[Any]) -> list[threading.Thread]:
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    return threads


def until(condition: Any) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit, "it never came so far"
        time.sleep(0.001)


class Interrupt(Exception):
    """Comes at any time."""


def interrupt(thread: threading.Thread) -> None:
    until(lambda: not starts_a_thread(thread.ident or 0))
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Interrupt))
