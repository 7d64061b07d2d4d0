"""What a machine needs of parts that remember something, and of the firmware, which the room above puts in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol


class Stateful(Protocol):
    """A part of a machine that remembers something; devices are (`hypervisor.bus.Device`)."""

    def state(self) -> Any:
        """A copy of all that it remembers: a record (`hypervisor.state`), of a class of its own."""
        ...

    def restore(self, state: Any) -> None:
        """Go on from ``state``, without being heard. Raises `ConfigError` or `DeviceError` if it does not fit."""
        ...


class Firmware(Protocol):
    """What ran before the guest (`hypervisor.firmware`)."""

    def parts(self) -> Iterable[tuple[str, Stateful]]:
        """What of it has a state, by name."""
        ...
