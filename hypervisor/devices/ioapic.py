"""The I/O APIC: Intel 82093AA, 24 interrupt inputs and a table that says where each goes.

Source: Intel 82093AA I/O Advanced Programmable Interrupt Controller data sheet (290566-001), chapter 3.

Decisions of the model:

* A wire's high level means "requested": the polarity bit is kept and not applied, as in QEMU, whose guests expect it.
* As the data sheet has it, an edge on a masked input is lost, and a level is seen when the input is unmasked.
* A level-triggered input is delivered once and again only after an EOI message with its vector (remote IRR).
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.arch import apic_registers as r
from hypervisor.arch.apic_registers import Mode
from hypervisor.devices.apic_bus import ApicBus, Message, from_byte
from hypervisor.devices.parts.common import Register
from hypervisor.devices.parts.device_state import adopt
from hypervisor.state import copied, number, numbers, record, u8

SIZE = 0x1000
"""Bytes of the register window; the registers repeat every 100h bytes of it on the chip, here they are there once."""
PINS = 24

IOREGSEL, IOWIN = 0x00, 0x10
REGISTERS = (
    Register(IOREGSEL, "IOREGSEL", "rw", "7:0 index of the register that IOWIN shows"),
    Register(IOWIN, "IOWIN", "rw", "the register"),
)

ID, VERSION, ARBITRATION, TABLE = 0x00, 0x01, 0x02, 0x10
INDEXED = (
    Register(ID, "IOAPICID", "rw", "27:24 id"),
    Register(VERSION, "IOAPICVER", "r", "7:0 version 11h, 23:16 last entry 17h"),
    Register(ARBITRATION, "IOAPICARB", "r", "27:24 arbitration id, equal to the id"),
    *(
        Register(TABLE + 2 * n + high, f"IOREDTBL{n}_{'HIGH' if high else 'LOW'}", "rw", meaning)
        for n in range(PINS)
        for high, meaning in enumerate(("vector, mode, polarity, remote IRR, trigger, mask", "31:24 destination"))
    ),
)
VERSION_VALUE = (PINS - 1) << 16 | 0x11

_LOW_WRITABLE = r.VECTOR | r.MODE_MASK << r.MODE_SHIFT | r.LOGICAL | r.LOW_ACTIVE | r.LEVEL | r.MASKED
_ENTRY = 0xFF << 56 | _LOW_WRITABLE | r.REMOTE_IRR
_DELIVERED = (Mode.FIXED, Mode.LOWEST, Mode.NMI, Mode.INIT, Mode.EXTINT)


@record
class IoApicState:
    """``table`` holds the 64-bit redirection entries, ``levels`` the inputs' wires, once one of them is not masked:
    before, they may not have been led here, and are what the wires say.
    """

    select: int = u8()
    id: int = number(0, 15)
    levels: int = number(0, (1 << PINS) - 1)
    table: list[int] = numbers(PINS, 0, _ENTRY, [r.MASKED] * PINS, exact=True)


def _any_unmasked(s: IoApicState) -> bool:
    return any([not entry & r.MASKED for entry in s.table])


class IoApic:
    """24 inputs (`drive`) and the messages that they become on ``bus``.

    ``connect()`` is called once, before the first input is unmasked: wires that nobody hears need not be led here. It
    drives each of them to its present level.
    """

    def __init__(self, bus: ApicBus, connect: Callable[[], object] = lambda: None, name: str = "ioapic") -> None:
        self.name = name
        self._bus = bus
        self._connect = connect
        self._connected = False
        self._s = IoApicState()
        bus.listen(self)

    # ---- wires

    def drive(self, pin: int, level: bool) -> None:
        """The wire of input ``pin`` (0 to 23) changes."""
        s, bit = self._s, 1 << pin
        if not level:
            s.levels &= ~bit
        elif not s.levels & bit:
            s.levels |= bit
            if not s.table[pin] & r.MASKED:
                self._request(pin)

    def _request(self, pin: int) -> None:
        """Deliver what an input asks for."""
        entry = self._s.table[pin]
        level = bool(entry & r.LEVEL)
        if level and entry & r.REMOTE_IRR:
            return
        mode = Mode(entry >> r.MODE_SHIFT & r.MODE_MASK)
        if mode not in _DELIVERED:
            return
        held = level and mode in (Mode.FIXED, Mode.LOWEST)
        if held:
            self._s.table[pin] = entry | r.REMOTE_IRR
        logical = bool(entry & r.LOGICAL)
        message = Message(mode, entry & r.VECTOR, from_byte(entry >> 56, logical), logical, held)
        if not self._bus.send(message) and held:
            self._s.table[pin] = entry  # nobody took it

    def end_of_interrupt(self, vector: int) -> None:
        """A local APIC's EOI message: inputs that still request are delivered again."""
        s = self._s
        for pin in range(PINS):
            entry = s.table[pin]
            if entry & r.REMOTE_IRR and entry & r.VECTOR == vector:
                s.table[pin] = entry & ~r.REMOTE_IRR
                self._level(pin)

    def _level(self, pin: int) -> None:
        entry = self._s.table[pin]
        if entry & r.LEVEL and not entry & r.MASKED and self._s.levels >> pin & 1:
            self._request(pin)

    # ---- device contract

    def read(self, offset: int, size: int) -> int:
        """See `hypervisor.bus.Device.read`. Between the registers there are zeros."""
        at = offset & 0xF
        value = self._s.select if offset - at == IOREGSEL else self._register() if offset - at == IOWIN else 0
        return value >> 8 * at & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """See `hypervisor.bus.Device.write`. The chip takes 32-bit writes only; narrow ones select a register, too."""
        if offset == IOREGSEL:
            self._s.select = value & 0xFF
        elif offset == IOWIN and size >= 4:
            self._write_register(value & 0xFFFF_FFFF)

    def reset(self) -> None:
        """Power-on state: everything masked; the wires keep the levels that they have."""
        self._s = IoApicState(levels=self._s.levels)

    def state(self) -> IoApicState:
        """A copy of all mutable state."""
        s = copied(self._s)
        if not _any_unmasked(s):
            s.levels = 0
        return s

    def is_still(self, state: IoApicState) -> bool:
        """See `hypervisor.state.InRecord`."""
        return self._s == state if _any_unmasked(self._s) else self.state() == state

    def restore(self, state: IoApicState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        new = adopt(self.name, IoApicState, state)
        if _any_unmasked(new):
            self._use()
        else:
            new.levels = self._s.levels
        self._s = new

    def _use(self) -> None:
        if not self._connected:
            self._connected = True
            self._connect()

    # ---- registers

    def _register(self) -> int:
        s = self._s
        if s.select == VERSION:
            return VERSION_VALUE
        if s.select in (ID, ARBITRATION):
            return s.id << 24
        index = s.select - TABLE
        if 0 <= index < 2 * PINS:
            return s.table[index >> 1] >> 32 * (index & 1) & 0xFFFF_FFFF
        return 0

    def _write_register(self, value: int) -> None:
        s = self._s
        if s.select == ID:
            s.id = value >> 24 & 0xF
            return
        index = s.select - TABLE
        if not 0 <= index < 2 * PINS:
            return
        pin = index >> 1
        entry = s.table[pin]
        if index & 1:
            s.table[pin] = entry & 0xFFFF_FFFF | (value >> 24) << 56
            return
        if not value & r.MASKED:
            self._use()  # its input is still masked: an edge that has been is lost, a level is seen
        remote = entry & r.REMOTE_IRR if value & r.LEVEL else 0  # an edge-triggered entry has none
        s.table[pin] = entry & 0xFF << 56 | value & _LOW_WRITABLE | remote
        self._level(pin)


__all__ = ["PINS", "SIZE", "IoApic", "IoApicState"]
