"""The parts of a VM and a vCPU that this room uses, as types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from hypervisor.symbols.call_frames import ReadWord, Registers


class Segment(Protocol):
    """A segment register with its hidden part; attributes in the VMCB's 12-bit form (APM volume 2, 15.5.1)."""

    selector: int
    base: int
    limit: int
    attributes: int


class Table(Protocol):
    """GDTR or IDTR."""

    base: int
    limit: int


class Vcpu(Protocol):
    """A virtual CPU: registers by name, memory by guest-virtual address."""

    def read(self, gva: Any, size: int) -> bytes:
        """Guest memory through the guest's page tables; raises `GuestFault`."""
        ...

    def __getattr__(self, name: str) -> Any: ...


class Symbols(Protocol):
    """What reports need of `hypervisor.symbols.symbol_table.SymbolTable`."""

    def lookup(self, address: int) -> tuple[str, int] | None:
        """Name and offset, or None."""
        ...

    def line(self, address: int) -> tuple[str, int] | None:
        """Source file and line, or None."""
        ...

    def caller(self, registers: Registers, instruction: int, word: ReadWord, bits: int) -> Registers | None:
        """The registers as they were in the caller, or None where no file tells."""
        ...

    def __len__(self) -> int: ...


class Vm(Protocol):
    """A guest."""

    @property
    def vcpus(self) -> Sequence[Any]:
        """Its virtual CPUs."""
        ...

    @property
    def symbols(self) -> Any:
        """Its symbol table."""
        ...
