from __future__ import annotations

import pytest

from hypervisor import guests
from hypervisor.cli import main


def test_guests_are_listed_with_a_sentence_each(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["guests"]) == 0
    lines = [line.split("\t") for line in capfd.readouterr().out.splitlines()]
    assert [name for name, _ in lines] == list(guests.names())
    assert all(description for _, description in lines)
