"""Routing: which device answers at an I/O port or at a guest-physical address."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hypervisor.bus.device import Device
from hypervisor.bus.timed_register import TimedRegister
from hypervisor.errors import DeviceError
from hypervisor.markup import table


class Mapping:
    """A device's place: the half-open range ``[start, end)`` answers with offsets from ``base``.

    ``base`` is ``start`` unless a device shows a window of its registers (the RTC's ports 70h and 71h, say). It does
    not change.
    """

    __slots__ = "base", "device", "end", "start", "strings"

    def __init__(self, start: int, end: int, device: Device, base: int) -> None:
        self.start, self.end, self.device, self.base = start, end, device, base
        offset = getattr(device, "string_offset", None)
        self.strings = -1 if offset is None else base + offset
        """The address of its string port (`hypervisor.bus.StringPort`), or -1."""

    def __str__(self) -> str:
        return f"{self.device.name} at {self.start:#x}-{self.end - 1:#x}"


class AddressSpace:
    """Half-open ranges, each with its device. An overlap is an error when it is made, not when it is hit."""

    def __init__(self, what: str, limit: int) -> None:
        self.what = what
        self.limit = limit
        self._starts: list[int] = []
        self._mappings: list[Mapping] = []
        self._last: Mapping | None = None
        self.timed_changed: Callable[[], object] = lambda: None
        """Called when `timed` may be something else."""
        self._behind: dict[Callable[[], object], None] | None = None

    def __repr__(self) -> str:
        return f"<{self.what}: {', '.join(map(str, self._mappings)) or 'no devices'}>"

    def _repr_html_(self) -> str:
        rows = [(f"{one.start:#x}-{one.end - 1:#x}", one.device.name) for one in self._mappings]
        return table(self.what, ("range", "device"), rows)

    def attach(self, device: Device, where: range, *, base: int | None = None, replace: bool = False) -> Mapping:
        """Let ``device`` answer at ``where``.

        Raises `DeviceError` for an empty or out-of-bounds range and for an overlap; with ``replace`` the devices in the
        way lose exactly the overlapping part.
        """
        if not isinstance(where, range) or where.step != 1 or not 0 <= where.start < where.stop <= self.limit:
            raise DeviceError(
                f"{device.name}: {where!r} is not a range of {self.what} "
                f"(a non-empty range within 0x0-{self.limit - 1:#x} with step 1 is needed)."
            )
        new = Mapping(where.start, where.stop, device, where.start if base is None else base)
        index = bisect_left(self._starts, where.stop)
        if not index or self._mappings[index - 1].end <= where.start:  # nothing is there
            self._insert(index, new)
            return new
        clashes = self.overlapping(where)
        if not replace:
            raise DeviceError(
                f"{device.name}: {self.what} {where.start:#x}-{where.stop - 1:#x} overlaps "
                f"{', '.join(map(str, clashes))}. Choose another range, or pass replace=True to take its place."
            )
        for old in clashes:
            self.remove(old)
            if old.start < new.start:
                self._put(Mapping(old.start, new.start, old.device, old.base))
            if new.end < old.end:
                self._put(Mapping(new.end, old.end, old.device, old.base))
        self._put(new)
        return new

    def detach(self, device: Device) -> None:
        """Remove every range of ``device``."""
        for mapping in [m for m in self._mappings if m.device is device]:
            self.remove(mapping)

    def remove(self, mapping: Mapping) -> None:
        """Remove one range, which `attach` returned. A range that is gone already is none to remove."""
        if mapping in self._mappings:
            self._last = None
            index = self._mappings.index(mapping)
            del self._starts[index], self._mappings[index]
            if hasattr(mapping.device, "timed_registers"):
                self.follow(self.timed_changed)

    def find(self, address: int) -> Mapping | None:
        """The mapping that answers at ``address``, or None."""
        last = self._last  # guests go on with a device where they have begun
        if last is not None and last.start <= address < last.end:
            return last
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        mapping = self._mappings[index]
        if address >= mapping.end:
            return None
        self._last = mapping
        return mapping

    def occupied(self, start: int, end: int) -> bool:
        """Whether any mapping shares an address with ``[start, end)``."""
        index = bisect_left(self._starts, end) - 1
        return index >= 0 and self._mappings[index].end > start

    def overlapping(self, where: range) -> list[Mapping]:
        """Every mapping that shares an address with ``where``, lowest first."""
        first = max(bisect_right(self._starts, where.start) - 1, 0)
        found = []
        for mapping in self._mappings[first:]:
            if mapping.start >= where.stop:
                break
            if where.start < mapping.end:
                found.append(mapping)
        return found

    def timed(self) -> list[tuple[int, int, TimedRegister]]:
        """The registers that only time changes, with where each begins and ends: those that are seen whole."""
        found = []
        for mapping in self._mappings:
            for offset, register in getattr(mapping.device, "timed_registers", {}).items():
                at = mapping.base + offset
                if mapping.start <= at and at + register.width <= mapping.end:
                    found.append((at, at + register.width, register))
        return found

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Many places change in the block, in which no guest runs: what follows from them is done once, behind it."""
        if self._behind is not None:
            yield
            return
        self._behind = {}
        try:
            yield
        finally:
            try:
                self.catch_up()
            finally:
                self._behind = None

    def catch_up(self) -> None:
        """Do what follows from the changes so far: in a block in which many places change, somebody looks at them."""
        waiting = self._behind
        while waiting:
            action, _ = waiting.popitem()
            action()

    def follow(self, action: Callable[[], object]) -> None:
        """Do what follows from a change: now, or once behind the block in which many places change."""
        if self._behind is None:
            action()
        else:
            self._behind[action] = None

    def __iter__(self) -> Iterator[Mapping]:
        return iter(tuple(self._mappings))

    def _put(self, mapping: Mapping) -> None:
        self._insert(bisect_right(self._starts, mapping.start), mapping)

    def _insert(self, index: int, mapping: Mapping) -> None:
        self._starts.insert(index, mapping.start)
        self._mappings.insert(index, mapping)
        if hasattr(mapping.device, "timed_registers"):
            self.follow(self.timed_changed)
