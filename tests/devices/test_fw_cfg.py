from __future__ import annotations

import struct

import pytest

from hypervisor.devices.fw_cfg import DIRECTORY, ID, MAX_TRANSFER, SIGNATURE, FwCfg

FILES = {"etc/e820": b"abcdefgh", "bootorder": b"", "genroms/x.rom": bytes(range(256))}


class Ram:
    def __init__(self) -> None:
        self.bytes = bytearray(0x1000)

    def read(self, gpa: int, size: int) -> bytes:
        return bytes(self.bytes[gpa : gpa + size]).ljust(size, b"\xff")

    def write(self, gpa: int, data: bytes) -> None:
        if gpa < len(self.bytes):
            self.bytes[gpa : gpa + len(data)] = data


@pytest.fixture
def ram() -> Ram:
    return Ram()


@pytest.fixture
def device(ram: Ram) -> FwCfg:
    return FwCfg(ram, {3: (64 << 20).to_bytes(8, "little")}, FILES)


def item(device: FwCfg, number: int, count: int) -> bytes:
    device.write(0, 2, number)
    return bytes(device.read(1, 1) for _ in range(count))


def request(ram: Ram, device: FwCfg, control: int, length: int, target: int, at: int = 0x100) -> int:
    """Start a transfer; what the device leaves in the control word."""
    ram.write(at, struct.pack(">IIQ", control, length, target))
    device.write(4, 4, 0)
    device.write(8, 4, int.from_bytes(at.to_bytes(4, "big"), "little"))
    return int.from_bytes(ram.read(at, 4), "big")


def test_a_file_that_is_made_is_made_when_it_is_selected(ram: Ram) -> None:
    now = [1]
    device = FwCfg(ram, {}, {"etc/now": lambda: bytes(now * 2)})
    now[0] = 2
    assert item(device, 0x20, 1) == b"\2"
    now[0] = 3
    assert bytes([device.read(1, 1)]) == b"\2"  # it does not change while it is read
    assert item(device, 0x20, 3) == b"\3\3\0"


def test_items_are_read_byte_by_byte_and_end_in_zeros(device: FwCfg) -> None:
    assert item(device, SIGNATURE, 6) == b"QEMU\0\0"
    assert item(device, ID, 4) == b"\3\0\0\0"
    assert item(device, 3, 8) == b"\0\0\0\4\0\0\0\0"
    assert item(device, 0x1234, 2) == b"\0\0"


def test_the_directory_lists_the_files(device: FwCfg) -> None:
    count = int.from_bytes(item(device, DIRECTORY, 4), "big")
    assert count == len(FILES)
    listing = item(device, DIRECTORY, 4 + 64 * count)[4:]
    for n in range(count):
        size, select, _, name = struct.unpack_from(">IHH56s", listing, 64 * n)
        path = name.rstrip(b"\0").decode()
        assert size == len(FILES[path])
        assert item(device, select, size) == FILES[path]


def test_dma_is_announced(device: FwCfg) -> None:
    assert device.read(4, 4).to_bytes(4, "little") + device.read(8, 4).to_bytes(4, "little") == b"QEMU CFG"


def test_dma_reads_skips_and_selects(device: FwCfg, ram: Ram) -> None:
    select = 0x21  # by name, etc/e820 is the second
    assert request(ram, device, select << 16 | 0x0A, 5, 0x800) == 0
    assert ram.read(0x800, 6) == b"abcde\0"
    assert request(ram, device, 0x04, 2, 0) == 0
    assert request(ram, device, 0x02, 3, 0x900) == 0
    assert ram.read(0x900, 3) == b"h\0\0"


def test_dma_refuses_what_it_does_not_do(device: FwCfg, ram: Ram) -> None:
    assert request(ram, device, 0x10, 4, 0x800) == 1
    assert request(ram, device, 0x02, MAX_TRANSFER + 1, 0x800) == 1
    assert request(ram, device, 0x02, 4, (1 << 64) - 2) == 1
    assert ram.read(0x800, 4) == bytes(4)
    device.write(4, 4, 0xFFFFFFFF)
    device.write(8, 4, 0xFFFFFFFF)  # the request itself is nowhere


def test_other_widths_do_nothing(device: FwCfg) -> None:
    device.write(0, 2, ID)
    device.write(0, 1, 0)
    device.write(0, 4, 0)
    assert device.read(0, 1) == 3
    assert device.read(0, 2) == 0xFFFF
