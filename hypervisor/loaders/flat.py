"""Flat binaries: bytes at an address, entered at an address in a mode. Never guessed: the user says all of it.

Mode 16: as a boot sector is entered (`cpu_state.real_mode`), SP = 7C00h. Modes 32 and 64: flat segments, a stack of
16 KiB, in mode 64 the first 4 GiB mapped one to one, interrupts off, no IDT.
"""

from __future__ import annotations

from hypervisor.errors import ConfigError
from hypervisor.loaders.boot_image import Image
from hypervisor.loaders.cpu_state import long_mode, protected_mode, real_mode, stack_top
from hypervisor.loaders.entry import BootSpec, Entry, GuestMemory
from hypervisor.loaders.memory_map import Placement, memory_map_of
from hypervisor.loaders.unsupported import refuse_payload
from hypervisor.units import MIB


def load(image: Image, spec: BootSpec, memory: GuestMemory) -> Entry:
    """Put the bytes at ``at``.

    The entry is ``entry`` or, without it, ``at``. Raises `ConfigError` for what is missing or cannot work.
    """
    if spec.at is None or spec.mode not in (16, 32, 64):
        raise ConfigError(
            f"{image.name}: a flat binary needs --at ADDRESS and --mode 16, 32 or 64 (and --entry, if it is not --at)."
        )
    refuse_payload(image, spec, "a flat binary")
    if not len(image):
        raise image.error("the file is empty; a flat binary has at least one byte.")
    start = spec.at if spec.entry is None else spec.entry
    limit = MIB if spec.mode == 16 else 1 << 32
    if not 0 <= start < limit:
        raise ConfigError(
            f"{image.name}: entry {start:#x} is out of reach in mode {spec.mode}; it must be below {limit:#x}."
        )
    if spec.at < 0:
        raise ConfigError(f"{image.name}: {spec.at} is not an address; --at must not be negative.")
    placement = Placement(image.name, memory_map_of(spec, memory))
    placement.claim(spec.at, len(image), "the flat binary")
    memory.write(spec.at, image.data)
    if spec.mode == 16:
        return real_mode("flat", start, {})
    regs = {"rsp": stack_top(placement)}
    if spec.mode == 32:
        return protected_mode("flat", start, regs, memory, placement)
    return long_mode("flat", start, regs, memory, placement)
