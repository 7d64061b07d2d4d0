"""The forwarding of a switch: it learns who is behind which port, and floods what is for anybody else (IEEE
802.1D-2004, 7.7 to 7.9).
"""

from __future__ import annotations

from hypervisor.network.ethernet import ADDRESS_SIZE, HEADER_SIZE, destination, is_group, source
from hypervisor.state import blob, number, record, several, time_ns
from hypervisor.units import NS_PER_S

MAX_ENTRIES = 1024
"""Addresses that are known at once: guests choose them. A new one takes the place of that which was heard of last the
longest time ago.
"""
AGEING_NS = 300 * NS_PER_S
MAX_PORTS = 256


@record
class EntryState:
    """An address, its port, and when it was heard of last."""

    address: bytes = blob(ADDRESS_SIZE)
    port: int = number(0, MAX_PORTS - 1)
    seen_ns: int = time_ns()


@record
class SwitchState:
    """What is known, the address that was heard of the longest time ago first."""

    entries: list[EntryState] = several(EntryState, MAX_ENTRIES)


class Switch:
    """Which ports a frame leaves by. Frames come in the order of their times."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, int]] = {}

    def ways(self, now_ns: int, port: int, frame: bytes, ports: int) -> list[int]:
        """The ports, of so many, that a frame which came in by ``port`` leaves by."""
        if len(frame) < HEADER_SIZE or is_group(source(frame)):
            return []
        self._learn(source(frame), port, now_ns)
        address = destination(frame)
        known = None if is_group(address) else self._known.get(address)
        if known is None or now_ns - known[1] > AGEING_NS:
            return [other for other in range(ports) if other != port]
        return [] if known[0] == port else [known[0]]

    def _learn(self, address: bytes, port: int, now_ns: int) -> None:
        self._known.pop(address, None)  # so that the order is that of the times
        if len(self._known) >= MAX_ENTRIES:
            del self._known[next(iter(self._known))]
        self._known[address] = port, now_ns

    def state(self) -> SwitchState:
        """All that is known."""
        return SwitchState([EntryState(address, *entry) for address, entry in self._known.items()])

    def restore(self, state: SwitchState) -> None:
        """Know this, and nothing else."""
        self._known = {one.address: (one.port, one.seen_ns) for one in state.entries}


__all__ = ["Switch", "SwitchState"]
