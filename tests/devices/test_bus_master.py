"""Bus-master DMA: descriptors, both directions, and tables that a guest has made to hurt."""

from __future__ import annotations

import struct

import pytest

from hypervisor.bus.clock import ManualClock
from hypervisor.devices.ide import BusMaster, bus_master, mmc
from hypervisor.devices.ide import ata_registers as r
from tests.boot.fakes import BusMemory
from tests.devices.ide import CD_IMAGE, IMAGE, Driver, cd, disk

TABLE = 0x1000
EOT = bus_master.END_OF_TABLE
START, TO_MEMORY = bus_master.START, bus_master.TO_MEMORY


class Machine(Driver):
    def __init__(self) -> None:
        super().__init__(disk(), cd())
        self.memory = BusMemory(4 << 20)
        self.clock = ManualClock()
        self.master = BusMaster(self.memory, [self.channel], self.clock)
        self.select()

    def _changed(self, level: bool) -> None:
        super()._changed(level)
        self.master.interrupt(0, level)

    def table(self, *rows: tuple[int, int], at: int = TABLE) -> None:
        self.memory.write(at, b"".join(struct.pack("<II", *row) for row in rows))
        self.master.write(4, 4, at)

    def start(self, direction: int) -> int:
        """Start the bus master; its status."""
        self.master.write(0, 1, direction)
        self.master.write(0, 1, direction | START)
        return self.master.read(2, 1)


def test_reading_into_several_pieces() -> None:
    one = Machine()
    one.table((0x8000, 100), (0x10000, 1000), (0x20000, EOT | 3 * 512 - 1100))
    one.command(r.READ_DMA, 11, 3)
    assert one.start(TO_MEMORY) == bus_master.INTERRUPT
    expected = IMAGE[11 * 512 : 14 * 512]
    got = one.memory.read(0x8000, 100) + one.memory.read(0x10000, 1000) + one.memory.read(0x20000, 436)
    assert (got, one.status, one.interrupts) == (expected, r.DRDY | r.DSC, 1)
    one.master.write(2, 1, bus_master.INTERRUPT)
    assert one.master.read(2, 1) == 0


def test_it_may_be_started_before_the_command() -> None:
    one = Machine()
    one.table((0x8000, EOT | 1024))
    assert one.start(TO_MEMORY) == bus_master.ACTIVE
    one.command(r.READ_DMA_EXT, 200, 2, wide=True)
    assert one.master.read(2, 1) == bus_master.INTERRUPT
    assert one.memory.read(0x8000, 1024) == IMAGE[200 * 512 : 202 * 512]


def test_writing() -> None:
    one = Machine()
    content = bytes(range(256)) * 2 * 200
    one.memory.write(0x100000, content)
    one.table((0x100000, 0), (0x110000, EOT | len(content) - 65536))
    one.command(r.WRITE_DMA, 50, 200)
    assert one.start(0) == bus_master.ACTIVE
    one.clock.advance(bus_master.BURST_NS)
    assert one.master.read(2, 1) == bus_master.INTERRUPT
    assert one.channel.drives[0] is not None
    assert (
        one.channel.drives[0].medium.read(49, 202)
        == IMAGE[49 * 512 : 50 * 512] + content + IMAGE[250 * 512 : 251 * 512]
    )


def test_packets_by_dma() -> None:
    one = Machine()
    one.select(slave=True, low=0xA0)
    one.table((0x100000, 0), (0x110000, EOT))
    one.packet(struct.pack(">BBIBHB", mmc.READ_10, 0, 2, 0, 50, 0), dma=True)
    assert one.start(TO_MEMORY) == bus_master.ACTIVE
    assert one.memory.read(0x110000, 16) == bytes(16)  # one burst so far
    one.clock.advance(bus_master.BURST_NS)
    assert one.master.read(2, 1) == bus_master.INTERRUPT | bus_master.ACTIVE  # the table is longer than the data
    assert one.memory.read(0x100000, 50 * 2048) == CD_IMAGE[2 * 2048 : 52 * 2048]
    assert (one.status, one.channel.read(r.COUNT, 1)) == (r.DRDY | r.DSC, 3)


def test_a_table_that_is_too_short_leaves_the_drive_waiting() -> None:
    one = Machine()
    one.table((0x8000, EOT | 512))
    one.command(r.READ_DMA, 0, 2)
    assert one.start(TO_MEMORY) == 0
    assert one.status & r.DRQ and one.interrupts == 0
    one.channel.write(r.CONTROL, 1, r.SRST)
    one.channel.write(r.CONTROL, 1, 0)
    assert one.status == r.DRDY | r.DSC


def test_the_wrong_direction_moves_nothing() -> None:
    one = Machine()
    one.table((0x8000, EOT | 512))
    one.command(r.READ_DMA, 0, 1)
    assert one.start(0) == bus_master.ACTIVE
    assert one.memory.read(0x8000, 512) == bytes(512)


@pytest.mark.parametrize("at", [0xFFFFFFFC, 0x3FFFFC, 0])
def test_tables_and_buffers_that_are_no_memory(at: int) -> None:
    one = Machine()
    one.master.write(4, 4, at)
    one.command(r.READ_DMA, 0, 256)
    one.start(TO_MEMORY)
    one.clock.advance(10 * bus_master.BURST_NS)
    assert one.master.read(2, 1) & ~(bus_master.INTERRUPT | bus_master.ACTIVE) == 0


def test_a_table_without_an_end_ends_after_64_kib() -> None:
    one = Machine()
    one.table(*[(0x8000, 2)] * 8192, at=0x100000)
    one.memory.write(0x110000, struct.pack("<II", 0x8000, 2) * 8192)
    one.command(r.READ_DMA, 0, 100)
    assert one.start(TO_MEMORY) == 0
    assert one.channel.drives[0] is not None and one.channel.drives[0].s.position == 8192 * 2


def test_a_transfer_that_is_stopped_between_bursts_stays_stopped() -> None:
    one = Machine()
    one.table((0x100000, 0), (0x110000, EOT))
    one.command(r.READ_DMA, 0, 256)
    assert one.start(TO_MEMORY) == bus_master.ACTIVE
    one.master.write(0, 1, 0)
    one.clock.advance(10 * bus_master.BURST_NS)
    assert (one.master.read(2, 1), one.interrupts) == (0, 0)
    assert one.memory.read(0x110000, 512) == bytes(512)


def test_a_state_between_bursts_goes_on() -> None:
    one, other = Machine(), Machine()
    one.table((0x100000, 0), (0x110000, EOT))
    one.command(r.READ_DMA, 0, 256)
    one.start(TO_MEMORY)
    other.channel.restore(one.channel.state())
    other.master.restore(one.master.state())
    other.memory.write(TABLE, one.memory.read(TABLE, 16))
    other.clock.advance(bus_master.BURST_NS)
    assert other.memory.read(0x110000, 65536) == IMAGE[65536 : 2 * 65536]
