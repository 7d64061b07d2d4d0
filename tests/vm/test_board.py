"""Parts of a board find each other by name and kind."""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.devices.debug_ports import PostPort


def test_a_part_of_another_kind_is_refused_where_it_is_wired() -> None:
    board = hv.pc().with_part(hv.Part("pic", lambda vm, parts: PostPort()))
    with pytest.raises(hv.ConfigError, match="part 'pic' is a PostPort; what it is wired to needs a I8259Pair"):
        hv.boot("hello", board=board)


def test_a_part_that_another_one_needs_comes_before_it() -> None:
    with pytest.raises(hv.ConfigError, match="the board has no part 'pit', which another one needs; parts come in"):
        hv.boot("hello", board=hv.pc().without("pit"))
    board = hv.pc().without("vga-pci").with_part(hv.Part("mine", lambda vm, parts: parts["vga"].mmio))
    with hv.boot("hello", board=board) as vm:
        vm.run(timeout=60).check()
