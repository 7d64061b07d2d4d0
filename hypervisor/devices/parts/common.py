"""What the models share: register tables and byte-wide dispatch."""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.arch.device_registers import Register


class ByteDevice:
    """An 8-bit device: wider accesses are split into bytes at consecutive offsets, as the ISA bus does.

    A subclass fills ``_readers`` and ``_writers``, one entry for each offset of its window. Bytes of a wide access that
    fall behind the window read as 0xff and are dropped when written.
    """

    _readers: list[Callable[[], int]]
    _writers: list[Callable[[int], None]]

    def read(self, offset: int, size: int) -> int:
        """See `hypervisor.bus.Device.read`."""
        if size == 1:
            return self._readers[offset]()
        value = 0
        for index in range(size):
            readers = self._readers  # fetched anew each time: a byte may switch the table (the UART's DLAB)
            at = offset + index
            value |= (readers[at]() if at < len(readers) else 0xFF) << (8 * index)
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """See `hypervisor.bus.Device.write`."""
        if size == 1:
            self._writers[offset](value)
            return
        for at in range(offset, offset + size):
            if at < len(self._writers):
                self._writers[at](value & 0xFF)
            value >>= 8


def nothing(value: int) -> None:
    """A write that no register listens to."""


def all_ones() -> int:
    """A read that no register answers."""
    return 0xFF


__all__ = ["ByteDevice", "Register", "all_ones", "nothing"]
