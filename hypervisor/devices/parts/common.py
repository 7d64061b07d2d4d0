"""What the models share: register tables and byte-wide dispatch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from hypervisor.arch.device_registers import Register

RegisterTable = tuple[list[Callable[[], int]], list[Callable[[int], None]]]


class ByteDevice:
    """An 8-bit device: wider accesses are split into bytes at consecutive offsets, as the ISA bus does.

    A subclass says in `_registers` what reads and what writes do, one entry for each offset of its window. Bytes of a
    wide access that fall behind the window read as 0xff and are dropped when written.
    """

    def _registers(self) -> RegisterTable:
        """Asked when a guest first uses one of them: most guests leave most devices alone."""
        raise NotImplementedError

    @cached_property
    def _readers(self) -> list[Callable[[], int]]:
        return self._registers()[0]

    @cached_property
    def _writers(self) -> list[Callable[[int], None]]:
        return self._registers()[1]

    def _switch_registers(self) -> None:
        """`_registers` are others from now on."""
        self.__dict__.pop("_readers", None)
        self.__dict__.pop("_writers", None)

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


__all__ = ["ByteDevice", "Register", "RegisterTable", "all_ones", "nothing"]
