"""Framing, with bytes in any pieces and of any kind."""

from __future__ import annotations

import random

import pytest

from hypervisor.debug.gdb.packets import MAX_PACKET, Event, PacketReader, checksum, escape, frame, unescape

SEEDS = range(200)


def read(data: bytes, cuts: random.Random | None = None) -> list[bytes | Event]:
    reader, items, at = PacketReader(), [], 0
    while at < len(data):
        length = cuts.randint(1, 7) if cuts else len(data)
        items += reader.feed(data[at : at + length])
        at += length
    return items


def test_a_packet() -> None:
    assert frame(b"OK") == b"$OK#9a"
    assert read(b"+$OK#9a") == [b"OK"]
    assert read(b"$OK#9A") == [b"OK"]


def test_what_is_between_packets() -> None:
    assert read(b"\x03+-$g#67\x03") == [Event.INTERRUPTED, Event.RESEND, b"g", Event.INTERRUPTED]


@pytest.mark.parametrize("damaged", [b"$OK#9b", b"$OK#zz", b"$OK#--", b"$#01", b"$" + b"x" * (MAX_PACKET + 1) + b"#00"])
def test_damaged_packets(damaged: bytes) -> None:
    assert read(damaged) == [Event.DAMAGED]


def test_a_packet_that_begins_anew() -> None:
    assert read(b"$half$OK#9a") == [b"OK"]


def test_a_packet_that_is_too_long_is_damaged_whatever_its_checksum() -> None:
    packet = b"A" * (MAX_PACKET + 1)
    assert list(PacketReader().feed(b"$" + packet + b"#" + checksum(packet))) == [Event.DAMAGED]


def test_an_escape_that_is_escaped() -> None:
    assert unescape(b"}}a}]") == b"]a}"


def test_a_long_packet_takes_no_memory() -> None:
    reader = PacketReader()
    assert not list(reader.feed(b"$" + bytes(4 * MAX_PACKET)))
    assert reader.held <= MAX_PACKET + 3


@pytest.mark.parametrize("seed", SEEDS)
def test_any_bytes_survive_the_way(seed: int) -> None:
    rng = random.Random(seed)
    data = [rng.randbytes(rng.randint(0, 50)) for _ in range(rng.randint(1, 5))]
    assert read(b"".join(map(frame, data)), rng) == data
    assert all(unescape(escape(piece)) == piece for piece in data)


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_never_raises_and_ends_with_the_next_packet(seed: int) -> None:
    rng = random.Random(seed)
    noise = bytes(rng.choice(b"$#}+-\x03abc\xff0") for _ in range(rng.randint(0, 300)))
    items = read(noise + b"$OK#" + checksum(b"OK"), rng)
    assert items[-1] == b"OK"
