"""Guest memory as gdb reads and writes it: linear addresses through the guest's page tables, or physical ones."""

from __future__ import annotations

from typing import Any

from hypervisor.errors import GuestFault
from hypervisor.units import by_pages


class Memory:
    """Reads and writes. ``physical`` says that addresses are guest-physical ones (``monitor memory physical``)."""

    def __init__(self, vm: Any) -> None:
        self._vm = vm
        self.physical = False

    def read(self, vcpu: Any, address: int, size: int) -> bytes:
        """Up to ``size`` bytes, as many as can be had. Raises `GuestFault` if that is none."""
        data = b""
        for at, length in by_pages(address, size):
            try:
                data += self._vm.memory.read(self._gpa(vcpu, at), length)
            except GuestFault:
                if not data:
                    raise
                break
        return data

    def write(self, vcpu: Any, address: int, data: bytes) -> None:
        """Store all of ``data``, or raise `GuestFault` with some of it stored. Device memory, ROM and what is no memory
        are refused: gdb is not to believe that it has changed them.
        """
        done = 0
        for at, length in by_pages(address, len(data)):
            self._vm.memory.write(self._gpa(vcpu, at), data[done : done + length])
            done += length

    def _gpa(self, vcpu: Any, address: int) -> int:
        return address if self.physical else int(vcpu.translate(address))
