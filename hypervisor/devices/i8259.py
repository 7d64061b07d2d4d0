"""The interrupt controllers: two Intel 8259A, the slave on the master's IR2, and the edge/level control registers.

Sources: Intel 8259A data sheet (231468-003): "Interrupt sequence", "Initialization command words", "Operation command
words"; Intel 82371SB (PIIX3) data sheet 2.5.4 for ELCR and for ICW1's LTIM bit, which ELCR replaces.

Decisions of the model:

* A rising edge on an edge-triggered input is latched and stays requested when the wire falls before the acknowledge.
  (The chip would answer such a short pulse with a spurious IRQ 7; latching is what QEMU and KVM do, so that a pulse
  counts.) The next request needs the wire to fall first.
* The vector format of the MCS-80/85 (ICW4 bit 0 clear) and the values of ICW3 are ignored: this is a PC, wired as a PC.
* After reset nothing is initialised and INTR stays low until ICW1, as on the chip.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hypervisor.bus import Line
from hypervisor.devices.parts.common import ByteDevice, Register, RegisterTable
from hypervisor.devices.parts.device_state import adopt
from hypervisor.errors import DeviceError
from hypervisor.state import InRecord, flag, number, part, record, u8

SIZE = 6
"""Bytes of the register window: master 0-1 (ports 20h-21h), slave 2-3 (a0h-a1h), ELCR 4-5 (4d0h-4d1h)."""

REGISTERS = (
    Register(0, "MASTER_CMD", "rw", "ICW1, OCW2, OCW3; reads IRR or ISR (OCW3), or the poll byte"),
    Register(1, "MASTER_DATA", "rw", "ICW2, ICW3, ICW4, OCW1; reads IMR"),
    Register(2, "SLAVE_CMD", "rw", "as MASTER_CMD"),
    Register(3, "SLAVE_DATA", "rw", "as MASTER_DATA"),
    Register(4, "ELCR1", "rw", "1 = level triggered, IRQ 3 to 7"),
    Register(5, "ELCR2", "rw", "1 = level triggered, IRQ 9 to 12, 14, 15"),
)

CASCADE = 2
"""The master's input that the slave drives."""
SPURIOUS = 7
"""The input that answers an acknowledge when none requests any more."""
ELCR_MASKS = (0xF8, 0xDE)
"""Which inputs may be level triggered: not IRQ 0, 1, 2, 8 and 13 (PIIX3 2.5.4)."""

ICW1_INIT, ICW1_SINGLE, ICW1_IC4 = 0x10, 0x02, 0x01
ICW4_SFNM, ICW4_AEOI = 0x10, 0x02
OCW3 = 0x08
OCW3_POLL, OCW3_RR, OCW3_RIS, OCW3_ESMM, OCW3_SMM = 0x04, 0x02, 0x01, 0x40, 0x20

_LOWEST = [8, *((value & -value).bit_length() - 1 for value in range(1, 256))]
_RANK = [[_LOWEST[(mask >> first | mask << (8 - first)) & 0xFF] for mask in range(256)] for first in range(8)]
"""_RANK[first][mask]: how far the highest request in ``mask`` is below input ``first``, the top priority; 8 if none."""


@record
class ChipState:
    """All that one 8259A remembers."""

    irr: int = u8()
    imr: int = u8()
    isr: int = u8()
    levels: int = u8()
    elcr: int = u8()
    top: int = number(0, 7)
    base: int = u8()
    next_icw: int = number(0, 4)
    initialised: bool = flag()
    single: bool = flag()
    needs_icw4: bool = flag()
    read_isr: bool = flag()
    poll: bool = flag()
    special_mask: bool = flag()
    special_nested: bool = flag()
    auto_eoi: bool = flag()
    rotate_auto_eoi: bool = flag()


@record
class I8259State:
    """All that the pair remembers."""

    master: ChipState = part(ChipState)
    slave: ChipState = part(ChipState)


def _best(chip: ChipState, cascade: int) -> int:
    """The input that may interrupt now (0 to 7), or -1. ``cascade`` is the master's slave mask, 0 for the slave."""
    requests = chip.irr & ~chip.imr
    if not requests or not chip.initialised:
        return -1
    serving = chip.isr
    if chip.special_mask:
        serving &= ~chip.imr
    if chip.special_nested:
        serving &= ~cascade  # the slave may interrupt its own handler with a higher request
    ranks = _RANK[chip.top]
    rank = ranks[requests]
    return (rank + chip.top) & 7 if rank < ranks[serving] else -1


def _serve(chip: ChipState, irq: int) -> None:
    """Input ``irq`` is acknowledged: from requested to in service."""
    bit = 1 << irq
    if not chip.elcr & bit:
        chip.irr &= ~bit
    if not chip.auto_eoi:
        chip.isr |= bit
    elif chip.rotate_auto_eoi:
        chip.top = (irq + 1) & 7


def _input(chip: ChipState, bit: int, level: bool) -> None:
    """An input's wire changes."""
    if level:
        if chip.elcr & bit or not chip.levels & bit:
            chip.irr |= bit
        chip.levels |= bit
    else:
        chip.levels &= ~bit
        if chip.elcr & bit:
            chip.irr &= ~bit


class I8259Pair(ByteDevice, InRecord[I8259State]):
    """The PC's 15 interrupt inputs. Also a `hypervisor.bus.InterruptController`.

    ``intr`` is the wire to the processor. The board shows the window in three places: ports 20h-21h are offsets 0-1,
    a0h-a1h are 2-3, 4d0h-4d1h are 4-5.
    """

    def __init__(self, intr: Line, name: str = "pic") -> None:
        self.name = name
        self.intr = intr
        self._s = I8259State()
        drive = self._drive
        self._lines = [Line(f"{name}.irq{n}", partial(drive, n)) for n in range(16)]

    def _registers(self) -> RegisterTable:
        readers: list[Callable[[], int]] = [
            partial(self._read_command, False),
            partial(self._read_data, False),
            partial(self._read_command, True),
            partial(self._read_data, True),
            partial(self._read_elcr, False),
            partial(self._read_elcr, True),
        ]
        writers: list[Callable[[int], None]] = [
            partial(self._write_command, False),
            partial(self._write_data, False),
            partial(self._write_command, True),
            partial(self._write_data, True),
            partial(self._write_elcr, False),
            partial(self._write_elcr, True),
        ]
        return readers, writers

    # ---- wires

    def line(self, irq: int) -> Line:
        """The input wire of ``irq`` (0 to 15 without 2, which the slave drives). Raises `DeviceError` for others."""
        if not 0 <= irq < 16 or irq == CASCADE:
            raise DeviceError(f"{self.name}: there is no interrupt input {irq}. Use 0 to 15, but not 2, the slave's.")
        return self._lines[irq]

    def _drive(self, irq: int, level: bool) -> None:
        chip = self._s.master if irq < 8 else self._s.slave
        before = chip.irr
        _input(chip, 1 << (irq & 7), level)
        if chip.irr != before:
            self._changed(irq >= 8)

    def _cascade(self) -> None:
        """The slave's INT pin drives the master's IR2."""
        level = _best(self._s.slave, 0) >= 0
        if level != bool(self._s.master.levels & 1 << CASCADE):
            _input(self._s.master, 1 << CASCADE, level)

    def _update(self) -> None:
        self.intr.set(_best(self._s.master, 1 << CASCADE) >= 0)

    # ---- interrupt controller

    def pending(self) -> bool:
        """Whether INTR is high."""
        return self.intr.level

    def acknowledge(self) -> int:
        """Both INTA pulses: the vector, 0 to 255. A request that is gone is answered with IRQ 7 (or 15)."""
        master = self._s.master
        irq = _best(master, 1 << CASCADE)
        if irq < 0:
            return master.base | SPURIOUS
        _serve(master, irq)
        if irq != CASCADE:
            vector = master.base | irq
        else:
            slave = self._s.slave
            slave_irq = _best(slave, 0)
            vector = slave.base | (slave_irq if slave_irq >= 0 else SPURIOUS)
            if slave_irq >= 0:
                self._serve_slave(slave_irq)
        self._update()
        return vector

    def _serve_slave(self, irq: int) -> None:
        _serve(self._s.slave, irq)
        _input(self._s.master, 1 << CASCADE, False)  # INT falls at the acknowledge, so that what waits makes a new edge
        self._cascade()

    # ---- device contract

    def reset(self) -> None:
        """Power-on state: nothing initialised, edge triggered; the input wires keep the level that they have."""
        self._s = I8259State()
        for n, wire in enumerate(self._lines):
            if wire.level:
                (self._s.slave if n >= 8 else self._s.master).levels |= 1 << (n & 7)
        self._update()

    def restore(self, state: I8259State) -> None:
        """Take over ``state``, with the input wires' levels; raises `DeviceError` if it is not one of this device."""
        self._s = adopt(self.name, I8259State, state)
        for n, wire in enumerate(self._lines):
            if n != CASCADE:  # no edge is seen: the chip knows these levels already
                wire.set(bool(self._chip(n >= 8).levels >> (n & 7) & 1))
        self._update()

    # ---- registers

    def _chip(self, slave: bool) -> ChipState:
        return self._s.slave if slave else self._s.master

    def _changed(self, slave: bool) -> None:
        if slave:
            self._cascade()
        self._update()

    def _read_command(self, slave: bool) -> int:
        chip = self._chip(slave)
        if chip.poll:
            return self._poll(slave)
        return chip.isr if chip.read_isr else chip.irr

    def _read_data(self, slave: bool) -> int:
        chip = self._chip(slave)
        return self._poll(slave) if chip.poll else chip.imr

    def _poll(self, slave: bool) -> int:
        """The read after a poll command acknowledges: bit 7 says that there was a request, bits 2:0 which."""
        chip = self._chip(slave)
        chip.poll = False
        irq = _best(chip, 0 if slave else 1 << CASCADE)
        if irq < 0:
            return 0
        if slave:
            self._serve_slave(irq)
        else:
            _serve(chip, irq)
        self._update()
        return 0x80 | irq

    def _write_command(self, slave: bool, value: int) -> None:
        if value & ICW1_INIT:
            self._icw1(slave, value)
        elif value & OCW3:
            chip = self._chip(slave)
            if value & OCW3_POLL:
                chip.poll = True
            if value & OCW3_RR:
                chip.read_isr = bool(value & OCW3_RIS)
            if value & OCW3_ESMM:
                chip.special_mask = bool(value & OCW3_SMM)
        else:
            self._ocw2(self._chip(slave), value >> 5, value & 7)
        self._changed(slave)

    def _icw1(self, slave: bool, value: int) -> None:
        """ICW1 starts again but keeps the wires' levels: an edge input then needs a new edge (data sheet, ICW1)."""
        old = self._chip(slave)
        new = ChipState(
            irr=old.irr & old.elcr,
            levels=old.levels,
            elcr=old.elcr,
            base=old.base,
            next_icw=2,
            initialised=False,
            single=bool(value & ICW1_SINGLE),
            needs_icw4=bool(value & ICW1_IC4),
        )
        if slave:
            self._s.slave = new
        else:
            self._s.master = new

    @staticmethod
    def _ocw2(chip: ChipState, command: int, level: int) -> None:
        """Commands by bits 7:5 (R, SL, EOI)."""
        rotate, specific, eoi = command & 4, command & 2, command & 1
        if not eoi:
            if specific:
                if rotate:
                    chip.top = (level + 1) & 7  # set priority: `level` becomes the lowest
            else:
                chip.rotate_auto_eoi = bool(rotate)
            return
        if not specific:
            # A level that special mask mode hides is not the one that a non-specific EOI ends (data sheet).
            serving = chip.isr & ~chip.imr if chip.special_mask else chip.isr
            rank = _RANK[chip.top][serving]
            if rank == 8:
                return
            level = (rank + chip.top) & 7
        chip.isr &= ~(1 << level)
        if rotate:
            chip.top = (level + 1) & 7

    def _write_data(self, slave: bool, value: int) -> None:
        chip = self._chip(slave)
        if chip.next_icw == 2:
            chip.base = value & 0xF8
            chip.next_icw = 3 if not chip.single else 4 if chip.needs_icw4 else 0
        elif chip.next_icw == 3:
            chip.next_icw = 4 if chip.needs_icw4 else 0
        elif chip.next_icw == 4:
            chip.special_nested = bool(value & ICW4_SFNM)
            chip.auto_eoi = bool(value & ICW4_AEOI)
            chip.next_icw = 0
        else:
            chip.imr = value
            self._changed(slave)
            return
        if chip.next_icw == 0:
            chip.initialised = True
        self._changed(slave)

    def _read_elcr(self, slave: bool) -> int:
        return self._chip(slave).elcr

    def _write_elcr(self, slave: bool, value: int) -> None:
        chip = self._chip(slave)
        elcr = value & ELCR_MASKS[slave]
        new_level = elcr & ~chip.elcr
        chip.irr = chip.irr & ~new_level | chip.levels & new_level  # a level input requests while its wire is high
        chip.elcr = elcr
        self._changed(slave)
