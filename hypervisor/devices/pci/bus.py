"""PCI bus 0 and the ports that reach its configuration space.

Source: PCI Local Bus Specification 3.0, 3.2.2.3.2 "Software Generation of Configuration Transactions" (mechanism 1).
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.bus import Device
from hypervisor.devices.parts.common import Register
from hypervisor.devices.parts.device_state import adopt
from hypervisor.devices.pci.function import PciFunction
from hypervisor.errors import DeviceError
from hypervisor.state import InRecord, number, record

SIZE = 8
"""Bytes of the register window (ports cf8h-cffh)."""

REGISTERS = (
    Register(0, "CONFADD", "rw", "cf8h, dwords only: enable, bus, device, function, register"),
    Register(4, "CONFDATA", "rw", "cfch-cffh: what CONFADD points at"),
)

ENABLE = 1 << 31
CONFADD_WRITABLE = 0x80FFFFFC
CF9, DATA = 1, 4
PINS = 4


@record
class PciBusState:
    """The address register. Functions have their own states."""

    address: int = number(0, 0xFFFFFFFF)


class PciBus(InRecord[PciBusState]):
    """Bus 0, with up to 32 devices of up to 8 functions each.

    Accesses to cf8h that are not dwords are no configuration cycles: the byte of them at cf9h goes to ``cf9``, the
    reset control register, if there is one. ``route(wire, level)`` is told when one of the four interrupt wires
    changes.
    """

    def __init__(
        self,
        cf9: Device | None = None,
        route: Callable[[int, bool], object] = lambda wire, level: None,
        name: str = "pci",
    ) -> None:
        self.name = name
        self.functions: dict[tuple[int, int], PciFunction] = {}
        """The functions by (device, function) number."""
        self._cf9 = cf9
        self._route = route
        self._asserted: list[set[int]] = [set() for _ in range(PINS)]
        self._s = PciBusState()

    def attach(self, function: PciFunction, device: int, number: int = 0) -> None:
        """Put a function at this device and function number, and wire its pin. Raises `DeviceError` if it is taken.

        The slots' pins are rotated over the four wires, as on boards with this chip set: INTA# of device 1 is on the
        first.
        """
        if (device, number) in self.functions or not 0 <= device < 32 or not 0 <= number < 8:
            raise DeviceError(
                f"{function.name}: {device:02x}.{number} is not free on the PCI bus; choose another slot."
            )
        self.functions[device, number] = function
        if function.identity.pin:
            wire = self.wire_of(device, function.identity.pin)
            who = device << 3 | number
            function.pin.connect(lambda level: self._drive(wire, who, level))

    def wire_of(self, device: int, pin: int) -> int:
        """Which of the four wires (0 to 3) a pin (1 to 4) of a device is on."""
        return (device - 1 + pin - 1) % PINS

    def _drive(self, wire: int, who: int, level: bool) -> None:
        asserted = self._asserted[wire]
        before = bool(asserted)
        if level:
            asserted.add(who)
        else:
            asserted.discard(who)
        if bool(asserted) != before:
            self._route(wire, level)

    # ---- device contract

    def read(self, offset: int, size: int) -> int:
        """IN from cf8h + ``offset``."""
        if offset == 0 and size == 4:
            return self._s.address
        if offset >= DATA and offset + size <= SIZE:
            return self._config_read(offset - DATA, size)
        if size == 1:
            return 0xFF if self._cf9 is None or offset != CF9 else self._cf9.read(0, 1)
        return sum((self.read(offset + n, 1) if offset + n < SIZE else 0xFF) << 8 * n for n in range(size))

    def write(self, offset: int, size: int, value: int) -> None:
        """OUT to cf8h + ``offset``."""
        if offset == 0 and size == 4:
            self._s.address = value & CONFADD_WRITABLE
        elif offset >= DATA and offset + size <= SIZE:
            self._config_write(offset - DATA, size, value)
        elif size > 1:
            for at in range(offset, min(offset + size, SIZE)):
                self.write(at, 1, value & 0xFF)
                value >>= 8
        elif self._cf9 is not None and offset == CF9:
            self._cf9.write(0, 1, value)

    def reset(self) -> None:
        """Configuration access is off."""
        self._s = PciBusState()

    def restore(self, state: PciBusState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._s = adopt(self.name, PciBusState, state)

    # ---- configuration cycles

    def _selected(self) -> PciFunction | None:
        address = self._s.address
        if not address & ENABLE or address >> 16 & 0xFF:
            return None
        return self.functions.get((address >> 11 & 31, address >> 8 & 7))

    def _config_read(self, byte: int, size: int) -> int:
        function = self._selected()
        if function is None:
            return (1 << 8 * size) - 1
        return function.read((self._s.address & 0xFC) + byte, size)

    def _config_write(self, byte: int, size: int, value: int) -> None:
        function = self._selected()
        if function is not None:
            function.write((self._s.address & 0xFC) + byte, size, value)
