"""The keyboard controller: Intel 8042 with the PC's firmware, a keyboard at its first port and a mouse at its second.

Sources: IBM PC AT Technical Reference (6183355), "Keyboard controller"; IBM PS/2 Hardware Interface Technical
Reference, "Keyboard and auxiliary device controller".

The output buffer takes no time to fill: the next byte is there as soon as the last is read. Power-on state is what PC
firmware leaves: self-test passed, translation on, IRQ 1 enabled, auxiliary port disabled, A20 on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from hypervisor.bus import Line
from hypervisor.devices.parts.common import ByteDevice, Register, RegisterTable
from hypervisor.devices.parts.device_state import adopt
from hypervisor.devices.parts.ps2_keyboard import Keyboard, KeyboardState
from hypervisor.devices.parts.ps2_mouse import Mouse, MouseState
from hypervisor.devices.scan_codes import to_set_1
from hypervisor.state import InRecord, data, flag, number, numbers, part, record, u8

SIZE = 2
"""Bytes of the register window: data is offset 0 (port 60h), status and command offset 1 (port 64h)."""

REGISTERS = (
    Register(0, "DATA", "rw", "60h: output buffer; writes go to the keyboard or are a command's parameter"),
    Register(1, "STATUS", "r", "64h: what the buffers hold"),
    Register(1, "COMMAND", "w", "64h: a command to the controller"),
)

STATUS_OBF, STATUS_SYS, STATUS_CMD, STATUS_UNLOCKED = 0x01, 0x04, 0x08, 0x10
STATUS_AUX_OBF = 0x20
MODE_IRQ1, MODE_IRQ12, MODE_SYS, MODE_NO_KEYBOARD, MODE_NO_AUX, MODE_TRANSLATE = 0x01, 0x02, 0x04, 0x10, 0x20, 0x40
MODE_FIRMWARE = MODE_IRQ1 | MODE_SYS | MODE_NO_AUX | MODE_TRANSLATE
OUT_NO_RESET, OUT_A20, OUT_IRQ1, OUT_IRQ12 = 0x01, 0x02, 0x10, 0x20
OUT_IDLE = 0xCC
INPUT_PORT = 0x80
"""Keyboard not locked."""
AUX = 0x100
"""A flag beside a byte on its way to the output buffer: it is, or passes for, the mouse's."""
QUEUE_LIMIT = 16

READ_RAM, WRITE_RAM = 0x20, 0x60
NO_AUX, WITH_AUX, TEST_AUX, SELF_TEST, TEST_KEYBOARD, NO_KEYBOARD, WITH_KEYBOARD = (
    0xA7, 0xA8, 0xA9, 0xAA, 0xAB, 0xAD, 0xAE,
)  # fmt: skip
PASSWORD, READ_INPUT, READ_OUTPUT, WRITE_OUTPUT, WRITE_KEYBOARD_BUFFER, WRITE_AUX_BUFFER, WRITE_AUX = (
    0xA4, 0xC0, 0xD0, 0xD1, 0xD2, 0xD3, 0xD4,
)  # fmt: skip
A20_OFF, A20_ON, READ_TEST, PULSE = 0xDD, 0xDF, 0xE0, 0xF0
WITH_PARAMETER = (WRITE_OUTPUT, WRITE_KEYBOARD_BUFFER, WRITE_AUX_BUFFER, WRITE_AUX)
SELF_TEST_PASSED, PORT_TEST_PASSED, NO_PASSWORD = 0x55, 0x00, 0xF1


@record
class I8042State:
    """All that the controller, its keyboard and its mouse remember. ``output`` and ``queue`` hold bytes with `AUX`."""

    ram: bytearray = data(32, bytes((MODE_FIRMWARE, *bytes(31))), exact=True)
    output: int = number(0, 0x1FF)
    full: bool = flag()
    last_was_command: bool = flag()
    command: int = u8()
    a20: bool = flag(True)
    break_next: bool = flag()
    queue: list[int] = numbers(QUEUE_LIMIT, 0, 0x1FF)
    keyboard: KeyboardState = part(KeyboardState)
    mouse: MouseState = part(MouseState)


class I8042(ByteDevice, InRecord[I8042State]):
    """The controller: data at port 60h, status and command at port 64h.

    ``irq1`` and ``irq12`` are its interrupts. ``set_a20(enabled)`` is called when the A20 output changes,
    ``reset_machine()`` when the reset output is pulsed.
    """

    def __init__(
        self,
        irq1: Line,
        irq12: Line,
        set_a20: Callable[[bool], object],
        reset_machine: Callable[[], object],
        name: str = "i8042",
    ) -> None:
        self.name = name
        self.irq1 = irq1
        self.irq12 = irq12
        self._set_a20 = set_a20
        self._reset_machine = reset_machine
        self._s = I8042State()
        self._keyboard = Keyboard(self._s.keyboard)
        self._mouse = Mouse(self._s.mouse)
        self._when_taken: list[Callable[[], object]] = []

    def _registers(self) -> RegisterTable:
        return [self._read_data, self._read_status], [self._write_data, self._write_command]

    @cached_property
    def _parameters(self) -> dict[int, Callable[[int], None]]:
        """What follows commands that take a byte."""
        return {
            WRITE_OUTPUT: self._write_output_port,
            WRITE_KEYBOARD_BUFFER: self._answer,
            WRITE_AUX_BUFFER: lambda value: self._answer(value | AUX),
            WRITE_AUX: self._write_mouse,
        }

    # ---- host side

    def press(self, scancodes: bytes) -> int:
        """Keys are pressed or released: ``scancodes`` of set 2, whole keys (a break code is f0h and the make code).

        Returns how many bytes were taken: 0 when the buffer has no room for them all or the guest has disabled
        scanning.
        """
        taken = self._keyboard.press(scancodes)
        self._fill()
        return taken

    def type_text(self, text: str) -> int:
        """Press and release the keys of a US keyboard that type ``text``; returns how many characters were taken.

        Raises `ConfigError` for a character that is on no key.
        """
        taken = self._keyboard.type_text(text)
        self._fill()
        return taken

    def move_mouse(self, dx: int, dy: int, wheel: int, buttons: int) -> None:
        """The mouse moves by so many counts to the right, down, and its wheel towards the user.

        ``buttons`` are those that are held now: bit 0 left, 1 right, 2 middle, 3 and 4 the two at the side.
        """
        self._mouse.move(dx, -dy, wheel, buttons)
        self._fill()

    def when_taken(self, listener: Callable[[], object]) -> None:
        """Call ``listener`` when the guest has read all that keyboard and mouse had to say, or enables one of them."""
        self._when_taken.append(listener)

    @property
    def keyboard_idle(self) -> bool:
        """Whether the guest has read every key so far, and would be told of the next one."""
        s = self._s
        waits = s.full and not s.output & AUX
        return s.keyboard.scanning and not s.keyboard.keys and not waits and not s.ram[0] & MODE_NO_KEYBOARD

    @property
    def typematic_s(self) -> tuple[float, float]:
        """Seconds before a held key repeats, and between two repeats, as the guest has set them.

        Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboards", command F3h.
        """
        value = self._s.keyboard.typematic
        return 0.25 * (1 + (value >> 5 & 3)), (8 + (value & 7)) * (1 << (value >> 3 & 3)) * 0.00417

    @property
    def mouse_idle(self) -> bool:
        """Whether the guest has been told of all that the mouse did, and would be told of more."""
        s = self._s
        return self._mouse.reports and self._mouse.idle and not (s.full and s.output & AUX)

    # ---- device contract

    def reset(self) -> None:
        """The state that firmware leaves; A20 is on."""
        self._take(I8042State())

    def restore(self, state: I8042State) -> None:
        """Take over ``state``; raises `DeviceError` if it is not one of this device."""
        self._take(adopt(self.name, I8042State, state))

    def _take(self, state: I8042State) -> None:
        changed = state.a20 != self._s.a20
        self._s = state
        self._keyboard = Keyboard(state.keyboard)
        self._mouse = Mouse(state.mouse)
        self._show()
        if changed:
            self._set_a20(state.a20)

    # ---- output buffer

    def _fill(self) -> None:
        """Move the next byte into the output buffer: the controller's own first, the keyboard's, then the mouse's."""
        s = self._s
        if not s.full:
            if s.queue:
                s.output, s.full = s.queue.pop(0), True
            elif not s.ram[0] & MODE_NO_KEYBOARD:
                self._fill_from_keyboard()
            if not s.full and not s.ram[0] & MODE_NO_AUX and (byte := self._mouse.next_byte()) is not None:
                s.output, s.full = byte | AUX, True
            if not s.full:
                for listener in self._when_taken:
                    listener()
        self._show()

    def _fill_from_keyboard(self) -> None:
        s = self._s
        while (byte := self._keyboard.next_byte()) is not None:
            if s.ram[0] & MODE_TRANSLATE:
                if byte == 0xF0:  # becomes bit 7 of the code that follows
                    s.break_next = True
                    continue
                byte = to_set_1(byte) | (0x80 if s.break_next else 0)
                s.break_next = False
            s.output, s.full = byte, True
            return

    def _answer(self, value: int) -> None:
        if len(self._s.queue) < QUEUE_LIMIT:
            self._s.queue.append(value)

    def _show(self) -> None:
        s = self._s
        mode = s.ram[0]
        aux = bool(s.output & AUX)
        self.irq1.set(s.full and not aux and mode & (MODE_IRQ1 | MODE_NO_KEYBOARD) == MODE_IRQ1)
        self.irq12.set(s.full and aux and mode & MODE_IRQ12 != 0)

    # ---- registers

    def _read_data(self) -> int:
        s = self._s
        value = s.output & 0xFF
        if s.full:
            s.full = False
            self._show()  # the interrupt falls between two bytes, so that each makes an edge
            self._fill()
        return value

    def _read_status(self) -> int:
        s = self._s
        status = STATUS_UNLOCKED | (s.ram[0] & MODE_SYS)
        if s.last_was_command:
            status |= STATUS_CMD
        if s.full:
            status |= STATUS_OBF
            if s.output & AUX:
                status |= STATUS_AUX_OBF
        return status

    def _write_data(self, value: int) -> None:
        s = self._s
        s.last_was_command = False
        command, s.command = s.command, 0
        if command & 0xE0 == WRITE_RAM:
            s.ram[command & 0x1F] = value
        elif command:
            self._parameters[command](value)
        else:
            s.ram[0] &= ~MODE_NO_KEYBOARD  # talking to the keyboard enables it
            self._keyboard.command(value)
        self._fill()

    def _write_mouse(self, value: int) -> None:
        self._s.ram[0] &= ~MODE_NO_AUX  # talking to the mouse enables it
        self._mouse.command(value)

    def _write_command(self, value: int) -> None:
        s = self._s
        s.last_was_command = True
        s.command = 0
        if value & 0xE0 == READ_RAM:
            self._answer(s.ram[value & 0x1F])
        elif value & 0xE0 == WRITE_RAM or value in WITH_PARAMETER:
            s.command = value
        elif value >= PULSE:
            if not value & OUT_NO_RESET:
                self._reset_machine()
        elif value in (A20_OFF, A20_ON):
            self._drive_a20(value == A20_ON)
        else:
            self._simple_command(value)
        self._fill()

    def _simple_command(self, value: int) -> None:
        s = self._s
        if value == SELF_TEST:
            s.ram[0] |= MODE_SYS
            s.queue.clear()
            s.full = False
            self._show()
            self._answer(SELF_TEST_PASSED)
        elif value == NO_KEYBOARD:
            s.ram[0] |= MODE_NO_KEYBOARD
        elif value == WITH_KEYBOARD:
            s.ram[0] &= ~MODE_NO_KEYBOARD
        elif value == NO_AUX:
            s.ram[0] |= MODE_NO_AUX
        elif value == WITH_AUX:
            s.ram[0] &= ~MODE_NO_AUX
        elif value in (TEST_AUX, TEST_KEYBOARD):
            self._answer(PORT_TEST_PASSED)
        elif value == PASSWORD:
            self._answer(NO_PASSWORD)
        elif value == READ_INPUT:
            self._answer(INPUT_PORT)
        elif value == READ_OUTPUT:
            self._answer(self._output_port())
        elif value == READ_TEST:
            self._answer(0)

    def _output_port(self) -> int:
        return (
            OUT_IDLE
            | OUT_NO_RESET
            | (OUT_A20 if self._s.a20 else 0)
            | (OUT_IRQ1 if self.irq1.level else 0)
            | (OUT_IRQ12 if self.irq12.level else 0)
        )

    def _write_output_port(self, value: int) -> None:
        self._drive_a20(bool(value & OUT_A20))
        if not value & OUT_NO_RESET:
            self._reset_machine()

    def _drive_a20(self, enabled: bool) -> None:
        if enabled != self._s.a20:
            self._s.a20 = enabled
            self._set_a20(enabled)
