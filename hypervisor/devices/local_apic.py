"""The local APIC of one processor: memory-mapped, or by MSRs in x2APIC mode (`hypervisor.devices.parts.x2apic`).

Source: Intel Software Developer's Manual volume 3A, chapter 10; section numbers below are its. AMD64 APM volume 2,
chapter 16, is the same where we offer it.

Decisions of the model:

* Registers are 32 bits wide, 16 bytes apart. Another access than that to the low four bytes reads what these hold, and
  bytes between registers read as zero; only 4- and 8-byte writes at a register's offset count (10.4.1 asks for
  32-bit accesses and leaves the others undefined).
* Vectors 0 to 15 are refused with an error in ESR (10.5.3). SMI is not offered: such messages are dropped.
* A message for an APIC whose software enable is off is dropped, but for NMI, INIT and start-up (10.4.7.2). LINT0 in
  ExtINT mode passes the 8259's output even then: see `hypervisor.devices.parts.apic_state.after_reset`.
* An external interrupt (ExtINT) is taken when no local one can be: it has no priority of its own (10.8.3).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial

from hypervisor.arch import apic_registers as r
from hypervisor.arch.apic_registers import Mode, Shorthand
from hypervisor.bus import Clock, InterruptController
from hypervisor.devices.apic_bus import ApicBus, Message, from_byte
from hypervisor.devices.parts import apic_state
from hypervisor.devices.parts.apic_destination import is_meant
from hypervisor.devices.parts.apic_pins import Pins
from hypervisor.devices.parts.apic_state import LVT_FIELDS, LocalApicState, after_reset, check, new_page, put, record_of
from hypervisor.devices.parts.apic_timer import ApicTimer
from hypervisor.devices.parts.x2apic import X2Apic

SIZE = r.SIZE
_WORD = 0xFFFF_FFFF
_MODES = tuple(Mode)
_OFFSETS = frozenset(register.offset for register in r.REGISTERS)
_ENABLE = r.SVR_ENABLE
_EXTINT = Mode.EXTINT << r.MODE_SHIFT
_GATE = r.MASKED | r.MODE_MASK << r.MODE_SHIFT
"""What decides whether an LVT entry passes external interrupts."""


class LocalApic:
    """One local APIC. Also a `hypervisor.bus.InterruptController`, the one of its processor.

    ``external`` is the 8259 pair whose output is wired to LINT0 (`lint0`); None if there is none.
    """

    def __init__(
        self,
        pins: Pins,
        clock: Clock,
        bus: ApicBus,
        apic_id: int = 0,
        *,
        bootstrap: bool = True,
        external: InterruptController | None = None,
        name: str = "lapic",
    ) -> None:
        self.name = name
        self.pins = pins
        self._intr = pins.intr
        self.external = external
        self._bus = bus
        self._own_id, self._bootstrap = apic_id, bootstrap
        self.page = self._s = new_page(apic_id, bootstrap)
        self.likeness = apic_state.Likeness()
        self._timer = ApicTimer(self.page, clock, name, self._timer_expired)
        self.msrs = X2Apic(self.page, self._register, lambda at, value: self._writers[at](value), self._send_self)
        """Its registers as RDMSR and WRMSR reach them."""
        bus.join(self)

    @cached_property
    def _computed(self) -> dict[int, Callable[[], int]]:
        return {
            r.APR: self._arbitration, r.PPR: lambda: self.priority, r.EOI: lambda: 0, r.RRD: lambda: 0,
            r.TIMER_CURRENT: self._timer.count,
        }  # fmt: skip

    @cached_property
    def _writers(self) -> dict[int, Callable[[int], None]]:
        entries = {offset: partial(self._write_lvt, offset, field) for offset, field in LVT_FIELDS.items()}
        return entries | {
            r.ID: self._write_id,
            r.TPR: self._write_tpr,
            r.EOI: self._write_eoi,
            r.LDR: self._write_ldr,
            r.DFR: self._write_dfr,
            r.SVR: self._write_svr,
            r.ESR: self._write_esr,
            r.ICR_LOW: self._write_icr,
            r.ICR_HIGH: self._write_icr_high,
            r.TIMER_INITIAL: self._write_initial,
            r.TIMER_DIVIDE: lambda value: self._timer.divide(value & r.DIVIDE_WRITABLE),
        }

    # ---- what the processor sees of it

    def pending(self) -> bool:
        """Whether INTR is high."""
        return self.pins.intr.level

    def acknowledge(self) -> int:
        """The vector to deliver, which is now in service; the spurious vector if nothing is requested any more."""
        s = self._s
        vector = s.irr.bit_length() - 1
        if vector >= 0 and vector >> 4 > self.priority >> 4 and s.svr & _ENABLE:
            bit = 1 << vector
            s.irr &= ~bit
            s.isr |= bit
            self._update()
            return vector
        if self._external_requested() and self.external is not None:
            if not s.extint:
                return self.external.acknowledge()  # its wire tells what is requested then
            s.extint = False
            vector = self.external.acknowledge()
            self._update()
            return vector
        self._update()
        return s.svr & r.VECTOR

    @property
    def task_class(self) -> int:
        """Bits 7:4 of the task priority, which CR8 shows (10.8.6.1)."""
        return self._s.tpr >> 4

    @task_class.setter
    def task_class(self, value: int) -> None:
        self._s.tpr = (value & 0xF) << 4
        self._update()

    @property
    def enabled(self) -> bool:
        """Bit 11 of the MSR APIC_BASE. Without it LINT0 is INTR and LINT1 is NMI, and no message is taken (10.4.3). Set
        again it finds the state after a reset, the id included (10.4.7.1).
        """
        return self._s.enabled

    @enabled.setter
    def enabled(self, on: bool) -> None:
        self.switch(on, on and self._s.x2apic)

    def switch(self, enabled: bool, x2apic: bool) -> None:
        """Enter a mode that may follow the present one (`hypervisor.arch.msr.apic_base_after`). In x2APIC mode the id
        is the processor's again; the logical one and half of the ICR are not kept (10.12.5.1).
        """
        s = self._s
        if enabled is not s.enabled:
            self._initialise()
            s.id, s.enabled = self._own_id, enabled
        elif x2apic and not s.x2apic:
            s.id, s.ldr, s.icr_high = self._own_id, 0, 0
        s.x2apic = x2apic
        self._update()

    # ---- wires

    def lint0(self, level: bool) -> None:
        """The wire from the 8259's output changes."""
        s = self._s
        if level is s.lint0:
            return  # it is driven again, as after a restore: no edge
        s.lint0 = level
        if s.lvt_lint0 & _GATE == _EXTINT or not s.enabled:
            if s.irr or s.extint:
                self._update()
            else:
                self._intr.set(level)
        else:
            self._local(s.lvt_lint0, "lvt_lint0", level)

    def lint1(self, level: bool) -> None:
        """The NMI wire changes."""
        s = self._s
        if level is s.lint1:
            return
        s.lint1 = level
        if s.enabled:
            self._local(s.lvt_lint1, "lvt_lint1", level)
        elif level:
            self.pins.nmi()

    def _local(self, entry: int, field: str, level: bool) -> None:
        """A LINT wire as its LVT entry describes it."""
        if not level or entry & r.MASKED or entry & r.REMOTE_IRR:
            return
        mode = _MODES[entry >> r.MODE_SHIFT & r.MODE_MASK]
        fixed = mode is Mode.FIXED
        if fixed and entry & r.LEVEL:
            setattr(self._s, field, entry | r.REMOTE_IRR)
        if fixed or mode in (Mode.NMI, Mode.INIT):
            self.receive(Message(mode, entry & r.VECTOR, level=fixed and bool(entry & r.LEVEL)))

    # ---- the bus

    @property
    def apic_id(self) -> int:
        """What the ID register says."""
        return self._s.id

    @property
    def priority(self) -> int:
        """The processor priority (10.8.3.1): the task priority, or the class in service if that is higher."""
        s = self._s
        if not s.isr:
            return s.tpr
        serving = s.isr.bit_length() - 1 & ~0xF
        return s.tpr if s.tpr >> 4 >= serving >> 4 else serving

    @property
    def accepts(self) -> bool:
        """Whether it takes fixed interrupts."""
        return self._s.enabled and bool(self._s.svr & _ENABLE)

    def answers(self, destination: int, logical: bool) -> bool:
        """Whether a message with this destination is for this APIC."""
        return is_meant(self._s, destination, logical)

    def receive(self, message: Message) -> None:
        """Take a message that is for this APIC."""
        s, mode, vector = self._s, message.mode, message.vector
        if not s.enabled:
            return
        if mode is Mode.FIXED or mode is Mode.LOWEST:
            if not s.svr & _ENABLE:
                return
            if vector < 16:
                self._error(r.ESR_RECEIVE_ILLEGAL)
                return
            bit = 1 << vector
            s.irr |= bit
            s.tmr = s.tmr | bit if message.level else s.tmr & ~bit
            self._update()
        elif mode is Mode.NMI:
            self.pins.nmi()
        elif mode is Mode.EXTINT:
            s.extint = self.external is not None
            self._update()
        elif mode is Mode.INIT:
            self._initialise()
            self._update()
            self.pins.init()
        elif mode is Mode.STARTUP:
            self.pins.startup(vector)

    # ---- device contract

    def read(self, offset: int, size: int) -> int:
        """See `hypervisor.bus.Device.read`."""
        if not self._s.enabled or self._s.x2apic:
            return (1 << 8 * size) - 1
        if size == 4 and offset in _OFFSETS:
            return self._register(offset)
        return self._read_odd(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """See `hypervisor.bus.Device.write`."""
        if not self._s.enabled or self._s.x2apic:
            return
        writer = self._writers.get(offset)
        if writer is not None and size >= 4:
            writer(value & _WORD)
        elif offset & 0xF == 0 and offset not in _OFFSETS:
            self._error(r.ESR_REGISTER)

    def _read_odd(self, offset: int, size: int) -> int:
        if offset & ~0xF not in _OFFSETS:
            self._error(r.ESR_REGISTER)
            return 0
        return self._register(offset & ~0xF) >> 8 * (offset & 0xF) & (1 << 8 * size) - 1

    def _register(self, offset: int) -> int:
        computed = self._computed.get(offset)
        return self.page.words[offset >> 2] if computed is None else computed()

    def reset(self) -> None:
        """Power-on state; the wires keep the levels that they have."""
        self._initialise()
        self._s.id, self._s.enabled, self._s.x2apic = self._own_id, True, False
        self._update()

    def state(self) -> LocalApicState:
        """A copy of all mutable state."""
        return record_of(self._s)

    def restore(self, state: LocalApicState) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        check(self.name, state)
        self.take(state)

    def take(self, state: LocalApicState) -> None:
        """Take over a state that has been checked."""
        self._take(state)
        self._update()

    def _initialise(self) -> None:
        """INIT: everything but the id and the mode (10.4.7.3, 10.12.5.1)."""
        old = self._s
        new = after_reset(old.id, self._bootstrap)
        new.enabled, new.x2apic, new.lint0, new.lint1 = old.enabled, old.x2apic, old.lint0, old.lint1
        self._take(new)

    def _take(self, state: LocalApicState) -> None:
        put(self._s, state)
        self._timer.adopt()

    # ---- requests

    def _external_requested(self) -> bool:
        s = self._s
        return s.extint or (s.lint0 and (s.lvt_lint0 & _GATE == _EXTINT or not s.enabled))

    def _update(self) -> None:
        """Drive INTR."""
        s = self._s
        if s.irr and s.svr & _ENABLE and s.irr.bit_length() - 1 >> 4 > self.priority >> 4:
            self._intr.set(True)
        elif s.lint0 or s.extint:
            self._intr.set(self._external_requested())
        else:
            self._intr.set(False)

    def _timer_expired(self) -> None:
        s = self._s
        if not s.lvt_timer & r.MASKED:
            self.receive(Message(Mode.FIXED, s.lvt_timer & r.VECTOR))

    def _error(self, bit: int) -> None:
        """An error: it waits for a write of ESR, and interrupts at its first occurrence (10.5.3)."""
        s = self._s
        if s.errors & bit:
            return
        s.errors |= bit
        vector = s.lvt_error & r.VECTOR
        if not s.lvt_error & r.MASKED and vector >= 16:
            self.receive(Message(Mode.FIXED, vector))

    # ---- registers

    def _arbitration(self) -> int:
        """The arbitration priority (10.6.2.4): the highest class among what runs, serves and waits."""
        s = self._s
        return max(s.tpr & 0xFF, self.priority & 0xF0, (s.irr.bit_length() - 1 & 0xF0) if s.irr else 0)

    def _write_id(self, value: int) -> None:
        self._s.id = value >> 24

    def _write_tpr(self, value: int) -> None:
        self._s.tpr = value & 0xFF
        self._update()

    def _write_eoi(self, value: int) -> None:
        s = self._s
        if not s.isr:
            return
        vector = s.isr.bit_length() - 1
        bit = 1 << vector
        s.isr ^= bit
        if s.tmr & bit:
            self._level_ended(vector)
        self._update()

    def _level_ended(self, vector: int) -> None:
        """A level-triggered interrupt is over: the wire that made it may request again."""
        s = self._s
        self._bus.end_of_interrupt(vector)
        for field, level in (("lvt_lint0", s.lint0), ("lvt_lint1", s.lint1)):
            entry = getattr(s, field)
            if entry & r.REMOTE_IRR and entry & r.VECTOR == vector:
                entry &= ~r.REMOTE_IRR
                setattr(s, field, entry)
                self._local(entry, field, level)

    def _write_ldr(self, value: int) -> None:
        self._s.ldr = value >> 24

    def _write_dfr(self, value: int) -> None:
        self._s.dfr = value >> 28

    def _write_svr(self, value: int) -> None:
        s = self._s
        s.svr = value & r.SVR_WRITABLE
        if not value & _ENABLE:  # disabling masks every entry (10.4.7.2)
            for field in LVT_FIELDS.values():
                setattr(s, field, getattr(s, field) | r.MASKED)
            self._timer.want(False)
        self._update()

    def _write_esr(self, value: int) -> None:
        self._s.esr, self._s.errors = self._s.errors, 0

    def _write_lvt(self, offset: int, field: str, value: int) -> None:
        s = self._s
        value &= r.LVT_WRITABLE[offset]
        if not s.svr & _ENABLE:
            value |= r.MASKED
        value |= getattr(s, field) & r.REMOTE_IRR if value & r.LEVEL else 0
        setattr(s, field, value)
        if offset == r.LVT_TIMER:
            self._timer.mode(bool(value & r.PERIODIC), not value & r.MASKED)
        elif offset == r.LVT_LINT0:
            if value & _GATE != _EXTINT and value & r.LEVEL:
                self._local(value, field, s.lint0)
            self._update()

    def _write_initial(self, value: int) -> None:
        entry = self._s.lvt_timer
        self._timer.start(value, bool(entry & r.PERIODIC), not entry & r.MASKED)

    def _write_icr_high(self, value: int) -> None:
        self._s.icr_high = value & r.DESTINATION

    def _write_icr(self, value: int) -> None:
        """Send an interprocessor interrupt (10.6.1)."""
        s = self._s
        s.icr_low = value & r.ICR_WRITABLE
        mode = _MODES[value >> r.MODE_SHIFT & r.MODE_MASK]
        vector = value & r.VECTOR
        if mode is Mode.FIXED or mode is Mode.LOWEST:
            if vector < 16:
                self._error(r.ESR_SEND_ILLEGAL)
                return
        elif mode not in (Mode.NMI, Mode.INIT, Mode.STARTUP):
            return
        if mode is Mode.INIT and value & r.LEVEL and not value & r.ASSERT:
            return  # the de-assertion of INIT, which only older APICs knew
        logical = bool(value & r.LOGICAL)
        destination = s.icr_high if s.x2apic else from_byte(s.icr_high >> 24, logical)
        message = Message(mode, vector, destination, logical)
        shorthand = value >> r.SHORTHAND_SHIFT & 3
        if shorthand == Shorthand.NONE:
            self._bus.send(message)
        elif shorthand == Shorthand.ALL:
            self._bus.send_all(message)
        elif shorthand == Shorthand.OTHERS:
            self._bus.send_all(message, but=self)
        elif mode not in (Mode.INIT, Mode.STARTUP):
            self.receive(message)

    def _send_self(self, vector: int) -> None:
        """SELF IPI: as the ICR sends a fixed interrupt with the shorthand for that, and leaves no trace (10.12.11)."""
        if vector < 16:
            self._error(r.ESR_SEND_ILLEGAL)
        else:
            self.receive(Message(Mode.FIXED, vector))


__all__ = ["SIZE", "LocalApic", "LocalApicState", "Pins"]
