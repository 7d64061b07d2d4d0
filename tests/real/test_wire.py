"""The kernel whose frames are compared with QEMU's (bench/wire.py): all come back, in order and as they were sent, here
and between two QEMUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import wire
from tests.programs import program


@pytest.mark.parametrize("size", wire.SIZES)
def test_frames_come_back(tmp_path: Path, size: int) -> None:
    image = wire.build(tmp_path)
    wire.ours(image, size, 300)
    program(wire.PROGRAM)
    wire.qemus(image, size, 300)
