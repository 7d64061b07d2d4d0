"""Every way from outside into a running engine, as often as it can be taken while a guest runs.

Each is a context manager around the guest's runs. What it does must not change what the guest does.
"""

from __future__ import annotations

import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from types import FrameType

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.counting.guests import READY
from tests.meanwhile import again_and_again, kick

NEIGHBOUR = assemble("again: inc ecx; out 0x80, al; inc dword ptr [0x12000]; jmp again", origin=0x10000, mode=32).code
SHORT = assemble("mov ecx, 20000; again: dec ecx; jnz again; cli; hlt", origin=0x10000, mode=32).code


class RingError(Exception):
    """What the handler of a signal raises in the middle of a run."""


def kicks(vm: hv.VM, rng: random.Random) -> AbstractContextManager[None]:
    """The pCPU is kicked."""
    return again_and_again(partial(kick, vm), 0.0003, rng)


def looks(vm: hv.VM, rng: random.Random) -> AbstractContextManager[None]:
    """The run is made to look at its inputs, as each typed character does."""
    return again_and_again(vm.look, 0.0005, rng)


def stops(vm: hv.VM, rng: random.Random) -> AbstractContextManager[None]:
    """The run is ended from outside, and begun again."""
    return again_and_again(vm.request_stop, 0.004, rng)


def nmis(vm: hv.VM, rng: random.Random) -> AbstractContextManager[None]:
    """NMIs from another thread, once the guest has an IDT; it counts them in R11."""

    def nmi() -> None:
        if vm.memory.read(READY, 1) == b"\x01":
            vm.nmi()

    return again_and_again(nmi, 0.001, rng)


def writes(vm: hv.VM, rng: random.Random) -> AbstractContextManager[None]:
    """Another thread writes what is there already over the guest's code."""

    def write() -> None:
        at = 0x10000 + rng.randrange(64)
        vm.memory.write(at, vm.memory.read(at, 8))

    return again_and_again(write, 0.003, rng)


@contextmanager
def neighbour(vm: hv.VM, rng: random.Random) -> Iterator[None]:
    """Another VM wants the same pCPU."""
    with vm.host.create_vm(NEIGHBOUR, memory="1M", format="flat", at=0x10000, mode=32) as other:
        thread = threading.Thread(target=other.run)
        thread.start()
        try:
            yield
        finally:
            while thread.is_alive():
                other.request_stop()
                thread.join(0.001)


def passers_by(vm: hv.VM, rng: random.Random) -> AbstractContextManager[None]:
    """Other VMs are created on the same pCPU, run to their end, and are closed."""

    def visit() -> None:
        with vm.host.create_vm(SHORT, memory="1M", format="flat", at=0x10000, mode=32) as other:
            result = other.run(timeout=60)
            assert result.reason is hv.Reason.HALTED, result.message

    return again_and_again(visit, 0.005, rng)


@contextmanager
def signals(vm: hv.VM, rng: random.Random) -> Iterator[None]:
    """Signals whose handler raises in the main thread, each time the guest has come further. Once in each run: a second
    one would end the handler that the run is in.
    """
    last, over = [-1], threading.Event()

    def ring(number: int, frame: FrameType | None) -> None:
        if over.is_set():
            return
        signal.setitimer(signal.ITIMER_REAL, 0.0002 + rng.random() * 0.006)
        now = vm.clock.now_ns
        while frame is not None and frame.f_code.co_name != "for_task":
            frame = frame.f_back
        if frame is not None and frame.f_locals["self"].quiet and now > last[0] + 20_000:
            last[0] = now
            raise RingError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    try:
        yield
    finally:
        over.set()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def gdb(vm: hv.VM, rng: random.Random) -> Iterator[None]:
    """A debugger interrupts the guest and lets it go on."""
    server = vm.gdb()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(1)

        def interrupt() -> None:
            """Stop the guest, wait until it says so, and let it go on. Until a first stop it is held already."""
            with suppress(OSError):
                connection.sendall(b"\x03")
                for _ in range(30):
                    try:
                        if b"#" in connection.recv(4096):
                            break
                    except TimeoutError:
                        connection.sendall(b"$?#3f")
                connection.sendall(b"+$c#63")

        try:
            with again_and_again(interrupt, 0.002, rng):
                yield
                connection.shutdown(socket.SHUT_RDWR)
        finally:
            server.close()


def nothing(vm: hv.VM, rng: random.Random) -> AbstractContextManager[None]:
    """Nothing but the alarm of the wall clock."""
    return nullcontext()


WAYS: dict[str, Callable[[hv.VM, random.Random], AbstractContextManager[None]]] = {
    "nothing": nothing,
    "timeouts": nothing,
    "steps": nothing,
    "kicks": kicks,
    "looks": looks,
    "stops": stops,
    "nmis": nmis,
    "writes": writes,
    "neighbour": neighbour,
    "passers-by": passers_by,
    "signals": signals,
    "gdb": gdb,
}
"""By name. Timeouts and steps are how the guest is run (`tests.counting.counted`)."""
