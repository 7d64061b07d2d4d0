"""The short form of ``python -m tests.memory.overcommitted``."""

from __future__ import annotations

from tests.memory.overcommitted import GUESTS, work


def test_guests_that_check_each_byte_of_more_than_the_host_has() -> None:
    done = work(2.0, 1)
    assert done["rounds"] >= GUESTS and done["merged"] > 500 and done["pages given"] > 0, done


def test_the_same_on_a_host_that_swaps() -> None:
    done = work(3.0, 1, "16M")
    assert done["rounds"] >= GUESTS and done["swapped"] > 500 and done["pages given"] > 0, done
