"""The ROM at F000:0000: what the interrupt vectors point at.

Each of the 256 vectors has a stub of 16 bytes at `STUBS` + 16 * vector that makes a hypercall, so that the
hypercall's address says which interrupt was called::

    again: vmmcall        ; the trap handler serves the call
           jc   wait      ; it sets CF when the call has to wait for something,
           jo   breathe   ; and OF when a caller who asks again must see something change
           iret
    wait:  sti
           hlt            ; an ordinary HLT: time passes, interrupts come, the host's processor sleeps
           jmp  again
    breathe: sti
           nop
           iret

Hardware interrupts are machine code from end to end, as on a real PC: they work without a handler, at their own speed.

Where the BIOS of the IBM PC had its entry points and its font, as all others have since, guests find ours: jumps to
them, for those who know them by address. The vector of the NMI is one of them, since a guest knows its bytes.
"""

from __future__ import annotations

import struct
from functools import cache

from hypervisor.arch.font import font
from hypervisor.bus import Dma

SEGMENT = 0xF000
BASE = 0xF0000
STUBS = 0xD000
STUB_SIZE = 16
TIMER = 0xE100
KEYBOARD = 0xE140
MASTER_DUMMY = 0xE180
STACK_FAULT = 0xE1E0
PROTECTION_FAULT = 0xE200
SLAVE_DUMMY = 0xE190
RTC = 0xE1A0
IRET = 0xFF53
APM_ENTRY = 0xE1D0
CONFIGURATION = 0xE6F5
DISKETTE_TABLE = 0xEFC7
FONT = 0xFA6E
RESET = 0xFFF0
NMI = 0xE2C3

ENTRY_POINTS = {
    0xE05B: RESET,
    NMI: STUBS + STUB_SIZE * 0x02,
    0xE3FE: STUBS + STUB_SIZE * 0x13,
    0xE6F2: STUBS + STUB_SIZE * 0x19,
    0xE739: STUBS + STUB_SIZE * 0x14,
    0xE82E: STUBS + STUB_SIZE * 0x16,
    0xE987: KEYBOARD,
    0xEC59: STUBS + STUB_SIZE * 0x13,
    0xEF57: MASTER_DUMMY,
    0xEFD2: STUBS + STUB_SIZE * 0x17,
    0xF065: STUBS + STUB_SIZE * 0x10,
    0xF841: STUBS + STUB_SIZE * 0x12,
    0xF84D: STUBS + STUB_SIZE * 0x11,
    0xF859: STUBS + STUB_SIZE * 0x15,
    0xFE6E: STUBS + STUB_SIZE * 0x1A,
    0xFEA5: TIMER,
    0xFF54: STUBS + STUB_SIZE * 0x05,
}
"""Fixed addresses of the IBM BIOS, and what is there (IBM PC AT technical reference, section 5, "BIOS Memory Map" and
the listing's compatibility module, ORGS).
"""

STUB = bytes.fromhex("0f01d9 7203 7005 cf fb f4 ebf4 fb 90 cf")

# Count the dword at 0040:006c with its wrap at midnight (1800b0h ticks, flag at 0070h), int 1ch, EOI. DS is 0 during
# int 1ch, as it is in the BIOSes of emulators; programs that hook it without setting DS rely on that.
TIMER_CODE = bytes.fromhex(
    "50 52 1e"  # push ax; push dx; push ds
    "31c0 8ed8"  # xor ax, ax; mov ds, ax
    "ff066c04 7504 ff066e04"  # inc word [46ch]; jnz +4; inc word [46eh]
    "833e6e0418 7215"  # cmp word [46eh], 18h; jb done
    "813e6c04b000 720d"  # cmp word [46ch], 0b0h; jb done
    "31c0 a36c04 a36e04 c606700401"  # xor ax, ax; mov [46ch], ax; mov [46eh], ax; mov byte [470h], 1
    "cd1c"  # done: int 1ch
    "b020 e620"  # mov al, 20h; out 20h, al
    "1f 5a 58 cf"  # pop ds; pop dx; pop ax; iret
)

# Offer the scan code to INT 15h AH=4fh, then to the trap handler, which sets CF for Ctrl-Break. A byte of the mouse is
# left for its driver: a guest that set the mouse up with interrupts off may have an IRQ 1 of the controller's answers.
KEYBOARD_CODE = bytes.fromhex(
    "50 e464 a820 7510"  # push ax; in al, 64h; test al, 20h; jnz done
    "e460"  # in al, 60h
    "b44f f9 cd15 7307"  # mov ah, 4fh; stc; int 15h; jnc done
    "0f01d9 7302"  # vmmcall; jnc done
    "cd1b"  # int 1bh
    "b020 e620"  # done: mov al, 20h; out 20h, al
    "58 cf"  # pop ax; iret
)
KEYBOARD_CALL = KEYBOARD + KEYBOARD_CODE.index(b"\x0f\x01\xd9")

MASTER_DUMMY_CODE = bytes.fromhex("50 b020 e620 58 cf")


def _irq_or_exception(vector: int, at: int) -> bytes:
    """Vectors 0Ch and 0Dh are #SS and #GP, too: it is an interrupt if the 8259 says that it is being served (in its
    ISR, data sheet, "OCW3"), else the vector's stub is told.
    """
    served = bytes.fromhex("50 b00b e620 e420 a8") + bytes([1 << vector - 8, 0x74, 0x06]) + MASTER_DUMMY_CODE[1:]
    end = at + len(served) + 4
    return served + b"\x58\xe9" + struct.pack("<H", STUBS + STUB_SIZE * vector - end & 0xFFFF)


SLAVE_DUMMY_CODE = bytes.fromhex("50 b020 e6a0 e620 58 cf")

# Reading RTC register C lets it interrupt again (MC146818A data sheet, "Register C").
RTC_CODE = bytes.fromhex("50 b00c e670 e471 b020 e6a0 e620 58 cf")

APM_CODE = bytes.fromhex("0f01d9 cb")
"""vmmcall; retf: the same bytes in a 16-bit and in a 32-bit code segment."""

CONFIGURATION_TABLE = bytes.fromhex("0800 fc 00 01 74 40 00 00 00")
"""What INT 15h AH=C0h points at: 8 bytes of an AT with two 8259s, an RTC, the keyboard intercept and an extended data
area; INT 16h AH=09h is there (IBM technical reference, "Interrupt 15h", function C0h).
"""

RESET_CODE = bytes.fromhex("0f01d9 ebfb")
"""again: vmmcall; jmp again: at the CPU's reset vector, then the BIOS date and the AT model byte."""

DISKETTE_PARAMETERS = bytes.fromhex("df 02 25 02 12 1b ff 6c f6 0f 08")
"""1.44 MB drive, where INT 1Eh's vector points (IBM technical reference, "Diskette parameter table")."""

PORT_WRITES: tuple[tuple[int, int], ...] = (
    # 8254 channel 0: mode 3, count 65536, which is 18.2 Hz. First, so that ICW1 forgets the edge with which its output
    # rises now: a first tick at once would surprise kernels, which firmware's POST keeps from it.
    (0x43, 0x36),
    (0x40, 0x00),
    (0x40, 0x00),
    # 8259 pair: vectors 08h and 70h, slave on line 2, timer, keyboard and RTC unmasked (Intel 8259A data sheet, ICW1 to
    # OCW1).
    (0x20, 0x11),
    (0x21, 0x08),
    (0x21, 0x04),
    (0x21, 0x01),
    (0xA0, 0x11),
    (0xA1, 0x70),
    (0xA1, 0x02),
    (0xA1, 0x01),
    (0x21, 0xF8),
    (0xA1, 0xFE),
    # 8042: command byte with the keyboard's interrupt and translation on, the mouse off.
    (0x64, 0x60),
    (0x60, 0x65),
    (0x92, 0x02),  # address line 20 on
)
"""(port, byte) in the order in which a BIOS writes them at power-on."""


def install_rom(memory: Dma) -> None:
    """Write the ROM and the interrupt vectors; F0000h to FFFFFh must be backed by memory."""
    memory.write(BASE + STUBS, STUB.ljust(STUB_SIZE, b"\x90") * 256)
    for offset, code in (
        (TIMER, TIMER_CODE),
        (KEYBOARD, KEYBOARD_CODE),
        (MASTER_DUMMY, MASTER_DUMMY_CODE),
        (STACK_FAULT, _irq_or_exception(0x0C, STACK_FAULT)),
        (PROTECTION_FAULT, _irq_or_exception(0x0D, PROTECTION_FAULT)),
        (SLAVE_DUMMY, SLAVE_DUMMY_CODE),
        (RTC, RTC_CODE),
        (IRET, b"\xcf"),
        (APM_ENTRY, APM_CODE),
        (CONFIGURATION, CONFIGURATION_TABLE),
        (DISKETTE_TABLE, DISKETTE_PARAMETERS),
        (FONT, font(8).data[: 128 * 8]),
        (RESET, RESET_CODE + b"01/01/24\0\xfc\0"),
    ):
        memory.write(BASE + offset, code)
    for entry, target in ENTRY_POINTS.items():
        memory.write(BASE + entry, b"\xe9" + struct.pack("<H", target - entry - 3 & 0xFFFF))
    memory.write(0, _vectors())


def vector_of(address: int) -> int | None:
    """The interrupt whose stub makes its hypercall at linear ``address``, or None."""
    offset = address - BASE - STUBS
    return offset // STUB_SIZE if 0 <= offset < 256 * STUB_SIZE and offset % STUB_SIZE == 0 else None


@cache
def _vectors() -> bytes:
    """The interrupt vector table."""
    offsets = [STUBS + STUB_SIZE * vector for vector in range(256)]
    offsets[0x0A:0x10] = [MASTER_DUMMY, MASTER_DUMMY, STACK_FAULT, PROTECTION_FAULT, MASTER_DUMMY, MASTER_DUMMY]
    offsets[0x71:0x78] = [SLAVE_DUMMY] * 7
    for vector, offset in _SPECIAL.items():
        offsets[vector] = offset
    return struct.pack("<512H", *(word for offset in offsets for word in (offset, SEGMENT)))


_SPECIAL = {0x02: NMI, 0x08: TIMER, 0x09: KEYBOARD, 0x1B: IRET, 0x1C: IRET, 0x1E: DISKETTE_TABLE, 0x4A: IRET, 0x70: RTC}
"""Vectors that are not those of stubs, and not those of hardware interrupts that nobody uses."""
