"""What is wrong with the machine that it runs on: files that cannot be read, another build of Unicorn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.engine import layout
from hypervisor.engine.interposition import native
from hypervisor.errors import (
    EngineError,
    ImageError,
)
from tests.bad_input.cases import HALT


def test_a_file_that_fails_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "broken"
    image.write_bytes(HALT)

    def read(fd: int, size: int, offset: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", read)
    with pytest.raises(ImageError, match=r"broken cannot be read: Input/output error\."):
        hv.boot(image)


def test_an_unknown_build_of_unicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "UNICORN_VERSIONS", ("9.9.9",))
    with pytest.raises(EngineError, match=r"is not a build whose CPU-state layout is known \(known: 9\.9\.9\)"):
        native.Native()


def test_a_build_of_unicorn_that_hides_what_we_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SYMBOLS", (*layout.SYMBOLS, "no_such_function"))
    with pytest.raises(EngineError, match=r"does not export no_such_function\. Install the wheel from PyPI"):
        native.Native()
