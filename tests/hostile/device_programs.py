"""What a driver would do, with hostile values: random accesses alone seldom get as far as starting a transfer.

Each function is a short program for one device, as a list of steps: (port, size, value) to write, (port, size, None) to
read. Device memory stands in the same list at its guest-physical address.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

Steps = list[tuple[int, int, int | None]]

PLACES = (
    0, 1, 0xFF0, 0xFFF, 0x1000, 0x9FFFF, 0xA0000, 0xBFFFF, 0xC0000, 0xF0000, 0xFFFFF, 0x100000, 0x3FF000, 0x3FFFF0,
    0x3FFFFF, 0x400000, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFD000000, 0xFEC00000, 0xFEE00000, 0xFFFFF000, 0xFFFFFFFF,
)  # fmt: skip
"""Guest-physical addresses to move data to and from: memory and its ends, holes, ROM, devices."""

_DISK = (0x20, 0x21, 0x30, 0xC4, 0xC5, 0xC6, 0xC8, 0xCA, 0x24, 0x25, 0x29, 0x34, 0x35, 0x39, 0x40, 0x70, 0x90, 0xA0,
         0xA1, 0xE0, 0xE1, 0xE3, 0xE5, 0xE7, 0xEA, 0xEC, 0xEF, 0xF8, 0x08, 0x00, 0x10, 0x91)  # fmt: skip
_PACKET = (0x00, 0x03, 0x12, 0x1A, 0x1B, 0x1E, 0x23, 0x25, 0x28, 0x2B, 0x42, 0x43, 0x46, 0x4A, 0x51, 0x52, 0x5A, 0xA8,
           0xAD, 0xB9, 0xBD, 0xBE)  # fmt: skip
_FLOPPY = (0x03, 0x04, 0x07, 0x08, 0x0A, 0x0E, 0x0F, 0x10, 0x12, 0x13, 0x14, 0x42, 0x45, 0x46, 0x49, 0x4A, 0x4C, 0x4D,
           0x66, 0xC5, 0xC6, 0xE6, 0x94, 0x8F, 0xCF, 0x51, 0x59, 0x5D)  # fmt: skip


def _byte(random: Random) -> int:
    return random.choice((0, 1, 2, 0x7F, 0x80, 0xFF, random.getrandbits(8), random.getrandbits(8)))


def _word(random: Random) -> int:
    return random.choice((0, 1, 0xFFFFFFFF, 0x80000000, random.getrandbits(32), random.choice(PLACES)))


def ide(random: Random) -> Steps:
    """A command with its operands, a packet if it wants one, and some data; now and then with the bus master."""
    base, number = random.choice(((0x1F0, 0), (0x170, 1)))
    steps: Steps = [(base + 6, 1, random.choice((0xA0, 0xE0, 0xB0, 0xF0, _byte(random))) | random.getrandbits(4))]
    values = random.choice(((0, 1, 0, 0, 0), (1, 1, 1, 0, 0), (0, 8, 2, 0, 0), None))
    steps += [(base + n, 1, values[n - 1] if values else _byte(random)) for n in (1, 2, 3, 4, 5)]
    if random.random() < 0.4:
        steps += _bus_master(random, number)
    packets = random.random() < 0.3
    steps.append((base + 7, 1, 0xA0 if packets else random.choice(_DISK)))
    if packets or random.random() < 0.2:
        packet = bytes([random.choice(_PACKET)]) + bytes(_byte(random) for _ in range(11))
        steps += [(base, 2, int.from_bytes(packet[n : n + 2], "little")) for n in range(0, 12, 2)]
    data: Steps = [(base, random.choice((2, 2, 4, 1)), random.choice((None, _word(random))))]
    return [*steps, *data * random.choice((0, 1, 8, 256)), (base + 7, 1, None)]


def _bus_master(random: Random, number: int) -> Steps:
    at = 0xC000 + 8 * number
    return [(at, 1, 0), (at + 4, 4, random.choice(PLACES)), (at + 2, 1, 6), (at, 1, random.choice((1, 9)))]


def bmide(random: Random) -> Steps:
    """The bus master before or after a command that wants it."""
    number = random.getrandbits(1)
    base = (0x1F0, 0x170)[number]
    command: Steps = [
        (base + 6, 1, random.choice((0xE0, 0xF0, 0xE0 | random.getrandbits(5)))), (base + 2, 1, _byte(random)),
        (base + 3, 1, random.choice((0, 1, 7, _byte(random)))), (base + 4, 1, 0), (base + 5, 1, 0),
        (base + 7, 1, random.choice((0xC8, 0xCA, 0x25, 0x35, 0xA0))),
    ]  # fmt: skip
    master = _bus_master(random, number)
    return [*command, *master] if random.random() < 0.5 else [*master, *command]


def dma(random: Random) -> Steps:
    """A channel's address, page, count and mode."""
    second, channel = random.getrandbits(1), random.getrandbits(2)
    base, scale = (0xC0, 2) if second else (0, 1)
    page = ((0x87, 0x83, 0x81, 0x82), (0x8F, 0x8B, 0x89, 0x8A))[second][channel]
    steps: Steps = [(base + 12 * scale, 1, 0), (page, 1, _byte(random))]
    steps += [(base + (2 * channel + n) * scale, 1, _byte(random)) for n in (0, 0, 1, 1)]
    return [
        *steps, (base + 11 * scale, 1, _byte(random) & ~3 | channel), (base + 10 * scale, 1, channel),
        (base + 8 * scale, 1, random.choice((0, 0, _byte(random)))), (base + 9 * scale, 1, 4 | channel),
    ]  # fmt: skip


def fdc(random: Random) -> Steps:
    """A command of the floppy controller, with its DMA channel on."""
    steps: Steps = [(0x3F2, 1, random.choice((0x1C, 0x1C, 0x3D, 0x0C, _byte(random)))), *_floppy_dma(random)]
    if random.random() < 0.5:
        head, end = random.getrandbits(1), random.choice((1, 18, 0xFF))
        command = (random.choice((0x46, 0xE6, 0x45, 0xC5, 0x4D)), 4 * head, 0, head, 1, 2, end, 0x1B, 0xFF)
        steps += [(0x3F5, 1, byte) for byte in random.choice((command, (8,), (7, 0), (0x0F, 0, 0), (3, 0, 0)))]
    else:
        steps += [(0x3F5, 1, random.choice(_FLOPPY))]
        steps += [(0x3F5, 1, random.choice((0, 1, 2, 18, 0xFF, _byte(random)))) for _ in range(random.randint(0, 9))]
    return steps + [(0x3F5, 1, None)] * random.choice((0, 7, 20, 600)) + [(0x3F4, 1, None)]


def _floppy_dma(random: Random) -> Steps:
    size = random.choice((0, 511, 1023, 0xFFFF))
    return [
        (12, 1, 0), (11, 1, random.choice((0x46, 0x4A, 0x56, 0x5A, 0x42, 0x86))), (4, 1, _byte(random)),
        (4, 1, _byte(random)), (0x81, 1, random.choice((0, 0x3F, 0x40, 0xFF))), (5, 1, size & 0xFF), (5, 1, size >> 8),
        (10, 1, 2),
    ]  # fmt: skip


def fw_cfg(random: Random) -> Steps:
    """An item, its bytes, or a DMA request, which is read from one of `PLACES`."""
    item = random.choice((0, 1, 0x19, 0x20 + random.getrandbits(4), random.getrandbits(16)))
    address = int.from_bytes(random.choice(PLACES).to_bytes(4, "big"), "little")
    return random.choice((
        [(0x510, 2, item)] + [(0x511, 1, None)] * random.choice((1, 40)),
        [(0x514, 4, random.choice((0, 0, _word(random)))), (0x518, 4, address)],
    ))  # fmt: skip


def pci(random: Random) -> Steps:
    """A configuration register of a function that is there; base addresses and commands more often than others."""
    device, function = random.choice(
        ((0, 0), (1, 0), (1, 1), (1, 3), (2, 0), (random.getrandbits(5), _byte(random) & 7))
    )
    register = random.choice((4, 4, 0x10, 0x14, 0x18, 0x1C, 0x20, 0x24, 0x30, 0x3C, 0x40, 0x58, 0x60, 0x80, 0xD2,
                              random.getrandbits(8) & 0xFC))  # fmt: skip
    size = random.choice((1, 2, 4))
    value = random.choice((7, 3, 1, 0x600, 0xC001, 0xFF000000, _word(random)))
    select = random.choice((0x80000000, 0x80000000, 0)) | device << 11 | function << 8 | register & 0xFC
    at = 0xCFC + (register & 3 if size < 4 else 0)
    return [(0xCF8, 4, select), (at, size, random.choice((None, value)))]


def vga(random: Random) -> Steps:
    """Some of an indexed register file, or a mode of the frame buffer."""
    index, count = random.choice(((0x3C4, 8), (0x3CE, 16), (0x3D4, 32), (0x3B4, 32)))
    if random.random() < 0.3:
        numbers = random.sample(range(12), 4)
        sizes = (0, 1, 8, 16, 24, 32, 0x41, 0x61, 640, 1024, 4095, 4096, 0xFFFF)
        return [step for n in numbers for step in ((0x1CE, 2, n), (0x1CF, 2, random.choice(sizes)))]
    if random.random() < 0.2:
        return [(0x3DA, 1, None), (0x3C0, 1, random.getrandbits(6)), (0x3C0, 1, _byte(random))]
    return [(index, 2, random.randrange(count) | _byte(random) << 8) for _ in range(random.randint(1, 8))]


def indexed(index: int, data: int, count: int) -> Callable[[Random], Steps]:
    """A register behind a pair of an index and a data port."""

    def steps(random: Random) -> Steps:
        return [(index, 1, random.randrange(count)), (data, 1, random.choice((None, _byte(random))))]

    return steps


def registers(base: int, offsets: range, sizes: tuple[int, ...] = (4,)) -> Callable[[Random], Steps]:
    """Whole registers of a block of device memory."""

    def steps(random: Random) -> Steps:
        offset, size = random.choice(offsets), random.choice(sizes)
        value = random.choice((None, random.getrandbits(8 * size), 1 << random.randrange(8 * size), _byte(random)))
        return [(base + offset, size, value)]

    return steps


def i8042(random: Random) -> Steps:
    """A command of the controller or of one of its devices, and its operands."""
    command = random.choice((0x20, 0x60, 0xA7, 0xA8, 0xA9, 0xAA, 0xAB, 0xAD, 0xAE, 0xC0, 0xD0, 0xD1, 0xD2, 0xD3, 0xD4,
                             0xF0, _byte(random)))  # fmt: skip
    to = random.choice((0xED, 0xEE, 0xF0, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xFF, 0xE6, 0xE8, 0xE9, 0xEA, 0xEB))
    tail: Steps = [(0x60, 1, random.choice((None, to, _byte(random)))) for _ in range(random.randint(0, 4))]
    return [(0x64, 1, command), *tail]


def pic(random: Random) -> Steps:
    """An initialisation, right or with a word missing."""
    base = random.choice((0x20, 0xA0))
    words = [(base + 1, 1, _byte(random)) for _ in range(random.randint(0, 3))]
    return [(base, 1, random.choice((0x11, 0x19, 0x13, 0x0A, 0x0B, 0x20, 0x68, _byte(random)))), *words]


def pit(random: Random) -> Steps:
    """A counter's mode and count: small ones, too."""
    channel = random.randrange(3)
    count: Steps = [(0x40 + channel, 1, random.choice((0, 1, 2, 0xFF, _byte(random)))) for _ in range(2)]
    return [(0x43, 1, channel << 6 | random.getrandbits(6)), *count]


def uart(random: Random) -> Steps:
    """A divisor, FIFOs, interrupts, and something to send."""
    base = random.choice((0x3F8, 0x2F8, 0x3E8, 0x2E8))
    divisor: Steps = [(base + 3, 1, 0x80), (base, 1, _byte(random)), (base + 1, 1, _byte(random))]
    rest: Steps = [(base + n, 1, _byte(random)) for n in (2, 1, 4, 0)]
    return [*divisor, (base + 3, 1, _byte(random) & 0x7F), *rest]


PROGRAMS: dict[str, Callable[[Random], Steps]] = {
    "ide0": ide, "ide1": ide, "bmide": bmide, "dma": dma, "fdc": fdc, "fw_cfg": fw_cfg, "pci": pci, "i440fx": pci,
    "piix3": pci, "piix3-ide": pci, "piix4-pm": pci, "vga-pci": pci, "vga": vga, "vga-dispi": vga, "vga-planes": vga,
    "vga-mmio": vga, "rtc": indexed(0x70, 0x71, 128), "hpet": registers(0xFED00000, range(0, 0x160, 4), (4, 8)),
    "lapic": registers(0xFEE00000, range(0x20, 0x400, 16)), "ioapic": indexed(0xFEC00000, 0xFEC00010, 64),
    "i8042": i8042, "pic": pic, "pit": pit, "port61": pit, "acpi-pm": registers(0x600, range(0, 0x40, 2), (1, 2, 4)),
    "uart0": uart, "uart1": uart, "uart2": uart, "uart3": uart, "cf9": indexed(0xCF9, 0xCF9, 16),
}  # fmt: skip
"""A program for each device that has more than a register."""
