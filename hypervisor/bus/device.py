"""The device contract.

A device answers by *offset* and does not care where it sits. Its whole world is its constructor's arguments: interrupt
lines, a clock, a `Dma` view, a backend. All its mutable state is one plain dataclass, handed out by `state` and
validated by `restore`, so that every device can be saved, restored and tested by the same suite
(`hypervisor.testing.check_device`).
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Device(Protocol):
    """A device model."""

    name: str
    """Short name for listings, statistics and errors, for example ``"uart0"``."""

    def read(self, offset: int, size: int) -> int:
        """The value a guest reads.

        ``offset`` is in bytes from the start of the device's range; ``size`` is 1, 2, 4 or 8 bytes. Must not raise for
        any offset within the range: what is not implemented reads as all ones or as the data sheet says.
        """
        ...

    def write(self, offset: int, size: int, value: int) -> None:
        """The guest writes ``value``, which fits in ``size`` bytes. Must not raise."""
        ...

    def reset(self) -> None:
        """Return to the power-on state, with lines lowered and timers cancelled."""
        ...

    def state(self) -> Any:
        """A copy of all mutable state: a dataclass of plain values."""
        ...

    def restore(self, state: Any) -> None:
        """Take over a state that `state` returned. Raises `DeviceError` if it is not valid for this device."""
        ...


class Comparable(Protocol):
    """What a device may have beside `Device`: it is put back only where it has changed, which this tells without a
    copy (`hypervisor.state.InRecord`). Of others `Device.state` is compared.
    """

    def is_still(self, state: Any) -> bool:
        """Whether `Device.state` would give just this."""
        ...


class StringPort(Protocol):
    """What a device may have beside `Device`: several elements of a string instruction (REP INS, REP OUTS) at once.

    The bus moves the first element with `Device.read` or `Device.write`, and offers the following ones here.
    """

    string_offset: int
    """The offset of the register that such instructions move, in bytes from the start of the device's range."""

    def read_string(self, offset: int, size: int, count: int) -> bytes:
        """What ``count`` further reads of ``size`` bytes at ``offset`` give, or what fewer of them give: as many as
        the device has at hand. None at all is an empty answer.
        """
        ...

    def write_string(self, offset: int, size: int, content: bytes) -> int:
        """Take elements of ``size`` bytes, as many as the device has room for; returns how many bytes were taken."""
        ...


class InterruptController(Protocol):
    """What a vCPU needs from its interrupt controller (on the first board, the 8259 pair)."""

    def pending(self) -> bool:
        """Whether the INTR output is high."""
        ...

    def acknowledge(self) -> int:
        """The INTA cycle: the vector (0 to 255) of the highest request, which is now in service."""
        ...


class ApicMsrs(Protocol):
    """A local APIC's registers in x2APIC mode: the MSRs 800h to 8FFh."""

    def read(self, number: int) -> int | None:
        """What RDMSR reads; None for #GP."""
        ...

    def write(self, number: int, value: int) -> bool:
        """Store what WRMSR writes; False for #GP."""
        ...


class ApicPort(Protocol):
    """What a vCPU's own registers reach of its local APIC: CR8 and MSRs."""

    task_class: int
    """CR8: bits 7:4 of the task priority."""

    @property
    def enabled(self) -> bool:
        """Whether bit 11 of APIC_BASE is set."""
        ...

    @property
    def msrs(self) -> ApicMsrs:
        """Its registers, in x2APIC mode."""
        ...

    def set_base(self, value: int) -> None:
        """The MSR APIC_BASE is ``value`` now: bit 11 enables the APIC, with bit 10 in x2APIC mode; bits 39:12 are the
        address of its page.
        """
        ...
