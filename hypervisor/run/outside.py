"""What comes to every machine from outside, beside what people send: resets, NMIs, and bytes for its memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError
from hypervisor.run.inbox import MAX_CONTENT

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine

RESET, NMI_PIN, MEMORY = "reset", "NMI", "memory"
"""What is called so in a machine's inbox; contents are nothing, the number of a vCPU as a byte, and `_STORE` and bytes.
"""

_STORE = struct.Struct("<Q")
"""An address of the base map (`hypervisor.memory.page_map`)."""


def connect(machine: Machine) -> None:
    """Let such messages reach a machine, and note what is stored at once."""
    inbox, memory, place = machine.inbox, machine.memory, machine.place

    def pulse(content: bytes) -> None:
        if len(content) != 1 or content[0] >= machine.cpus:
            raise ConfigError(f"A message for {NMI_PIN}: {content[:8]!r} is the number of no vCPU.")
        machine.vcpus[content[0]].nmi()

    def store(content: bytes) -> None:
        base, data = int.from_bytes(content[: _STORE.size], "little"), content[_STORE.size :]
        if not memory.lies_at(base, len(data)):
            raise ConfigError(f"A message for {MEMORY}: {len(data)} bytes at {base:#x} of the base map are no memory.")
        memory.store_beneath(base, data)

    @contextmanager
    def from_outside(base: int, data: bytes | memoryview) -> Iterator[None]:
        if inbox.recording is None and not place.elsewhere:
            yield
            return
        with place.held():
            yield
            step = MAX_CONTENT - _STORE.size
            for at in range(0, len(data), step):
                inbox.note(MEMORY, _STORE.pack(base + at) + data[at : at + step])

    inbox.connect(RESET, lambda content: machine.reset_now())
    inbox.connect(NMI_PIN, pulse)
    inbox.connect(MEMORY, store)
    memory.from_outside = from_outside


__all__ = ["MEMORY", "NMI_PIN", "RESET", "connect"]
