"""What a register or a field takes of what a user writes there."""

from __future__ import annotations

from operator import index
from typing import Any

from hypervisor.errors import ConfigError


def fitting(name: str, value: Any, bits: int) -> int:
    """``value`` as ``name``, which has so many bits, takes it: negative numbers in two's complement. Raises
    `ConfigError` for what is wider and for what is no whole number.
    """
    try:
        number = index(value)
    except TypeError:
        raise ConfigError(f"{name} = {value!r}: a whole number is needed.") from None
    mask = (1 << bits) - 1
    if not -1 << bits - 1 <= number <= mask:
        raise ConfigError(f"{name} = {number:#x} has more than {bits} bits; write what is meant, as value & {mask:#x}.")
    return number & mask
