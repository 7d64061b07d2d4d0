"""The interface for toy kernels: frames in and out, its queue, its filter, and its line."""

from __future__ import annotations

import random

import pytest

from hypervisor.bus import Line
from hypervisor.devices import ethernet_port as e
from hypervisor.devices.ethernet_port import EthernetPort

MAC = bytes.fromhex("020000000001")
OTHER = bytes.fromhex("020000000002")


class Memory:
    """64 KiB of guest memory."""

    def __init__(self) -> None:
        self.content = bytearray(1 << 16)

    def read(self, gpa: int, size: int) -> bytes:
        return bytes(self.content[gpa : gpa + size]).ljust(size, b"\xff")

    def write(self, gpa: int, data: bytes) -> None:
        if gpa + len(data) <= len(self.content):
            self.content[gpa : gpa + len(data)] = data


class Wired:
    """An interface with memory, and what it does to the world."""

    def __init__(self) -> None:
        self.memory, self.sent = Memory(), list[bytes]()
        self.edges: list[bool] = []
        self.device = EthernetPort(Line("", self.edges.append), self.memory, self.sent.append, MAC)

    def set(self, register: int, value: int) -> None:
        self.device.write(register, 4, value)

    def get(self, register: int) -> int:
        return self.device.read(register, 4)

    def listen(self, control: int = e.RECEIVE | e.INTERRUPT) -> None:
        self.set(e.RX_ADDRESS, 0x2000)
        self.set(e.CONTROL, control)

    def received(self) -> bytes | None:
        """What a driver does: look at the frame, and give its place back."""
        if not self.get(e.STATUS) & e.RECEIVED:
            return None
        frame = self.memory.read(self.get(e.RX_ADDRESS), self.get(e.RX_LENGTH))
        self.set(e.STATUS, e.RECEIVED)
        return frame


@pytest.fixture
def wired() -> Wired:
    return Wired()


def test_it_says_what_it_is_and_who(wired: Wired) -> None:
    assert wired.get(e.ID).to_bytes(4, "little") == b"ENET"
    assert wired.get(e.MAC_LOW).to_bytes(4, "little") + wired.get(e.MAC_HIGH).to_bytes(2, "little") == MAC
    assert wired.device.read(e.MAC_LOW, 8) == wired.get(e.MAC_LOW) | wired.get(e.MAC_HIGH) << 32
    assert [wired.device.read(n, 1) for n in range(4)] == list(b"ENET")


def test_what_is_sent_is_what_is_in_memory(wired: Wired) -> None:
    frame = random.Random(1).randbytes(1514)
    wired.memory.write(0x1000, frame)
    wired.set(e.TX_ADDRESS, 0x1000)
    for size in (1514, 60, 59, 14):
        wired.set(e.TX_LENGTH, size)
        assert wired.sent.pop() == frame[:size].ljust(60, b"\0")  # what is too short for the wire is padded
        assert not wired.get(e.STATUS)
    for size in (13, 0, 1515, 0xFFFFFFFF):
        wired.set(e.TX_LENGTH, size)
        assert wired.get(e.STATUS) == e.REFUSED and not wired.sent
        wired.set(e.STATUS, e.REFUSED)
    assert not wired.edges


def test_frames_come_in_order_one_at_a_time_and_each_makes_an_edge(wired: Wired) -> None:
    wired.listen()
    frames = [MAC + bytes([n]) * 60 for n in range(20)]
    for frame in frames:
        wired.device.receive(frame)
    assert wired.edges == [True]
    assert [wired.received() for _ in frames] == frames
    assert wired.received() is None and not wired.get(e.STATUS)
    assert wired.edges == [True, False] * len(frames)


def test_a_guest_that_does_not_look_misses_frames_and_is_told(wired: Wired) -> None:
    wired.listen()
    frames = [MAC + n.to_bytes(2, "big") + bytes(60) for n in range(e.QUEUE + 10)]
    for frame in frames:
        wired.device.receive(frame)
    assert wired.get(e.STATUS) == e.RECEIVED | e.MISSED
    got = []
    while (frame := wired.received()) is not None:
        got.append(frame)
    assert got == frames[: e.QUEUE + 1] and wired.get(e.STATUS) == e.MISSED


@pytest.mark.parametrize(
    ("to", "control", "taken"),
    [
        (MAC, e.RECEIVE, True),
        (b"\xff" * 6, e.RECEIVE, True),
        (bytes.fromhex("01005e000001"), e.RECEIVE, True),
        (OTHER, e.RECEIVE, False),
        (OTHER, e.RECEIVE | e.PROMISCUOUS, True),
        (MAC, e.PROMISCUOUS | e.INTERRUPT, False),
    ],
)
def test_which_frames_are_taken(wired: Wired, to: bytes, control: int, taken: bool) -> None:
    wired.listen(control)
    wired.device.receive(to + bytes(60))
    assert bool(wired.get(e.STATUS) & e.RECEIVED) is taken
    assert not wired.edges  # nobody asked for interrupts
    wired.set(e.CONTROL, control | e.RECEIVE | e.INTERRUPT)
    assert wired.edges == [True] * taken


def test_a_reset_forgets_what_waits_and_lowers_the_line(wired: Wired) -> None:
    wired.listen()
    wired.device.receive(MAC + bytes(60))
    wired.device.receive(MAC + bytes(60))
    wired.device.reset()
    assert wired.edges == [True, False] and wired.get(e.STATUS) == 0
    wired.listen()
    assert wired.received() is None


def test_narrow_and_crooked_writes_do_nothing(wired: Wired) -> None:
    before = wired.device.state()
    for size in (1, 2, 4, 8):
        for offset in range(1, e.SIZE, 4):
            wired.device.write(offset, size, (1 << 8 * size) - 1)
    for offset in range(0, e.SIZE, 2):
        wired.device.write(offset, 2, 0xFFFF)
    assert wired.device.state() == before and not wired.sent
