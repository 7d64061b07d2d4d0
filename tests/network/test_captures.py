"""What tshark reads in our files is what was sent, to the nanosecond."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hypervisor.errors import ConfigError
from hypervisor.network.capture import Capture
from tests.programs import run


def fields(path: Path, *names: str) -> list[list[str]]:
    """What tshark says of each frame of a file."""
    options = [word for name in names for word in ("-e", name)]
    lines = run("tshark", "-r", path, "-T", "fields", "-E", "separator=,", *options).splitlines()
    return [line.split(",") for line in lines if not line.startswith("Running as user")]


def test_tshark_reads_times_and_bytes(tmp_path: Path) -> None:
    rng, capture = random.Random(1), Capture(tmp_path / "x.pcap")
    times = [0, 1, 999_999_999, 1_000_000_000, 86_400 * 10**9 + 7]
    frames = [b"\x02" * 12 + b"\x88\xb5" + rng.randbytes(size) for size in (46, 1500, 100, 47, 60)]
    for at, frame in zip(times, frames, strict=True):
        capture.write(at, frame)
    capture.close()
    capture.close()
    read = fields(tmp_path / "x.pcap", "frame.time_epoch", "frame.len", "data.data")
    assert [one[0] for one in read] == [f"{at // 10**9}.{at % 10**9:09}" for at in times]
    assert [int(one[1]) for one in read] == [len(frame) for frame in frames]
    assert [bytes.fromhex(one[2]) for one in read] == [frame[14:] for frame in frames]


def test_a_file_grows_to_its_limit_and_no_further(tmp_path: Path) -> None:
    capture = Capture(tmp_path / "x.pcap", limit=10_000)
    for n in range(1000):
        capture.write(n, bytes(100))
    capture.close()
    assert (tmp_path / "x.pcap").stat().st_size == 24 + 86 * 116 <= 10_000 and capture.left_out == 1000 - 86
    capture.write(0, bytes(60))
    assert capture.left_out == 1001 - 86


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        Capture(tmp_path)
