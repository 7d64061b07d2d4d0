"""Ports that end or restart the machine: power-off (b004h, 4004h), port 92h, reset control (cf9h).

Sources: ACPI specification 6.5, 4.8.3.2.1 "PM1 control registers" (SLP_TYP bits 12:10, SLP_EN bit 13); Intel 82371SB
(PIIX3) data sheet 2.5.5 (CF9h); IBM PS/2 Technical Reference, "System control port A" (92h). The two power-off
ports are where QEMU had PM1a_CNT once and where VirtualBox has it, and toy kernels write the values of those machines;
where QEMU has it now, our own is (`hypervisor.devices.acpi_pm`).
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.devices.parts.common import ByteDevice, Register, RegisterTable
from hypervisor.devices.parts.device_state import Stateless, adopt
from hypervisor.state import InRecord, number, record

POWER_OFF_SIZE = 2
"""Bytes of the register window of each power-off port."""
PORT92_SIZE = 1
"""Bytes of the register window (port 92h)."""
RESET_SIZE = 1
"""Bytes of the register window (port cf9h)."""

REGISTERS = (
    Register(0, "PM1a_CNT", "rw", "a word with SLP_EN and the machine's SLP_TYP for S5 turns the power off"),
    Register(0, "PORT92", "rw", "bit 0: fast reset on a rising bit; bit 1: A20 gate"),
    Register(0, "RST_CNT", "rw", "cf9h: bit 1 system reset type, bit 2 resets on a rising bit"),
)

SLP_EN, SLP_MASK = 0x2000, 0x3C00
POWER_OFF_PORTS = {0xB004: 0x2000, 0x4004: 0x3400}
"""Port -> the word that turns the power off there."""

FAST_RESET, A20_GATE = 0x01, 0x02
RST_CPU, SRST = 0x04, 0x02


class PowerOffPort(Stateless):
    """One power-off port: writing a word whose bits 13:10 are those of ``word`` calls ``power_off()``."""

    def __init__(self, power_off: Callable[[], object], word: int = 0x2000, name: str = "poweroff") -> None:
        self.name = name
        self._power_off = power_off
        self._want = word & SLP_MASK | SLP_EN

    def read(self, offset: int, size: int) -> int:
        """Zero: nothing is asleep."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Turn the power off, if the value says so. Bytes are too narrow to say it."""
        if offset == 0 and size >= 2 and value & SLP_MASK == self._want:
            self._power_off()


@record
class Port92State:
    """The two bits that can be written."""

    value: int = number(0, 3)


class Port92(ByteDevice, InRecord[Port92State]):
    """System control port A: ``set_a20(enabled)`` is called with bit 1 of each write, ``reset_machine()`` as bit 0
    rises.
    """

    def __init__(
        self, set_a20: Callable[[bool], object], reset_machine: Callable[[], object], name: str = "port92"
    ) -> None:
        self.name = name
        self._set_a20 = set_a20
        self._reset_machine = reset_machine
        self._s = Port92State()

    def reset(self) -> None:
        """Both bits clear."""
        self._take(Port92State())

    def restore(self, state: Port92State) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._take(adopt(self.name, Port92State, state))

    def _take(self, state: Port92State) -> None:
        changed = (self._s.value ^ state.value) & A20_GATE
        self._s = state
        if changed:
            self._set_a20(bool(state.value & A20_GATE))

    def _registers(self) -> RegisterTable:
        return [self._read], [self._write]

    def _read(self) -> int:
        return self._s.value

    def _write(self, value: int) -> None:
        reset = value & FAST_RESET and not self._s.value & FAST_RESET
        self._s = Port92State(value & 3)
        self._set_a20(bool(value & A20_GATE))
        if reset:
            self._reset_machine()


@record
class ResetControlState:
    """The bits that can be read back."""

    value: int = number(0, 0xFF)


class ResetControl(ByteDevice, InRecord[ResetControlState]):
    """Reset control, cf9h: a write that raises bit 2 calls ``reset_machine()``. Bits 1 and 2 read back."""

    def __init__(self, reset_machine: Callable[[], object], name: str = "cf9") -> None:
        self.name = name
        self._reset_machine = reset_machine
        self._s = ResetControlState()

    def reset(self) -> None:
        """All bits clear."""
        self._s = ResetControlState()

    def restore(self, state: ResetControlState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._s = adopt(self.name, ResetControlState, state)

    def _registers(self) -> RegisterTable:
        return [self._read], [self._write]

    def _read(self) -> int:
        return self._s.value

    def _write(self, value: int) -> None:
        rising = value & RST_CPU and not self._s.value & RST_CPU
        self._s.value = value & (RST_CPU | SRST)
        if rising:
            self._reset_machine()
